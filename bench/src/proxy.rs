//! The least that anything between a client and a server costs here: a proxy that looks at nothing,
//! from the same HTTP library, set up as its documentation shows.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use http::uri::{Authority, Scheme};
use http::{Request, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::upstream::say;

/// Passes every request on to `to` until it is ended.
pub(crate) async fn serve(to: SocketAddr) -> Result<()> {
    let authority: Authority = to.to_string().parse().context("no authority")?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, authority) = (client.clone(), authority.clone());
        // A client that goes away ends its connection.
        tokio::spawn(async move {
            let pass = service_fn(move |mut request: Request<Incoming>| {
                *request.uri_mut() = aimed(request.uri(), &authority);
                client.request(request)
            });
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), pass).await);
        });
    }
}

fn aimed(uri: &Uri, authority: &Authority) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    Uri::from_parts(parts).unwrap_or_default()
}
