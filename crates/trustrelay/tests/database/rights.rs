//! Rights that are taken away during a history, and some that are given back: each use of one is
//! held against when it was lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::header::COOKIE;
use reqwest::{Method, RequestBuilder};

use crate::load::{Kept, PATIENCE, World};
use crate::mcp;

/// How a right is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The account is disabled.
    Account,
    /// The account loses the administrator's role.
    Administrator,
    /// The account loses an upstream.
    Upstream,
    /// The policy shuts out the network that the client is in.
    Network,
    /// The parent token is revoked.
    Parent,
    /// The token is rotated without an overlap.
    Rotation,
    /// The token is rotated with an overlap, which ends.
    Overlap,
    /// The token is rotated, and the new secret is used.
    FirstUse,
    /// The token expires.
    Expiry,
    /// The browser session is signed out.
    SignOut,
    /// The account's password is set.
    Password,
}

pub(crate) const KINDS: [Kind; 11] = [
    Kind::Account,
    Kind::Administrator,
    Kind::Upstream,
    Kind::Network,
    Kind::Parent,
    Kind::Rotation,
    Kind::Overlap,
    Kind::FirstUse,
    Kind::Expiry,
    Kind::SignOut,
    Kind::Password,
];

/// One time that a right was taken away.
#[derive(Debug, Clone, Copy)]
struct Loss {
    asked: Instant,
    answered: Option<Instant>,
    back_asked: Option<Instant>,
    back_answered: Option<Instant>,
}

/// One use of a right that was answered with yes or no.
#[derive(Debug, Clone, Copy)]
struct Use {
    node: usize,
    begun: Instant,
    ended: Instant,
    is_accepted: bool,
}

/// A right of somebody with a credential.
pub(crate) struct Right {
    pub(crate) kind: Kind,
    /// The token, and what it holds open; without a token, a session's cookie.
    pub(crate) kept: Mutex<Arc<Kept>>,
    cookie: Option<String>,
    losses: Mutex<Vec<Loss>>,
    uses: Mutex<Vec<Use>>,
}

impl Right {
    pub(crate) fn of_token(kind: Kind, kept: Arc<Kept>) -> Arc<Self> {
        let (losses, uses) = (Mutex::default(), Mutex::default());
        Arc::new(Self { kind, kept: Mutex::new(kept), cookie: None, losses, uses })
    }

    pub(crate) fn of_session(kind: Kind, cookie: String) -> Arc<Self> {
        let kept = Mutex::new(Arc::new(Kept::nobody()));
        Arc::new(Self { kind, kept, cookie: Some(cookie), losses: Mutex::default(), uses: Mutex::default() })
    }

    pub(crate) fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept.lock().expect("whole"))
    }

    fn last(&self, change: impl FnOnce(&mut Loss)) {
        change(self.losses.lock().expect("whole").last_mut().expect("it was lost"));
    }

    /// From here on a use may be refused.
    pub(crate) fn loss_is_asked(&self, at: Instant) {
        let _ = self.kept().asked.set(at);
        let loss = Loss { asked: at, answered: None, back_asked: None, back_answered: None };
        self.losses.lock().expect("whole").push(loss);
    }

    /// A use that begins after this is refused.
    pub(crate) fn loss_is_answered(&self, at: Instant) {
        let _ = self.kept().answered.set((at, String::new()));
        self.last(|loss| loss.answered = Some(at));
    }

    /// Returns true while the loss is asked for and not answered.
    pub(crate) fn is_only_asked(&self) -> bool {
        self.losses.lock().expect("whole").last().is_some_and(|loss| loss.answered.is_none())
    }

    pub(crate) fn return_is_asked(&self) {
        let now = Instant::now();
        let _ = self.kept().back_asked.set(now);
        self.last(|loss| loss.back_asked = Some(now));
    }

    pub(crate) fn return_is_answered(&self) {
        self.last(|loss| loss.back_answered = Some(Instant::now()));
    }

    /// What its holder asks for, and would be refused without it.
    fn request(&self, world: &World, node: usize, by_mcp: bool) -> RequestBuilder {
        let kept = self.kept();
        let api = world.api_of(node, &kept);
        match (self.kind, &self.cookie) {
            (_, Some(cookie)) => {
                api.request(Method::GET, "/api/user").header(COOKIE, format!("session={cookie}"))
            }
            (Kind::Administrator, _) => api.request(Method::GET, "/api/admin/nodes"),
            (Kind::Upstream, _) => mcp::list(&api, "/mcp/clock"),
            _ if by_mcp => mcp::call(&api, "/mcp", "trustrelay__whoami"),
            _ => api.request(Method::GET, "/api/user"),
        }
    }

    /// Uses the right once; nothing is kept of an answer that says neither yes nor no.
    pub(crate) async fn used(&self, world: &World, node: usize, by_mcp: bool) {
        let request = self.request(world, node, by_mcp).timeout(PATIENCE);
        let begun = Instant::now();
        let Ok(answer) = request.send().await else { return };
        let ended = Instant::now();
        let is_accepted = match answer.status().as_u16() {
            200 => true,
            401 | 403 | 404 => false,
            503 if world.is_unsure(&answer) => return,
            other => return world.wrong(format!("a use of {:?} on node {node}: {other}", self.kind)),
        };
        self.uses.lock().expect("whole").push(Use { node, begun, ended, is_accepted });
        // So that the connection can be used again.
        let _ = answer.bytes().await;
    }

    /// Returns what is wrong with its uses, and counts those that were accepted, and those that
    /// were refused because of an answered loss.
    fn judge(&self, (accepted, held): (&mut usize, &mut usize)) -> Vec<String> {
        let losses = self.losses.lock().expect("whole").clone();
        let mut wrong = Vec::new();
        for one in &*self.uses.lock().expect("whole") {
            let is_lost = |loss: &&Loss| {
                loss.answered.is_some_and(|answered| answered < one.begun)
                    && loss.back_asked.is_none_or(|back| back > one.ended)
            };
            let may_be_lost = |loss: &Loss| {
                loss.asked < one.ended && loss.back_answered.is_none_or(|back| back > one.begun)
            };
            let lost = losses.iter().find(is_lost);
            match (one.is_accepted, lost) {
                (true, Some(loss)) => {
                    let by = one.begun - loss.answered.expect("it was");
                    wrong.push(format!(
                        "{:?}: accepted by node {} {by:?} after the answer",
                        self.kind, one.node
                    ));
                }
                (false, _) if !losses.iter().any(may_be_lost) => {
                    wrong.push(format!(
                        "{:?}: refused by node {} although nobody had asked",
                        self.kind, one.node
                    ));
                }
                (true, None) => *accepted += 1,
                (false, Some(_)) => *held += 1,
                (false, None) => {}
            }
        }
        wrong
    }
}

/// Holds all uses against all losses; of each kind there must have been both.
pub(crate) fn judge(rights: &[Arc<Right>]) {
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<Kind, (usize, usize)> = KINDS.map(|kind| (kind, (0, 0))).into();
    for right in rights {
        let (accepted, held) = counts.entry(right.kind).or_default();
        wrong.extend(right.judge((accepted, held)));
    }
    assert_eq!(wrong, [""; 0]);
    for (kind, (accepted, held)) in &counts {
        assert!(
            *accepted > 0 && *held > 0,
            "{kind:?} says nothing: {accepted} accepted, {held} held; {counts:?}"
        );
    }
}
