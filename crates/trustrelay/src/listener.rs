//! The listener: accepts connections, and drains at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::connection::{Server, prepare};

/// How many connections are served at a time: at some 32 KiB each, 512 MiB.
const MAX_CONNECTIONS: usize = 16_384;
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
    let server = Server::new(router);
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
        prepare(&stream);
        let connection = graceful.watch(server.serve(stream, peer));
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(error = %error.into(), "a connection ended with an error");
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
