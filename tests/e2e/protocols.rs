//! HTTP/2 and TLS, in front of the proxy and behind it.

use crate::support::certificates::Authority;
use crate::support::client::Client;
use crate::support::h2::Http2;
use crate::support::http_origin::{Flavour, Origin};
use crate::support::proxy::Proxy;
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::Reply;
use crate::support::wait::{PATIENCE, eventually};

#[test]
fn http2_with_prior_knowledge_shares_the_listener_with_http1() {
    let origin = Origin::http1(|seen| Reply::ok(seen.path.clone()));
    let proxy = Proxy::in_front_of(origin.address());

    let http2 = Http2::connect(proxy.address());
    let paths: Vec<String> = (0..40).map(|number| format!("/{number}")).collect();
    let responses = http2.get_all(&paths);

    for (path, response) in paths.iter().zip(&responses) {
        assert_eq!((response.status, response.text()), (200, path.clone()));
    }
    assert_eq!(proxy.get("/one").text(), "/one");
    let seen = origin.last();
    assert_eq!(seen.version, http::Version::HTTP_11);
}

#[test]
fn http2_names_its_authority_as_host_to_an_http1_origin() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());

    let response = Http2::connect(proxy.address()).request("POST", "/", &[], b"hello");

    assert_eq!(response.status, 200);
    let seen = origin.last();
    assert_eq!(seen.body, b"hello");
    assert!(seen.header("host").is_some(), "{:?}", seen.headers);
    assert_eq!(
        seen.header("x-forwarded-host"),
        Some(proxy.address().to_string().as_str())
    );
}

/// A client of HTTP/2 may send each cookie in a field of its own; HTTP/1 knows of one such field.
#[test]
fn cookies_of_http2_are_one_field_to_an_http1_origin() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    let cookies = [("cookie", "a=1"), ("cookie", "b=2")];
    Http2::connect(proxy.address()).request("GET", "/", &cookies, b"");
    let seen = origin.last();
    assert_eq!(seen.headers.all("cookie").collect::<Vec<_>>(), ["a=1; b=2"]);
}

