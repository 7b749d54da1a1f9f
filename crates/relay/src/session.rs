//! A client's session: bound to its token, holding one upstream session per upstream that it touched.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::call::Shape;
use crate::envelope::{RawObject, raw};
use crate::registry::Entry;
use crate::sse;
use crate::upstream::{Fault, Link, Upstream};

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Link>>>>;

/// Where what the server says of its own accord goes: the newest GET stream.
struct Listener {
    frames: mpsc::Sender<Bytes>,
    cancel: CancellationToken,
}

pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) pat_id: Uuid,
    /// `Some` for `/mcp/NAME`.
    pub(crate) only: Option<String>,
    /// The client's `initialize` parameters: its upstream sessions are opened with them.
    init: RawObject,
    pub(crate) entry: Entry,
    pub(crate) tasks: TaskTracker,
    links: Mutex<HashMap<String, Slot>>,
    pub(crate) level: Mutex<Option<String>>,
    /// Calls in flight by the JSON of their id, to route `notifications/cancelled`.
    pub(crate) calls: Mutex<HashMap<String, Arc<Link>>>,
    listener: Mutex<Option<Listener>>,
}

impl Session {
    pub(crate) fn new(
        pat_id: Uuid,
        only: Option<String>,
        init: RawObject,
        entry: Entry,
    ) -> Result<Arc<Self>, getrandom::Error> {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes)?;
        Ok(Arc::new(Self {
            id: URL_SAFE_NO_PAD.encode(bytes),
            pat_id,
            only,
            init,
            entry,
            tasks: TaskTracker::new(),
            links: Mutex::default(),
            level: Mutex::default(),
            calls: Mutex::default(),
            listener: Mutex::default(),
        }))
    }

    fn slot(&self, name: &str) -> Slot {
        Arc::clone(self.links.lock().entry(name.to_owned()).or_default())
    }

    /// The session with an upstream, opened when it is first needed.
    pub(crate) async fn link(self: &Arc<Self>, upstream: &Arc<Upstream>) -> Result<Arc<Link>, Fault> {
        let slot = self.slot(upstream.name.as_str());
        let mut slot = slot.lock().await;
        if let Some(link) = &*slot {
            return Ok(Arc::clone(link));
        }
        let link = Link::open(upstream, &self.init).await?;
        *slot = Some(Arc::clone(&link));
        drop(slot);
        // Cut while it opened: the farewell may have been said already, without this one.
        if self.entry.cancel.is_cancelled() {
            link.close().await;
            return Err(Fault::SessionGone);
        }
        let level = self.level.lock().clone();
        if let Some(level) = level {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":"trustrelay-level","method":"logging/setLevel","params":{{"level":{}}}}}"#,
                raw(&level)
            );
            let _ = link.notify(body).await;
        }
        self.pump(&link);
        Ok(link)
    }

    pub(crate) async fn adopt(&self, link: Arc<Link>) {
        let slot = self.slot(link.upstream.name.as_str());
        *slot.lock().await = Some(link);
    }

    /// Forgets an upstream session that the upstream has ended.
    pub(crate) async fn drop_link(&self, link: &Arc<Link>) {
        let slot = self.slot(link.upstream.name.as_str());
        let mut slot = slot.lock().await;
        if slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, link)) {
            *slot = None;
        }
    }

    pub(crate) fn opened(&self) -> Vec<Arc<Link>> {
        let slots: Vec<Slot> = self.links.lock().values().map(Arc::clone).collect();
        slots.iter().filter_map(|slot| slot.try_lock().ok()?.clone()).collect()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.listener.lock().as_ref().is_none_or(|l| l.frames.is_closed()) && self.calls.lock().is_empty()
    }

    /// Takes the newest GET stream; the one before it ends.
    pub(crate) fn listen(self: &Arc<Self>, frames: mpsc::Sender<Bytes>, cancel: CancellationToken) {
        let before = self.listener.lock().replace(Listener { frames, cancel });
        if let Some(before) = before {
            before.cancel.cancel();
        }
        for link in self.opened() {
            self.pump(&link);
        }
    }

    /// Carries an upstream's own stream into the client's, while there is one.
    fn pump(self: &Arc<Self>, link: &Arc<Link>) {
        let Some((frames, cancel)) =
            self.listener.lock().as_ref().map(|l| (l.frames.clone(), l.cancel.clone()))
        else {
            return;
        };
        let (link, shape) = (Arc::clone(link), Shape::of(self));
        self.tasks.spawn(async move {
            let carry = async {
                let Ok(mut answer) = link.listen().await else { return };
                while let Ok(Some(frame)) = answer.frame().await {
                    let frame = shape.frame(frame, &link, None);
                    if frames.send(frame).await.is_err() {
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
    }

    /// The farewell: calls have said their own first, then the upstream sessions go.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        let _ = tokio::time::timeout(std::time::Duration::from_secs(3), self.tasks.wait()).await;
        let links = self.opened();
        futures_util::future::join_all(links.iter().map(|link| link.close())).await;
    }
}

/// Keeps a quiet stream from being cut by proxies; ends with it.
pub(crate) async fn keep_alive(frames: &mpsc::Sender<Bytes>, every: std::time::Duration) {
    loop {
        tokio::time::sleep(every).await;
        if frames.send(Bytes::from_static(sse::KEEP_ALIVE)).await.is_err() {
            return;
        }
    }
}
