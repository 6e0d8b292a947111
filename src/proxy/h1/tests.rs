//! Responses whole and in pieces, good and bad; and exchanges over a socket.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use http_body::Body;
use proptest::prelude::*;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::decode::Decoder;
use super::head::{Malformed, Received};
use super::outgoing::{Framing, Outgoing};
use super::*;
use crate::proxy::conn::Interim;
use crate::proxy::spare::Spares;
use crate::proxy::stream::{Socket, Stream};
use crate::proxy::upload::RequestBody;

fn head(bytes: &[u8]) -> Result<Option<Received>, Malformed> {
    let mut read = BytesMut::from(bytes);
    head::response(
        &mut read,
        &mut 0,
        &mut Vec::new(),
        &mut HeaderMap::new(),
        None,
    )
}

/// Reads one response of which `pieces` come one after the other: its body, and its trailers.
fn body(method: &Method, pieces: &[&[u8]]) -> Result<(Vec<u8>, HeaderMap), Malformed> {
    let (mut read, mut searched) = (BytesMut::new(), 0);
    let mut decoder = None;
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    for piece in pieces {
        read.extend_from_slice(piece);
        if decoder.is_none() {
            let Some(mut received) = head::response(
                &mut read,
                &mut searched,
                &mut Vec::new(),
                &mut HeaderMap::new(),
                None,
            )?
            else {
                continue;
            };
            decoder = Some(Decoder::of_response(&mut received, method)?);
        }
        let Some(decoder) = decoder.as_mut() else {
            continue;
        };
        while let Some(frame) = decoder.decode(&mut read)? {
            match frame.into_data() {
                Ok(bytes) => data.extend_from_slice(&bytes),
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
    }
    let ended = decoder.is_some_and(|it| it.is_done() || it.ends_with_the_connection());
    if ended && read.is_empty() {
        Ok((data, trailers))
    } else {
        Err(Malformed)
    }
}

fn whole(response: &str) -> Result<Vec<u8>, Malformed> {
    body(&Method::GET, &[response.as_bytes()]).map(|(data, _)| data)
}

#[test]
fn bodies_end_where_their_heads_say() {
    for (response, content) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi"),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", "hi"),
        ("\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "hi"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\ncontent-length:2\r\n\r\nhi",
            "hi",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n...",
            "...",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n2 \r\nhi\r\n0\r\n\r\n",
            "hi",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n1;x=y\r\nh\r\n001\r\ni\r\n0\r\n\r\n",
            "hi",
        ),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", ""),
    ] {
        let read = whole(response).unwrap_or_else(|_| panic!("{response:?} is malformed"));
        assert_eq!(read, content.as_bytes(), "{response:?}");
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let (read, _) = body(&Method::HEAD, &[answer]).expect("well-formed");
    assert!(read.is_empty());
}

#[test]
fn what_is_no_response_is_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(500_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    for response in [
        "hello",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
        &long,
        &many,
    ] {
        assert!(whole(response).is_err(), "{:?}", response.get(..60));
    }
    assert!(head(b"HTTP/1").is_ok_and(|head| head.is_none()));
}

#[test]
fn a_connection_is_kept_as_its_version_and_the_head_say() {
    for (response, keeps) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", true),
    ] {
        let received = head(response.as_bytes())
            .expect("well-formed")
            .expect("whole");
        assert_eq!(received.said.keeps(), keeps, "{response:?}");
    }
}

proptest! {
    #[test]
    fn a_response_is_the_same_however_it_is_cut(
        content in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..5),
        chunked: bool,
        trailer: bool,
        cuts in proptest::collection::vec(1..30_usize, 1..60),
    ) {
        let data = content.concat();
        let mut response = b"HTTP/1.1 200 OK\r\nX: 1\r\n".to_vec();
        if chunked {
            response.extend(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in &content {
                response.extend(format!("{:X}\r\n", chunk.len()).into_bytes());
                response.extend(chunk);
                response.extend(b"\r\n");
            }
            response.extend(b"0\r\n");
            if trailer {
                response.extend(b"T: v\r\n");
            }
            response.extend(b"\r\n");
        } else {
            response.extend(format!("content-length: {}\r\n\r\n", data.len()).into_bytes());
            response.extend(&data);
        }
        let mut pieces = Vec::new();
        let mut rest = response.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        let Ok((read, trailers)) = body(&Method::GET, &pieces) else {
            return Err(TestCaseError::fail("malformed"));
        };
        prop_assert_eq!(read, data);
        prop_assert_eq!(trailers.len(), usize::from(chunked && trailer));
    }
}

