//! The listener: accepts connections, and drains at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::server::graceful::GracefulConnection as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::connection::{Begun, Error, Server, prepare};
use crate::rewoken::Rewoken;

/// How many connections are served at a time: at some 32 KiB each, 512 MiB.
pub(crate) const MAX_CONNECTIONS: u32 = 16_384;
/// How many connections the operators' own address has, for balancers and scrapers: at some 32 KiB
/// each, 8 MiB. They are apart from the others, so that a full server can still be looked at.
pub(crate) const MAX_OPS_CONNECTIONS: u32 = 256;
/// How long requests may still run after the server was told to stop.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Binds the address that this flag has given.
pub(crate) async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}; another program may be using this port, so choose another one with {flag}"
        )
    })
}

/// How long the first request of a connection may be on its way when no more are let in.
const FIRST_REQUEST: Duration = Duration::from_millis(250);

/// Serves until `stop` resolves, then lets running requests end. `stopping` is cancelled when that
/// begins to come: connections are given up then, one answer after the other. `end_streams` ends
/// what would not end by itself. At most `connections` are served at a time.
pub(crate) async fn serve(
    listener: TcpListener,
    connections: u32,
    router: axum::Router,
    stopping: CancellationToken,
    stop: impl Future<Output = ()>,
    end_streams: impl Future<Output = ()>,
) {
    let server = Arc::new(Server::new(router, stopping));
    let ending = CancellationToken::new();
    let places = Arc::new(Semaphore::new(connections as usize));
    let let_in = |(stream, peer, place): Accepted| {
        prepare(&stream);
        let (server, ending) = (Arc::clone(&server), ending.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = to_its_end(&server, stream, peer, &ending).await {
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
    // Who was let in by the system before the end has been let in. The system itself is asked: the
    // runtime hears of a connection a moment later.
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
        // A first request that was on its way still finds its session. All places are free when all
        // connections have ended.
        let end_streams = async {
            sleep(FIRST_REQUEST).await;
            end_streams.await;
        };
        let _ = tokio::join!(places.acquire_many(connections), end_streams);
    };
    if timeout(DRAIN_TIME, drained).await.is_err() {
        tracing::warn!("some requests did not finish within {} s and were aborted", DRAIN_TIME.as_secs());
    }
}

/// Serves a connection to its end; once no more are let in, it ends with the request that it is at.
async fn to_its_end(
    server: &Server,
    stream: TcpStream,
    peer: SocketAddr,
    ending: &CancellationToken,
) -> Result<(), Error> {
    let begun = tokio::select! {
        biased;
        begun = Begun::wait(stream) => begun?,
        // Who has asked for nothing loses nothing.
        () = async { ending.cancelled().await; sleep(FIRST_REQUEST).await } => return Ok(()),
    };
    let Some(begun) = begun else { return Ok(()) };
    let (connection, requests) = server.serve(begun, peer);
    let connection = std::pin::pin!(connection);
    let mut connection = Rewoken::new(connection);
    // hyper does not answer the first request of a connection that is asked to end before it was
    // read.
    let ends = async {
        ending.cancelled().await;
        let _ = timeout(FIRST_REQUEST, requests.first()).await;
    };
    tokio::select! {
        served = &mut connection => return served.map_err(Into::into),
        () = ends => connection.work().as_mut().graceful_shutdown(),
    }
    connection.await.map_err(Into::into)
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            // Out of file descriptors, most likely: give others the time to end.
            tracing::warn!(%error, "could not accept a connection");
            sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: relay\r\n\r\n";

    async fn end_of(mut client: TcpStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn who_was_let_in_before_the_end_is_answered_and_nobody_after_it() {
        let listener = bind("--listen", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
        // The runtime has heard of none of them when it ends.
        let [mut sent, mut late, silent] =
            [0; 3].map(|_| std::net::TcpStream::connect(address).unwrap()).map(|client| {
                client.set_nonblocking(true).unwrap();
                TcpStream::from_std(client).unwrap()
            });
        sent.write_all(GET).await.unwrap();
        let stop = std::future::ready(());
        let served = serve(listener, 8, router, CancellationToken::new(), stop, async {});
        let late = async {
            assert_eq!(end_of(sent).await.lines().next(), Some("HTTP/1.1 200 OK"));
            late.write_all(GET).await.unwrap();
            end_of(late).await
        };
        let ((), late, silent) = tokio::join!(served, late, end_of(silent));
        assert_eq!(late.lines().next(), Some("HTTP/1.1 200 OK"));
        assert_eq!(silent, "", "who has asked for nothing loses nothing");
        TcpStream::connect(address).await.expect_err("nobody listens");
    }

    /// On a clock that stands still while there is work.
    #[tokio::test(start_paused = true)]
    async fn streams_end_when_first_requests_have_had_their_time() {
        let listener = bind("--listen", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (begun, mut ended) = (Instant::now(), None);
        let end_streams = async { ended = Some(begun.elapsed()) };
        let stop = std::future::ready(());
        serve(listener, 8, axum::Router::new(), CancellationToken::new(), stop, end_streams).await;
        assert!(ended.unwrap() >= FIRST_REQUEST, "{ended:?}");
    }
}