#[test]
fn an_http2_origin_and_its_trailers_reach_both_kinds_of_client() {
    let origin = Origin::http2(|_| Reply::ok("body").trailer("x-sum", "42"));
    let proxy = Proxy::start(&format!(
        "[upstreams.origin]
         endpoints = [\"{}\"]
         protocol = \"http2\"
         [[routes]]
         name = \"all\"
         match = {{ path_prefix = \"/\" }}
         upstream = \"origin\"\n",
        origin.address()
    ));

    let over_http2 = Http2::connect(proxy.address()).get("/");
    assert_eq!(over_http2.text(), "body");
    assert_eq!(over_http2.trailers.get("x-sum"), Some("42"));

    let over_http1 = proxy
        .client()
        .request("GET", "/", &[("te", "trailers")], b"");
    assert_eq!(over_http1.text(), "body");
    assert_eq!(origin.last().version, http::Version::HTTP_2);
}

#[test]
fn tls_in_front_chooses_the_protocol_by_alpn() {
    let authority = Authority::new();
    let identity = authority.issue("front", &["localhost", "127.0.0.1"]);
    let origin = Origin::saying("ok");
    let proxy = Proxy::start(&format!(
        "[[listen]]
         name = \"public\"
         address = \"<public>\"
         protocols = [\"http1\", \"http2\"]
         tls = {{ certificate = \"{}\", key = \"{}\" }}
         [upstreams.origin]
         endpoints = [\"{}\"]
         [[routes]]
         name = \"all\"
         match = {{ path_prefix = \"/\" }}
         upstream = \"origin\"\n",
        identity.certificate.display(),
        identity.key.display(),
        origin.address()
    ));

    let config = authority.client_config(None, &["h2"]);
    let over_http2 = Http2::connect_tls(proxy.address(), "localhost", config).get("/");
    assert_eq!(over_http2.text(), "ok");

    let config = authority.client_config(None, &["http/1.1"]);
    let over_http1 = Client::connect_tls(proxy.address(), "localhost", config).get("/");
    assert_eq!(over_http1.text(), "ok");
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
}

#[test]
fn a_listener_with_a_client_authority_turns_strangers_away() {
    let authority = Authority::new();
    let identity = authority.issue("front", &["localhost"]);
    let origin = Origin::saying("ok");
    let proxy = Proxy::start(&format!(
        "[[listen]]
         name = \"public\"
         address = \"<public>\"
         tls = {{ certificate = \"{}\", key = \"{}\", client_ca = \"{}\" }}
         [upstreams.origin]
         endpoints = [\"{}\"]
         [[routes]]
         name = \"all\"
         match = {{ path_prefix = \"/\" }}
         upstream = \"origin\"\n",
        identity.certificate.display(),
        identity.key.display(),
        authority.certificate().display(),
        origin.address()
    ));

    let known = authority.issue("reports", &["reports.example.com"]);
    let config = authority.client_config(Some(&known), &["http/1.1"]);
    let response = Client::connect_tls(proxy.address(), "localhost", config).get("/");
    assert_eq!(response.text(), "ok");

    let elsewhere = Authority::new();
    let stranger = elsewhere.issue("stranger", &["stranger.example.com"]);
    for identity in [None, Some(&stranger)] {
        let config = authority.client_config(identity, &["http/1.1"]);
        let mut client = Client::connect_tls(proxy.address(), "localhost", config);
        client.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let answer = client.rest();
        assert!(answer.is_none_or(|bytes| bytes.is_empty()));
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_origin_over_tls_is_verified_and_shown_the_client_certificate() {
    let authority = Authority::new();
    let server = authority.issue("orders", &["orders.internal"]);
    let client = authority.issue("tidegate", &["tidegate.internal"]);
    let config = authority.server_config(&server, &["http/1.1"], true);
    let origin = Origin::start(Flavour::Tls(config), |_| async { Reply::ok("private") });
    let with_name = |name: &str| {
        Proxy::start(&format!(
            "[upstreams.orders]
             endpoints = [\"{}\"]
             [upstreams.orders.tls]
             server_name = \"{name}\"
             ca = \"{}\"
             client_certificate = \"{}\"
             client_key = \"{}\"
             [[routes]]
             name = \"all\"
             match = {{ path_prefix = \"/\" }}
             upstream = \"orders\"\n",
            origin.address(),
            authority.certificate().display(),
            client.certificate.display(),
            client.key.display(),
        ))
    };

    assert_eq!(with_name("orders.internal").get("/").text(), "private");

    let refused = with_name("other.internal").get("/");
    assert_eq!(refused.status, 502);
    assert_eq!(refused.problem()["reason"], "connect_failed");
    assert_eq!(origin.count(), 1);
}

#[test]
fn trailers_of_an_http1_origin_end_an_exchange_and_keep_both_connections() {
    let origin = RawOrigin::start(|mut conversation| {
        while conversation.read_request().is_some() {
            conversation.write(
                b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                  4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n",
            );
        }
    });
    let proxy = Proxy::in_front_of(origin.address());
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.request("GET", "/", &[("te", "trailers")], b"");
        assert_eq!(answer.text(), "body");
        assert_eq!(answer.trailers.get("x-sum"), Some("42"));
    }
    assert_eq!(origin.connections(), 1);
    let answered = |line: &serde_json::Value| line["outcome"] == "answered";
    proxy.access_log_entry("a whole exchange", answered);
}

/// An origin that deals with each HTTP/2 connection by a script.
struct Http2Origin {
    address: std::net::SocketAddr,
    connections: std::sync::mpsc::Receiver<()>,
    _runtime: tokio::runtime::Runtime,
}

impl Http2Origin {
    fn start<F>(script: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), h2::Error>> + Send + 'static,
    {
        let (connected, connections) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                connected.send(()).ok();
                tokio::spawn(script(socket));
            }
        });
        Self {
            address,
            connections,
            _runtime: runtime,
        }
    }
}

/// Answers on an HTTP/2 connection: `/long` begins to be and never ends, and with it begins the end of the connection,
/// which takes no further stream; anything else is answered with what it was asked.
async fn long_goodbye(socket: tokio::net::TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(socket).await?;
    let mut open = Vec::new();
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        let path = request.uri().path().to_owned();
        let mut body = respond.send_response(http::Response::new(()), false)?;
        let is_long = path == "/long";
        body.send_data(path.into_bytes().into(), !is_long)?;
        if is_long {
            open.push(body);
            connection.graceful_shutdown();
        }
    }
    Ok(())
}

#[test]
fn a_connection_that_takes_no_more_streams_is_left_to_those_it_has() {
    let origin = Http2Origin::start(long_goodbye);
    let proxy = Proxy::start(&format!(
        "[server]\nworkers = 1\n[upstreams.app]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n\
         retry = {{ mode = \"off\" }}\n",
        origin.address
    ));
    let mut long = proxy.client();
    long.send(b"GET /long HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut client = proxy.client();
    let mut used = 0;
    eventually("another connection is made", PATIENCE, || {
        let answer = client.request("POST", "/short", &[], b"once");
        assert_eq!((answer.status, answer.text()), (200, "/short".to_owned()));
        used += origin.connections.try_iter().count();
        used == 2
    });
    let answer = client.request("POST", "/short", &[], b"once");
    assert_eq!(answer.status, 200);
    assert_eq!(used + origin.connections.try_iter().count(), 2);
}

/// Refuses the first stream of an HTTP/2 connection, and answers the others with what they sent.
async fn refuse_one(socket: tokio::net::TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(socket).await?;
    let mut refused = false;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        if !std::mem::replace(&mut refused, true) {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        tokio::spawn(async move {
            let mut body = request.into_body();
            let mut whole = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len())?;
                whole.extend_from_slice(&data);
            }
            let mut answer = respond.send_response(http::Response::new(()), false)?;
            answer.send_data(whole.into(), true)
        });
    }
    Ok(())
}

#[test]
fn what_an_endpoint_refused_unprocessed_is_sent_again_whatever_it_is() {
    let origin = Http2Origin::start(refuse_one);
    let proxy = Proxy::start(&format!(
        "[server]\nworkers = 1\n[upstreams.app]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n",
        origin.address
    ));
    let answer = proxy.client().request("POST", "/", &[], b"once");
    assert_eq!((answer.status, answer.text()), (200, "once".to_owned()));
    let again = [("reason", "not_sent"), ("mode", "enforce")];
    let retries = proxy.metrics().sum("tidegate_retries_total", &again);
    assert!((retries - 1.0).abs() < 1e-9, "{retries}");
}
