//! What all sessions and requests of one server share: the lists that can change, and who wants to
//! hear of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rmcp::{RoleServer, model::ResourceUpdatedNotificationParam, service::Peer};
use tokio::{sync::broadcast, task};

/// The resource that can be watched.
pub(crate) const WATCHED: &str = "test://watched-resource";

/// Changes that a slow listener may be behind before it loses some: far above what a test makes.
const CHANGES_BEHIND: usize = 256;

/// Something that changed while clients were connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The content of [`WATCHED`].
    Watched,
}

/// The shared state of one server.
#[derive(Debug)]
pub(crate) struct World {
    changes: broadcast::Sender<Change>,
    listeners: Mutex<HashMap<task::Id, broadcast::Receiver<Change>>>,
    sessions: Mutex<Vec<Session>>,
    extra_tool: AtomicBool,
    extra_prompt: AtomicBool,
    revision: AtomicU64,
    cancelled: AtomicU64,
}

/// A client of the session era: it hears of list changes unasked, and of the resources that it
/// subscribed to.
#[derive(Debug)]
struct Session {
    peer: Peer<RoleServer>,
    watched: Arc<Mutex<BTreeSet<String>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            changes: broadcast::Sender::new(CHANGES_BEHIND),
            listeners: Mutex::default(),
            sessions: Mutex::default(),
            extra_tool: AtomicBool::new(false),
            extra_prompt: AtomicBool::new(false),
            revision: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
        }
    }

    /// Whether the tool that comes and goes is there.
    pub(crate) fn has_extra_tool(&self) -> bool {
        self.extra_tool.load(Ordering::SeqCst)
    }

    /// Whether the prompt that comes and goes is there.
    pub(crate) fn has_extra_prompt(&self) -> bool {
        self.extra_prompt.load(Ordering::SeqCst)
    }

    /// How often the watched resource has changed.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    /// How many waiting calls have been cancelled.
    pub(crate) fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Counts a waiting call that was cancelled.
    pub(crate) fn note_cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::SeqCst);
    }

    /// Begins to keep changes for the `subscriptions/listen` that runs in this task. The SDK
    /// acknowledges it before it lets the server listen, and a client may make a change in between.
    pub(crate) fn keep_changes(&self) {
        if let Some(task) = task::try_id() {
            self.listeners.lock().insert(task, self.changes.subscribe());
        }
    }

    /// The changes since [`World::keep_changes`], and all that follow.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        let kept = task::try_id().and_then(|task| self.listeners.lock().remove(&task));
        kept.unwrap_or_else(|| self.changes.subscribe())
    }

    /// Takes in a client of the session era; those whose connection has ended are let go.
    pub(crate) fn welcome(&self, peer: Peer<RoleServer>, watched: Arc<Mutex<BTreeSet<String>>>) {
        let mut sessions = self.sessions.lock();
        sessions.retain(|session| !session.peer.is_transport_closed());
        sessions.push(Session { peer, watched });
    }

    /// Makes the change, and tells everyone who listens.
    pub(crate) fn change(&self, change: Change) {
        match change {
            Change::Tools => drop(self.extra_tool.fetch_not(Ordering::SeqCst)),
            Change::Prompts => drop(self.extra_prompt.fetch_not(Ordering::SeqCst)),
            Change::Watched => drop(self.revision.fetch_add(1, Ordering::SeqCst)),
        }
        // Nobody may be listening; that is no failure.
        drop(self.changes.send(change));
        for session in self.sessions.lock().iter() {
            if change == Change::Watched && !session.watched.lock().contains(WATCHED) {
                continue;
            }
            let peer = session.peer.clone();
            // A session that is gone meanwhile has nobody left to tell.
            tokio::spawn(async move {
                drop(match change {
                    Change::Tools => peer.notify_tool_list_changed().await,
                    Change::Prompts => peer.notify_prompt_list_changed().await,
                    Change::Watched => {
                        peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(WATCHED)).await
                    }
                });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_between_the_acknowledgement_and_the_listening_is_heard() {
        let heard = tokio::spawn(async {
            let world = World::new();
            world.change(Change::Prompts);
            world.keep_changes();
            world.change(Change::Tools);
            let mut changes = world.changes();
            world.change(Change::Watched);
            [changes.try_recv(), changes.try_recv(), changes.try_recv()]
        });
        let [first, second, third] = heard.await.unwrap();
        assert_eq!((first, second), (Ok(Change::Tools), Ok(Change::Watched)));
        assert!(third.is_err(), "what was before is not heard");
    }
}
