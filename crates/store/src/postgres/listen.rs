//! Listens for growth of the log. The wake-up makes revocations fast; correctness does not depend
//! on it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::log::LISTEN;

/// The initial pause before reconnecting. Each failure doubles it, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Time limit for one attempt to connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener on a connection of its own.
pub(super) struct Ear {
    /// The number of notifications received.
    heard: watch::Sender<u64>,
    /// The number of notifications already reported to a waiter. Those received while nobody waited
    /// are reported to the next waiter.
    told: AtomicU64,
    task: JoinHandle<()>,
}

impl Ear {
    pub(super) fn open(config: tokio_postgres::Config, tls: MakeRustlsConnect) -> Self {
        let heard = watch::Sender::new(0);
        let task = tokio::spawn(listen(config, tls, heard.clone()));
        Self { heard, told: AtomicU64::new(0), task }
    }

    /// Completes when a notification arrived that had not been reported when the call began.
    pub(super) async fn hear(&self) {
        let told = self.told.load(Ordering::SeqCst);
        let mut heard = self.heard.subscribe();
        // The listening task lives as long as `self`, so until then there can be further
        // notifications.
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
                tracing::debug!(%error, "not receiving revocations from the database; they apply at the next lease renewal")
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
    // Notifications sent before this connection listened were missed, so this counts as one.
    heard.send_modify(|heard| *heard += 1);
    messages.await?;
    Ok(())
}
