//! What verification is compared to: hyper alone that answers a fixed body, and the same behind the
//! guard. Threads, socket options and HTTP/1 settings are those of TrustRelay's own listener.

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
use tower::Layer;
use trustrelay_authority::{
    Authority, AuthorityConfig, Expiry, NewAccount, NewPat, ServerSecret, SystemClock,
};
use trustrelay_guard::GuardLayer;
use trustrelay_store::{SqliteOptions, SqliteStore};

use crate::upstream::say;

/// The file in the guard's folder that has the token.
pub(crate) const TOKEN_FILE: &str = "token";
/// As long as what `GET /api/user` answers.
const BODY: &str = r#"{"value":{"user":{"user_id":"019ab3c4-5d6e-7f80-9123-456789abcdef","email":"bench@example.org","is_admin":true},"credential":{"kind":"pat","pat_id":"019ab3c4-5d6e-7f80-9123-456789abcdef","pat_scope":"api mcp","expires_at":"2026-12-24T12:00:00.123456Z"}}}"#;
const EMAIL: &str = "bench@example.org";
const PASSWORD: &str = "correct horse battery staple";

/// Answers every request with the fixed body until it is ended.
pub(crate) async fn serve() -> Result<()> {
    listen(service_fn(|_| async { Ok::<_, Infallible>(fixed()) })).await
}

/// The same behind the guard. The data is in this folder, and so is a token that is let through.
pub(crate) async fn serve_guarded(folder: &Path) -> Result<()> {
    let store = Arc::new(SqliteStore::open(folder, SqliteOptions::default())?);
    let secret = ServerSecret::generate()?;
    let authority =
        Authority::open(store, &[secret], Arc::new(SystemClock), AuthorityConfig::default()).await?;
    authority.start().await?;
    let password = PASSWORD.to_owned().into();
    authority.add_account(NewAccount { email: EMAIL.into(), password, is_admin: false }).await?;
    let new = NewPat {
        name: "bench".into(),
        scope: "api mcp".into(),
        expiry: Expiry::Default,
        ..NewPat::default()
    };
    let issued = authority.issue_for(EMAIL, new).await?;
    std::fs::write(folder.join(TOKEN_FILE), issued.token.expose())?;
    let body = tower::service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(fixed()) });
    listen(TowerToHyperService::new(GuardLayer::new(authority).layer(body))).await
}

fn fixed() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(BODY.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn listen<S>(service: S) -> Result<()>
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(64 << 10);
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&probes)?;
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        // A client that goes away ends its connection.
        tokio::spawn(async move { drop(connection.await) });
    }
}