fn request(method: Method, target: &'static str) -> Head {
    Head {
        forwarding: None,
        method,
        uri: Uri::from_static(target),
        headers: HeaderMap::new(),
    }
}

/// A connection, and the endpoint's side of it.
fn connected(spares: &Rc<Spares>) -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let stream = Stream::Plain(Socket::Unix(ours));
    (Connection::new(stream, spares), theirs)
}

/// Does `act` where everything is sent at once, and where what is short is kept back for a moment.
async fn both_ways(act: impl AsyncFn(&Rc<Spares>)) {
    act(&Rc::default()).await;
    let spares = Rc::<Spares>::default();
    tokio::select! {
        biased;
        never = spares.outbox().run() => match never {},
        () = act(&spares) => {}
    }
}

async fn answered(connection: &mut Connection) -> Result<http::response::Parts, Fault> {
    let interim = Interim::default();
    poll_fn(|cx| connection.poll_head(cx, &interim, &mut HeaderMap::new(), false)).await
}

async fn read_all(connection: &mut Connection) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(frame) = poll_fn(|cx| connection.poll_frame(cx)).await {
        let frame = frame.expect("a whole body");
        data.extend(frame.into_data().expect("no trailers"));
    }
    data
}

/// What the endpoint has been sent, as long as it is.
async fn sent(endpoint: &mut UnixStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    endpoint.read_exact(&mut bytes).await.expect("sent");
    String::from_utf8(bytes).expect("text")
}

