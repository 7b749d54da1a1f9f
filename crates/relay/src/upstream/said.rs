//! Unsolicited messages of an upstream, distributed to all listeners.

use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::envelope::Message;
use crate::upstream::{Fault, HttpAnswer, Transport, Upstream};

/// Number of unsolicited messages that are kept for a slow listener. Beyond it, the listener misses
/// some.
pub(super) const SAID: usize = 256;
/// The first pause before a broken stream is opened again. It doubles up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An open stream of a session.
pub(super) struct Said {
    pub(super) sender: broadcast::Sender<Arc<str>>,
    pub(super) ended: CancellationToken,
}

/// Growing pauses between attempts. They restart at the shortest after a sufficiently long success.
pub(crate) struct Pauses {
    next: Duration,
    since: Instant,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self { next: FIRST_PAUSE, since: Instant::now() }
    }

    pub(crate) async fn wait(&mut self) {
        if self.since.elapsed() > LONGEST_PAUSE {
            self.next = FIRST_PAUSE;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        self.since = Instant::now();
    }
}

/// Opens a session's own stream.
pub(super) async fn stream(
    upstream: &Upstream,
    session: Option<&HeaderValue>,
    mut headers: HeaderMap,
) -> Result<HttpAnswer, Fault> {
    let Transport::Http(http) = &upstream.transport else { return Err(Fault::Down) };
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    let (wait, limit) = (upstream.limits.initialize, upstream.limits.answer);
    let mut answer = http.send(Method::GET, session, headers, None, wait, limit).await?;
    match answer.status {
        status if status.is_success() && answer.is_stream => Ok(answer),
        _ if session.is_some() && answer.ends_session().await => Err(Fault::SessionGone),
        status => Err(Fault::Refused(status)),
    }
}

/// Forwards a session's stream to its listeners. Opens it again when it breaks, until the upstream
/// says that there is none.
pub(super) async fn carry(
    upstream: &Upstream,
    session: Option<&HeaderValue>,
    headers: &HeaderMap,
    mut answer: HttpAnswer,
    said: &broadcast::Sender<Arc<str>>,
) {
    let mut pauses = Pauses::new();
    loop {
        while let Ok(Some(event)) = answer.next().await {
            if let Some(message) = event.message {
                let _ = said.send(message.into_text().into());
            }
        }
        answer = loop {
            pauses.wait().await;
            match stream(upstream, session, headers.clone()).await {
                Ok(answer) => break answer,
                Err(Fault::Down | Fault::Slow) => {}
                Err(_) => return,
            }
        };
        let _ = said.send(MISSED.into());
    }
}

/// Sent to listeners in place of messages that they may have missed. Not a message itself.
const MISSED: &str = "";

/// Receives the unsolicited messages of an upstream.
pub(crate) struct Unsolicited {
    pub(super) said: broadcast::Receiver<Arc<str>>,
    pub(super) ended: CancellationToken,
}

impl Unsolicited {
    /// Returns the next message. The inner `None` means that some may have been missed, the outer
    /// that no more will come.
    pub(crate) async fn next(&mut self) -> Option<Option<Message>> {
        let received = tokio::select! {
            biased;
            received = self.said.recv() => received,
            () = self.ended.cancelled() => return None,
        };
        match received {
            Ok(text) => Some(Message::parse(text.to_string()).ok()),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(None),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
