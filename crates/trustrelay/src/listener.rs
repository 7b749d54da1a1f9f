//! The listener: accepts connections, and drains at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::connection::{Begun, Server, prepare};

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

/// How long the first word of a connection may be on its way when no more are let in.
const FIRST_WORD: Duration = Duration::from_millis(250);

/// Serves until `stop` resolves, then lets running requests end. `stopping` is cancelled when that begins to come: connections are given up then, one answer
/// after the other. `end_streams` ends what would not end by itself.
pub(crate) async fn serve(
    listener: TcpListener,
    router: axum::Router,
    stopping: CancellationToken,
    stop: impl Future<Output = ()>,
    end_streams: impl Future<Output = ()>,
) {
    let server = Arc::new(Server::new(router, stopping));
    let ending = CancellationToken::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let let_in = |(stream, peer, place): Accepted| {
        prepare(&stream);
        let (server, ending, watcher) = (Arc::clone(&server), ending.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let begun = tokio::select! {
                biased;
                begun = Begun::wait(stream) => begun,
                // Who has asked for nothing loses nothing.
                () = async { ending.cancelled().await; tokio::time::sleep(FIRST_WORD).await } => return,
            };
            let served = match begun {
                Ok(Some(begun)) => watcher.watch(server.serve(begun, peer)).await.map_err(Into::into),
                Ok(None) => Ok(()),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended with an error");
            }
        });
    };
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted.into_iter().for_each(&let_in),
        }
    }
    // Who was let in by the system before the end has been let in. The system itself is asked: the runtime hears of a connection a moment later.
    if let Ok(listener) = listener.into_std() {
        while let Ok(place) = places.clone().try_acquire_owned()
            && let Ok((stream, peer)) = listener.accept()
        {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            let accepted = stream.ok().map(|stream| (stream, peer, place));
            accepted.into_iter().for_each(&let_in);
        }
    }
    ending.cancel();
    let drained = async {
        tokio::join!(graceful.shutdown(), end_streams);
    };
    if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
        tracing::warn!("some requests did not end in {} s and were cut off", DRAIN_TIME.as_secs());
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

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