#[tokio::test]
async fn one_exchange_follows_the_other() {
    both_ways(async |spares| {
        let (mut connection, mut endpoint) = connected(spares);
        for number in 0..3 {
            assert!(connection.is_alive(), "before exchange {number}");
            connection.begin(&request(Method::GET, "/a?b"), RequestBody::empty());
            let answer =
                b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
            endpoint.write_all(answer).await.expect("written");
            let head = answered(&mut connection).await.expect("answered");
            assert_eq!(head.status, StatusCode::OK);
            assert_eq!(connection.size_hint().exact(), Some(2));
            assert_eq!(read_all(&mut connection).await, b"hi");
            let asked = "GET /a?b HTTP/1.1\r\n\r\n";
            assert_eq!(sent(&mut endpoint, asked.len()).await, asked);
            assert!(connection.rest(), "after exchange {number}");
        }
        endpoint.write_all(b"unasked").await.expect("written");
        while connection.is_alive() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_is_framed_by_its_length() {
    both_ways(async |spares| {
        let (mut connection, mut endpoint) = connected(spares);
        for size in [3, SMALL_FRAME, LARGE_FRAME] {
            let body = RequestBody::again(vec![Bytes::from(vec![b'x'; size]); 2]);
            connection.begin(&request(Method::POST, "/"), body);
            let expected = format!(
                "POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{}",
                2 * size,
                "x".repeat(2 * size)
            );
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            let (head, got) = tokio::join!(answered(&mut connection), async {
                let got = sent(&mut endpoint, expected.len()).await;
                endpoint.write_all(answer).await.expect("written");
                got
            });
            head.expect("answered");
            assert!(got == expected, "{size}");
            assert!(connection.rest(), "{size}");
        }
    })
    .await;
}

const SMALL_FRAME: usize = 8_192;
const LARGE_FRAME: usize = 300_000;

#[tokio::test]
async fn no_more_and_no_less_is_sent_than_was_announced() {
    both_ways(async |spares| {
        for announced in ["2", "4"] {
            let (mut connection, endpoint) = connected(spares);
            let mut head = request(Method::POST, "/");
            let length = http::HeaderValue::from_static(announced);
            head.headers.insert(http::header::CONTENT_LENGTH, length);
            let body = RequestBody::again(vec![Bytes::from_static(b"abc")]);
            connection.begin(&head, body);
            let fault = answered(&mut connection).await.expect_err("broken off");
            assert!(matches!(fault, Fault::Broken), "{announced}: {fault:?}");
            assert!(!connection.rest());
            drop(endpoint);
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_not_written_comes_back_and_goes_over_another_connection() {
    both_ways(async |spares| {
        let (mut connection, endpoint) = connected(spares);
        drop(endpoint);
        let body = RequestBody::again(vec![Bytes::from_static(b"abc")]);
        connection.begin(&request(Method::POST, "/"), body);
        let Err(Fault::Closed(Some(unsent))) = answered(&mut connection).await else {
            panic!("the request is gone");
        };
        let (mut connection, mut endpoint) = connected(spares);
        connection.begin_again(unsent);
        let answer = b"HTTP/1.1 200 OK\r\n\r\nto the end";
        endpoint.write_all(answer).await.expect("written");
        answered(&mut connection).await.expect("answered");
        let asked = "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(sent(&mut endpoint, asked.len()).await, asked);
        drop(endpoint);
        assert_eq!(read_all(&mut connection).await, b"to the end");
        assert!(!connection.rest(), "its end was the body's");
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_none() {
    both_ways(async |spares| {
        for (answer, unsent) in [("", false), ("HTTP/1.1 200 OK\r\nX", true)] {
            let (mut connection, mut endpoint) = connected(spares);
            connection.begin(&request(Method::GET, "/"), RequestBody::empty());
            let asked = "GET / HTTP/1.1\r\n\r\n";
            let (fault, ()) = tokio::join!(answered(&mut connection), async {
                sent(&mut endpoint, asked.len()).await;
                endpoint
                    .write_all(answer.as_bytes())
                    .await
                    .expect("written");
                drop(endpoint);
            });
            let broken = matches!(fault, Err(Fault::Broken));
            assert_eq!(broken, unsent, "{answer:?}: {fault:?}");
            assert!(broken || matches!(fault, Err(Fault::Closed(None))));
        }
    })
    .await;
}

/// Sends `frames` to somebody who reads only when nothing more is taken: what arrives, and the most that was taken and
/// not sent.
async fn send_to_a_slow_one(framing: Framing, frames: &[Bytes]) -> (Vec<u8>, usize) {
    let (mut ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut body = Some(RequestBody::again(frames.to_vec()));
    let mut outgoing = Outgoing::default();
    outgoing.text("head\r\n");
    outgoing.framing = framing;
    let (mut received, mut most) = (Vec::new(), 0);
    loop {
        let before: usize = frames.iter().map(Bytes::len).sum();
        let written = poll_fn(|cx| {
            loop {
                let waits = outgoing.gather(cx, &mut body).expect("a whole body");
                assert!(!waits, "all of it is there");
                if outgoing.is_empty() {
                    return Poll::Ready(true);
                }
                match outgoing.poll_write(cx, &mut ours) {
                    Poll::Ready(written) => written.expect("written"),
                    Poll::Pending if body.is_some() && outgoing.block() => {}
                    Poll::Pending => return Poll::Ready(false),
                }
            }
        })
        .await;
        let left = body.as_ref().map_or(0, |body| body.size_hint().lower());
        most = most.max(before - usize::try_from(left).expect("small") - received.len());
        if written {
            break;
        }
        let mut piece = [0; 5_000];
        match theirs.try_read(&mut piece) {
            Ok(length) => received.extend_from_slice(&piece[..length]),
            // The runtime had it wait, not the socket.
            Err(_nothing_yet) => tokio::task::yield_now().await,
        }
    }
    drop(ours);
    theirs.read_to_end(&mut received).await.expect("read");
    (received, most)
}

#[tokio::test]
async fn behind_a_slow_receiver_a_body_is_taken_ahead_within_a_bound() {
    let sizes = [100, 9_000, 20_000, 8_192, 1, 70_000, 8_193, 300];
    let frames: Vec<Bytes> = (0..20_u8)
        .flat_map(|round| sizes.map(|size| Bytes::from(vec![round; size])))
        .collect();
    let content = frames.concat();
    let sized = Framing::Sized(content.len() as u64);
    let (received, most) = send_to_a_slow_one(sized, &frames).await;
    assert!(received == [b"head\r\n", content.as_slice()].concat());
    // What lies in the socket counts as well.
    assert!((256 << 10..1 << 20).contains(&most), "{most} bytes");

    let (received, _) = send_to_a_slow_one(Framing::Chunked, &frames).await;
    let mut expected = b"head\r\n".to_vec();
    for frame in &frames {
        expected.extend(format!("{:x}\r\n", frame.len()).into_bytes());
        expected.extend(frame);
        expected.extend(b"\r\n");
    }
    expected.extend(b"0\r\n\r\n");
    assert!(received == expected);
}

/// Reads `bytes` as a response's head whose fields may stay as they are.
fn plainly(bytes: &str) -> (Received, Plain) {
    let mut plain = Plain::default();
    let mut read = BytesMut::from(bytes);
    let headers = &mut HeaderMap::new();
    let read = head::response(
        &mut read,
        &mut 0,
        &mut Vec::new(),
        headers,
        Some(&mut plain),
    );
    (read.expect("a good head").expect("a whole head"), plain)
}

#[test]
fn a_plain_head_says_what_its_map_would() {
    let response = "HTTP/1.1 200 OK\r\nDate: today\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n\
                    Content-Length: 3\r\nx-request-id: theirs\r\nLast-Modified: then\r\nETag: \"a\"\r\n\
                    X-Empty:\r\nX-Twice: 1\r\nx-twice:  2 \r\n\r\n";
    let (plainly, plain) = plainly(response);
    let mapped = head(response.as_bytes()).expect("good").expect("whole");
    assert!(plainly.is_plain && !mapped.is_plain);
    assert_eq!(format!("{:?}", plainly.said), format!("{:?}", mapped.said));
    assert_eq!(
        String::from_utf8_lossy(&plain.text),
        "Date: today\r\nLast-Modified: then\r\nETag: \"a\"\r\nX-Empty: \r\nX-Twice: 1\r\nx-twice: 2\r\n"
    );
    assert_eq!((plain.dated, plain.announced), (true, Some(3)));
    assert_eq!(plain.validator(), Some(&b"\"a\""[..]));
}

#[test]
fn what_somebody_attends_to_is_not_plain() {
    let respond = |status: &str, field: &str| {
        let response = format!("HTTP/1.1 {status}\r\nx-a: 1\r\n{field}\r\n\r\n");
        let (received, _) = plainly(&response);
        let has_all = received.head.headers.len() >= 2;
        assert_eq!(has_all, !received.is_plain, "{status} {field}");
        received.is_plain
    };
    assert!(respond("200 OK", "x-b: 1"));
    assert!(respond("200 OK", "content-type: text/html"));
    for (status, field) in [
        ("103 Early Hints", "link: </a>"),
        ("101 Switching Protocols", "x-b: 1"),
        ("429 Too Many Requests", "retry-after: 1"),
        ("503 Service Unavailable", "retry-after: 1"),
        ("200 OK", "Connection: close, x-a"),
        ("200 OK", "Upgrade: x"),
        ("200 OK", "Trailer: x-b"),
        ("200 OK", "TE: trailers"),
        ("200 OK", "Content-Type: text/event-stream;charset=utf-8"),
        ("200 OK", "Server-Timing: a;dur=1"),
        ("200 OK", "X-Tidegate-Metric: rows;v=1"),
        ("200 OK", "RateLimit: a"),
        ("200 OK", "ratelimit-policy: a"),
        ("200 OK", "Proxy-Authenticate: Basic"),
        ("200 OK", "Content-Length: 3\r\nTransfer-Encoding: chunked"),
        ("200 OK", "Content-Length: 3\r\nContent-Length: 3"),
    ] {
        assert!(!respond(status, field), "{status} {field}");
    }
}

#[tokio::test]
async fn what_is_kept_back_is_sent_together_and_not_for_who_has_left() {
    let spares = Rc::<Spares>::default();
    let mut pairs: Vec<_> = (0..3).map(|_| connected(&spares)).collect();
    let head = request(Method::GET, "/");
    let asked = "GET / HTTP/1.1\r\n\r\n";
    tokio::select! {
        biased;
        never = spares.outbox().run() => match never {},
        () = async {
            for (connection, endpoint) in &mut pairs {
                connection.begin(&head, RequestBody::empty());
                let mut answer = std::pin::pin!(answered(connection));
                assert!(poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await);
                let peeked = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                let peeked = rustix::net::recv(&*endpoint, &mut [0], peeked);
                assert_eq!(peeked.map(|(got, _)| got), Err(Errno::AGAIN), "not yet");
            }
            let (connection, mut left) = pairs.remove(1);
            drop(connection);
            for (_, endpoint) in &mut pairs {
                assert_eq!(sent(endpoint, asked.len()).await, asked);
            }
            let mut rest = Vec::new();
            left.read_to_end(&mut rest).await.expect("closed");
            assert!(rest.is_empty(), "nobody waits for it");
        } => {}
    }
}
