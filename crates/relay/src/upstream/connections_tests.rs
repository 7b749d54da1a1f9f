use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use http::Version;
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn plain(address: std::net::SocketAddr) -> Connections {
    let tls = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions();
    let uri = format!("http://{address}/mcp?a=b").parse().expect("a URI");
    Connections::new(connector.wrap_connector(http_only()), uri)
}

fn http_only() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector
}

/// Starts a server that passes each connection, with its number, to `serve`. Returns the
/// connections to it.
async fn serving<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(usize, TcpStream) -> F + Send + 'static,
) -> Connections {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        for number in 1.. {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(serve(number, stream));
        }
    });
    plain(address)
}

/// Reads the head of a request without a body. Returns false if the connection ended first.
async fn asked(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(head.starts_with("get /mcp?a=b http/1.1\r\n") && head.contains("\r\nhost: 127.0.0.1:"), "{head}");
    true
}

async fn get(connections: &Connections) -> Response<Answering> {
    timeout(PATIENCE, connections.send(Request::default())).await.expect("in time").expect("an answer")
}

async fn whole(answer: Response<Answering>) -> String {
    let mut answering = answer.into_body();
    let mut whole = Vec::new();
    while let Some(chunk) = answering.chunk().await.expect("a good answer") {
        whole.extend_from_slice(&chunk);
    }
    String::from_utf8(whole).expect("text")
}

/// Waits for an effect of another task.
async fn until(happens: impl Fn() -> bool) {
    let happened = async {
        while !happens() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, happened).await.expect("it happens");
}

/// Returns the number of idle connections.
fn waiting(connections: &Connections) -> usize {
    connections.kept.idle.lock().iter_mut().filter_map(|one| one.line.rests().then_some(())).count()
}

/// Answers each request with the number of its connection.
async fn numbered(number: usize, mut stream: TcpStream) {
    while asked(&mut stream).await {
        let answer = match number % 2 {
            1 => format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}"),
            _ => format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{number}\r\n0\r\n\r\n"),
        };
        stream.write_all(answer.as_bytes()).await.expect("sent");
    }
}

