//! Messages that belong to no call, from an upstream's own stream to the client's.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::envelope::Message;
use crate::era::Era;
use crate::session::Session;
use crate::sse;
use crate::upstream::Link;

/// How long a request waits for an upstream's own stream to open. Some servers send no head before
/// the first event, so the request goes on without it then.
const PATIENCE: Duration = Duration::from_millis(500);

impl Session {
    /// Begins to forward the unsolicited messages of these links, as long as the client has a
    /// stream. Returns when the upstreams' streams are open, so that nothing that the next request
    /// causes is missed.
    pub(crate) async fn pumping(self: &Arc<Self>, links: &[Arc<Link>]) {
        let opening = links.iter().filter_map(|link| self.pump(link));
        let _ = timeout(PATIENCE, join_all(opening)).await;
    }

    fn pump(self: &Arc<Self>, link: &Arc<Link>) -> Option<oneshot::Receiver<()>> {
        let (frames, cancel) = self.listener()?;
        if link.era == Era::Stateless {
            return None;
        }
        let (open, opening) = oneshot::channel();
        let (link, session) = (Arc::clone(link), Arc::clone(self));
        self.tasks.spawn(async move {
            let carry = async {
                let said = link.listen().await;
                // The request may have gone on without it.
                let _ = open.send(());
                let Ok(mut said) = said else { return };
                while let Some(message) = said.next().await {
                    let Some(message) = message else { continue };
                    let Some(text) = session.said_by(&link, &message) else { continue };
                    if frames.send(sse::event(&text)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = frames.closed() => {}
                () = carry => {}
            }
        });
        Some(opening)
    }

    /// Translates an upstream's message that belongs to no call for the client.
    fn said_by(&self, link: &Link, message: &Message) -> Option<String> {
        let method = message.method();
        if method.ends_with("/list_changed") {
            // On `/mcp` the catalogue announces the change after fetching the list, so that the
            // client's next request sees it.
            link.upstream.heard(method);
            return self.only.as_ref().map(|_| message.text().to_owned());
        }
        if method == "notifications/resources/updated" && link.upstream.is_stdio() {
            // The process is shared with the token's other sessions.
            let uri = message.param_str("uri")?;
            let subscribed = self.subscribed.lock();
            subscribed
                .get(link.upstream.name.as_str())
                .filter(|subscribed| subscribed.uris.contains(&uri))?;
        }
        Some(self.shown(link, message))
    }
}
