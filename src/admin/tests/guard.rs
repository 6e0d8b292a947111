//! Who is let in, and how it is served.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn a_token_guards_everything_but_the_probes() {
    let mut state = state();
    state.token = Some(Secret::new("s3cret".into()));
    for path in ["/metrics", "/api/v1/status", "/api/v1/stream", "/nothing"] {
        let answer = get_path(&state, path).await;
        assert!(answer.is_problem(401), "{path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        assert!(
            get_with(&state, path, &[("authorization", "Bearer wrong!")])
                .await
                .is_problem(401)
        );
    }
    for path in ["/livez", "/readyz", "/", "/app.js"] {
        assert_eq!(get_path(&state, path).await.status, 200);
    }
    let shown = [
        ("authorization", "Bearer s3cret"),
        ("host", "anything.example"),
    ];
    assert_eq!(get_with(&state, "/metrics", &shown).await.status, 200);
}

#[tokio::test]
async fn pages_of_other_sites_and_rebound_names_are_refused() {
    let state = state();
    let path = "/api/v1/status";
    for host in [
        "localhost:9900",
        "127.0.0.1:9900",
        "[::1]:9900",
        "gate.internal",
    ] {
        let origin = format!("http://{host}");
        let headers = [("host", host), ("origin", &origin)];
        assert_eq!(get_with(&state, path, &headers).await.status, 200, "{host}");
    }
    assert!(
        get_with(&state, path, &[("host", "evil.example:9900")])
            .await
            .is_problem(403)
    );
    let foreign = [
        ("host", "localhost:9900"),
        ("origin", "https://evil.example"),
    ];
    assert!(get_with(&state, path, &foreign).await.is_problem(403));
    let hosts = [("host", "localhost"), ("host", "evil.example")];
    assert!(get_with(&state, path, &hosts).await.is_problem(400));
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let state = state();
    for path in ["/", "/livez", "/nothing", "/api/v1/status"] {
        let answer = get_path(&state, path).await;
        assert!(
            answer
                .header("content-security-policy")
                .contains("default-src 'none'")
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
    }
}

#[tokio::test]
async fn a_panic_in_a_handler_is_an_answer() {
    let mut state = state();
    state.snapshot = Arc::new(|| panic!("on purpose"));
    assert!(get_path(&state, "/api/v1/upstreams").await.is_problem(500));
}

async fn exchange(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    let request = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn it_serves_tcp_and_stops_with_an_idle_connection_open() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(Listener::Tcp(listener), router(state()), async {
        drop(stopped.await);
    }));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    assert!(exchange(&mut stream).await.starts_with("HTTP/1.1 200"));
    drop(stop);
    served.await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn it_serves_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(Listener::Unix(listener), router(state()), async {
        drop(stopped.await);
    }));
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    assert!(exchange(stream).await.starts_with("HTTP/1.1 200"));
    drop(stop);
    served.await.unwrap();
}