/// Starts a server like [`numbered`] and sends it one request. Counts the connections that have
/// ended.
async fn counting() -> (Connections, Arc<AtomicUsize>) {
    let ended = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&ended);
    let connections = serving(move |number, stream| {
        let counted = Arc::clone(&counted);
        async move {
            numbered(number, stream).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    assert_eq!(whole(get(&connections).await).await, "1");
    assert_eq!(waiting(&connections), 1);
    (connections, ended)
}

#[tokio::test]
async fn a_connection_takes_the_next_request_at_the_end_of_its_answer_and_not_before() {
    let connections = serving(numbered).await;
    for _ in 0..5 {
        assert_eq!(whole(get(&connections).await).await, "1");
    }
    let (first, second) = (get(&connections).await, get(&connections).await);
    assert_eq!((whole(first).await, whole(second).await), ("1".to_owned(), "2".to_owned()));
    assert_eq!(waiting(&connections), 2);
    // The most recently used connection is preferred, because it is the warmest.
    assert_eq!(whole(get(&connections).await).await, "2");
}

#[tokio::test]
async fn an_answer_without_a_body_gives_its_connection_back_at_once() {
    let connections = serving(async |_, mut stream: TcpStream| {
        while asked(&mut stream).await {
            stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.expect("sent");
        }
    })
    .await;
    let held = get(&connections).await;
    assert_eq!(waiting(&connections), 1);
    drop(held);
    assert_eq!(connections.kept.idle.lock().len(), 1, "and only once");
}

#[tokio::test]
async fn a_connection_that_has_ended_meanwhile_is_no_reason_to_fail() {
    static END: Notify = Notify::const_new();
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let connections = serving(async |number, mut stream: TcpStream| {
        assert!(asked(&mut stream).await);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
        stream.write_all(answer.as_bytes()).await.expect("sent");
        END.notified().await;
        drop(stream);
        CLOSED.fetch_add(1, Ordering::Relaxed);
    })
    .await;
    for number in 1..=4 {
        assert_eq!(whole(get(&connections).await).await, number.to_string());
        assert_eq!(waiting(&connections), 1);
        END.notify_one();
        until(|| CLOSED.load(Ordering::Relaxed) == number).await;
        // Gives the runtime time to notice.
        sleep(Duration::from_millis(1)).await;
        if number % 2 == 0 {
            assert_eq!(waiting(&connections), 0, "else it is found out by who takes it");
        }
        assert_eq!(connections.kept.idle.lock().len(), 1);
    }
    connections.sweep();
    assert!(connections.kept.idle.lock().is_empty());
}

#[tokio::test]
async fn who_drops_an_answer_that_goes_on_closes_its_connection() {
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let connections = serving(async |number, mut stream: TcpStream| {
        assert!(asked(&mut stream).await);
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{number}\r\n");
        stream.write_all(answer.as_bytes()).await.expect("sent");
        if !asked(&mut stream).await {
            CLOSED.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    for number in 1..=2 {
        let mut answering = get(&connections).await.into_body();
        let chunk = answering.chunk().await.expect("good").expect("some");
        assert_eq!(chunk, number.to_string());
        drop(answering);
        until(|| CLOSED.load(Ordering::Relaxed) == number).await;
        assert!(connections.kept.idle.lock().is_empty());
    }
    // The same holds for a request whose answer has not begun.
    let connections = serving(async |_, mut stream: TcpStream| {
        assert!(asked(&mut stream).await && !asked(&mut stream).await);
        CLOSED.fetch_add(1, Ordering::Relaxed);
    })
    .await;
    let sent = connections.send(Request::default());
    assert!(timeout(Duration::from_millis(50), sent).await.is_err());
    until(|| CLOSED.load(Ordering::Relaxed) == 3).await;
}

#[tokio::test]
async fn who_drops_an_answer_that_has_come_whole_keeps_its_connection() {
    // A stream of a single event: dropping the answer right after the event keeps the connection.
    let connections = serving(numbered).await;
    let odd = get(&connections).await;
    for _ in 0..3 {
        let mut answering = get(&connections).await.into_body();
        assert_eq!(answering.chunk().await.expect("good").expect("some"), "2");
        drop(answering);
        assert_eq!(waiting(&connections), 1);
    }
    drop(odd);
    // The same holds for an unread answer with an empty body.
    let connections = serving(async |_, mut stream: TcpStream| {
        while asked(&mut stream).await {
            let answer = b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
            stream.write_all(answer).await.expect("sent");
        }
    })
    .await;
    drop(get(&connections).await);
    assert_eq!(waiting(&connections), 1);
}

#[tokio::test]
async fn what_has_come_is_read_without_waiting_for_anybody() {
    let connections = serving(async |_, mut stream: TcpStream| {
        while asked(&mut stream).await {
            let answer =
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n";
            stream.write_all(answer).await.expect("sent");
        }
    })
    .await;
    for _ in 0..2 {
        let mut answering = get(&connections).await.into_body();
        let mut chunk = || answering.chunk().now_or_never().expect("at once").expect("good");
        assert_eq!([chunk(), chunk(), chunk()], [Some("a".into()), Some("b".into()), None]);
        assert_eq!(waiting(&connections), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_left_gives_its_connection_back_when_it_ends_soon() {
    static GO: Notify = Notify::const_new();
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let connections = serving(async |number, mut stream: TcpStream| {
        while asked(&mut stream).await {
            let begun = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{number}\r\n");
            stream.write_all(begun.as_bytes()).await.expect("sent");
            GO.notified().await;
            stream.write_all(b"1\r\nz\r\n0\r\n\r\n").await.expect("sent");
        }
        CLOSED.fetch_add(1, Ordering::Relaxed);
    })
    .await;
    let begun = async || {
        let mut answering = get(&connections).await.into_body();
        assert_eq!(answering.chunk().await.expect("good").expect("some"), "1");
        answering
    };
    for _ in 0..2 {
        begun().await.leave();
        GO.notify_one();
        until(|| waiting(&connections) == 1).await;
    }
    // An answer that does not end is closed.
    let left = begun().await;
    tokio::time::pause();
    left.leave();
    tokio::time::sleep(LEFT).await;
    tokio::time::resume();
    GO.notify_one();
    until(|| CLOSED.load(Ordering::Relaxed) == 1).await;
    assert_eq!(waiting(&connections), 0);
}

#[tokio::test]
async fn no_more_answers_than_there_is_room_for_are_left_open_for_their_end() {
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let connections = serving(async |_, mut stream: TcpStream| {
        assert!(asked(&mut stream).await);
        let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
        stream.write_all(begun).await.expect("sent");
        assert!(!asked(&mut stream).await);
        CLOSED.fetch_add(1, Ordering::Relaxed);
    })
    .await;
    // All requests are sent before the first is abandoned, so that all are abandoned within one
    // second.
    let mut begun = Vec::new();
    for _ in 0..LEFT_AT_ONCE + 3 {
        let mut answering = get(&connections).await.into_body();
        assert_eq!(answering.chunk().await.expect("good").expect("some"), "a");
        begun.push(answering);
    }
    begun.into_iter().for_each(Answering::leave);
    assert_eq!(connections.kept.left.available_permits(), 0);
    until(|| CLOSED.load(Ordering::Relaxed) >= 3).await;
    until(|| CLOSED.load(Ordering::Relaxed) == LEFT_AT_ONCE + 3).await;
    assert_eq!(connections.kept.left.available_permits(), LEFT_AT_ONCE);
}

#[tokio::test]
async fn what_nobody_needs_for_long_is_closed() {
    let (connections, ended) = counting().await;
    tokio::time::pause();
    tokio::time::advance(KEPT - Duration::from_secs(1)).await;
    connections.sweep();
    assert_eq!(connections.kept.idle.lock().len(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    assert!(connections.waiting().is_none(), "nor is it used, where nobody has swept");
    connections.sweep();
    assert!(connections.kept.idle.lock().is_empty());
    until(|| ended.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn what_is_no_http_is_told_from_what_is_not_there() {
    let connections = serving(async |_, mut stream: TcpStream| {
        assert!(asked(&mut stream).await);
        stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await.expect("sent");
    })
    .await;
    let sent = connections.send(Request::default()).await;
    assert_eq!(sent.err(), Some(Unanswered::Garbage));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = plain(listener.local_addr().expect("an address"));
    drop(listener);
    let sent = nobody.send(Request::default()).await;
    assert_eq!(sent.err(), Some(Unanswered::Broken));
}

#[test]
fn a_host_is_named_with_its_port_unless_that_is_the_schemes_own() {
    for (uri, named) in [
        ("http://up:8080/mcp", "up:8080"),
        ("http://up:80/", "up"),
        ("http://up/", "up"),
        ("https://up:443/", "up"),
        ("https://up:80/", "up:80"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ] {
        assert_eq!(host(&uri.parse().expect("a URI")).as_deref(), Some(named), "{uri}");
    }
}

/// Returns a server's TLS acceptor, and a client configuration that trusts it.
fn tls(protocol: &[u8]) -> (TlsAcceptor, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let server = ServerConfig::builder().with_no_client_auth();
    let mut server = server.with_single_cert(vec![certificate.clone()], key).expect("a certificate");
    server.alpn_protocols = vec![protocol.to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), client)
}

fn secure(tls: ClientConfig, port: u16) -> Connections {
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions();
    let uri = format!("https://localhost:{port}/mcp").parse().expect("a URI");
    Connections::new(connector.wrap_connector(http_only()), uri)
}

/// Starts a TLS server that speaks one of the two protocols. Returns the connections to it and the
/// number that it has accepted.
async fn behind_tls(protocol: &'static [u8]) -> (Connections, Arc<AtomicUsize>) {
    let (acceptor, client) = tls(protocol);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&opened);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            counted.fetch_add(1, Ordering::Relaxed);
            let stream = acceptor.accept(stream).await.expect("a handshake");
            let service = service_fn(async |request: Request<Incoming>| {
                let (version, uri) = (request.version(), request.uri().clone());
                let host = request.headers().get(HOST).map_or("none".into(), |host| format!("{host:?}"));
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let said = format!("{version:?} {uri} {host} {}", String::from_utf8_lossy(&body));
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said))))
            });
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (secure(client, port), opened)
}

async fn stream(connections: &Connections) -> Response<Answering> {
    timeout(PATIENCE, connections.stream(Request::default())).await.expect("in time").expect("an answer")
}

#[tokio::test]
async fn a_stream_has_a_connection_of_its_own_which_ends_with_it() {
    let (connections, ended) = counting().await;
    for number in 2..=3 {
        assert_eq!(whole(stream(&connections).await).await, number.to_string());
        until(|| ended.load(Ordering::Relaxed) == number - 1).await;
    }
    assert_eq!(whole(get(&connections).await).await, "1");
}

async fn post(connections: &Connections, body: &'static str) -> (Version, String) {
    let request = Request::post("/").body(Full::from(body)).expect("a request");
    let sent = connections.send(request);
    let answer = timeout(PATIENCE, sent).await.expect("in time").expect("an answer");
    (answer.version(), whole(answer).await)
}

#[tokio::test]
async fn behind_tls_a_server_is_asked_in_the_version_that_it_speaks() {
    let (connections, opened) = behind_tls(b"http/1.1").await;
    let port = connections.uri().port_u16().expect("a port");
    for _ in 0..3 {
        let (version, said) = post(&connections, "{}").await;
        assert_eq!((version, said), (Version::HTTP_11, format!("HTTP/1.1 /mcp \"localhost:{port}\" {{}}")));
    }
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    let said = whole(stream(&connections).await).await;
    assert_eq!(said, format!("HTTP/1.1 /mcp \"localhost:{port}\" "));
    assert_eq!(opened.load(Ordering::Relaxed), 2);

    let (connections, opened) = behind_tls(b"h2").await;
    let port = connections.uri().port_u16().expect("a port");
    let expected = format!("HTTP/2.0 https://localhost:{port}/mcp none {{}}");
    for _ in 0..2 {
        let said = whole(stream(&connections).await).await;
        assert_eq!(format!("{said}{{}}"), expected, "where there is one for all, a stream is on it too");
    }
    assert_eq!(post(&connections, "{}").await, (Version::HTTP_2, expected.clone()));
    // All requests run concurrently on the one connection.
    let all = futures_util::future::join_all((0..20).map(|_| post(&connections, "{}"))).await;
    assert!(all.iter().all(|(_, said)| *said == expected));
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    connections.sweep();
    assert!(connections.shared.lock().is_some());
}

#[tokio::test]
async fn what_nobody_needs_any_more_is_told_so_before_it_is_closed() {
    let (acceptor, client) = tls(b"http/1.1");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = acceptor.accept(stream).await.expect("a handshake");
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).await.expect("a request") > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("sent");
        // The read fails if the connection breaks off without closing TLS.
        stream.read(&mut head).await.expect("the end of TLS")
    });
    let connections = secure(client, port);
    assert_eq!(post(&connections, "").await.1, "");
    tokio::time::pause();
    tokio::time::advance(KEPT).await;
    tokio::time::resume();
    connections.sweep();
    assert_eq!(timeout(PATIENCE, served).await.expect("in time").expect("no panic"), 0);
}
