//! Hears when the log has grown: a wake-up that makes revocations quick. Correctness never rests on it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::log::LISTEN;

/// How long it waits before it connects again, at first; each failure doubles it, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long connecting may take, before it is begun anew.
const PATIENCE: Duration = Duration::from_secs(10);

/// An ear on a connection of its own.
pub(super) struct Ear {
    /// How often something was heard.
    heard: watch::Sender<u64>,
    /// Up to which of these somebody was told: what was heard while nobody waited is told to the next who does.
    told: AtomicU64,
    task: JoinHandle<()>,
}

impl Ear {
    pub(super) fn open(config: tokio_postgres::Config, tls: MakeRustlsConnect) -> Self {
        let heard = watch::Sender::new(0);
        let task = tokio::spawn(listen(config, tls, heard.clone()));
        Self { heard, told: AtomicU64::new(0), task }
    }

    /// Ends when something was heard that nobody was told of when this began.
    pub(super) async fn hear(&self) {
        let told = self.told.load(Ordering::SeqCst);
        let mut heard = self.heard.subscribe();
        // The task that hears ends with this; until then there is always more to wait for.
        while *heard.borrow_and_update() <= told {
            if heard.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        let now = *heard.borrow();
        self.told.fetch_max(now, Ordering::SeqCst);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(config: tokio_postgres::Config, tls: MakeRustlsConnect, heard: watch::Sender<u64>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match listen_once(&config, tls.clone(), &heard, &mut pause).await {
            Ok(()) => tracing::debug!("the connection that listens for revocations was closed"),
            Err(error) => {
                tracing::debug!(%error, "nothing is heard of revocations: they take until the next renewal")
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Listens until the connection ends.
async fn listen_once(
    config: &tokio_postgres::Config,
    tls: MakeRustlsConnect,
    heard: &watch::Sender<u64>,
    pause: &mut Duration,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (client, mut connection) = tokio::time::timeout(PATIENCE, config.connect(tls)).await??;
    let mut messages = pin!(async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(_) = message? {
                heard.send_modify(|heard| *heard += 1);
            }
        }
        Ok::<_, tokio_postgres::Error>(())
    });
    tokio::select! {
        ended = &mut messages => return Ok(ended?),
        listening = client.batch_execute(LISTEN) => listening?,
    }
    *pause = FIRST_PAUSE;
    // What was told before this connection listened was not heard.
    heard.send_modify(|heard| *heard += 1);
    messages.await?;
    Ok(())
}
