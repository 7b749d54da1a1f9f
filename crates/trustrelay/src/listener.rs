//! The listener: accepts connections, serves HTTP/1.1 and HTTP/2, and drains at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::ConnectInfo;
use futures_util::FutureExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// How many connections are served at a time: at some 32 KiB each, 512 MiB.
const MAX_CONNECTIONS: usize = 16_384;
/// How long a connection may be silent before its peer is asked whether it is there, and how often it is asked then: a quiet client is kept,
/// a dead one is not.
const SILENCE: Duration = Duration::from_secs(60);
const PROBES: Duration = Duration::from_secs(15);
/// How long requests may still run after the server was told to stop.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Binds the address.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "{address} cannot be listened on; is another program on this port? Choose another with --listen"
        )
    })
}

/// Serves until `stop` resolves, then lets running requests end. `end_streams` ends what would not end by itself.
pub(crate) async fn serve(
    listener: TcpListener,
    router: axum::Router,
    stop: impl Future<Output = ()>,
    end_streams: impl Future<Output = ()>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    // The time to the next request's headers is also the time between requests, and there is no idle time-out.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(256);
    let builder = Arc::new(builder);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    let mut stopped = false;
    loop {
        let accepted = if stopped {
            // Who was let in by the system before the end has been let in.
            let Some(accepted) = accept(&listener, &places).now_or_never() else { break };
            accepted
        } else {
            tokio::select! {
                () = &mut stop => {
                    stopped = true;
                    continue;
                }
                accepted = accept(&listener, &places) => accepted,
            }
        };
        let Some((stream, peer, place)) = accepted else {
            continue;
        };
        // Without it an answer of two writes waits for a delayed acknowledgement: 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let probes = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBES);
        if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&probes) {
            tracing::debug!(%error, "SO_KEEPALIVE was refused");
        }
        let service = router.clone().map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.map(axum::body::Body::new)
        });
        let connection =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended with an error");
            }
        });
    }
    drop(listener);
    let drained = async {
        tokio::join!(graceful.shutdown(), end_streams);
    };
    if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
        tracing::warn!("some requests did not end in {} s and were cut off", DRAIN_TIME.as_secs());
    }
}

type Accepted = (tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            // Out of file descriptors, most likely: give others the time to end.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
