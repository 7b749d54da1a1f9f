//! The load of a history: clients that verify all the time, and others that make and revoke tokens.
//! All that they see is kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::mcp;
use crate::rights::Kind;
use crate::streams::Stream;
use crate::support::{Api, Made};

pub(crate) const NODES: usize = 3;
/// How many tokens there are that nobody has revoked, about.
const LIVE: std::ops::Range<usize> = 24..48;
/// Of a hundred new tokens, so many open a stream.
const STREAMS: usize = 70;
/// Among how many of the newest tokens those are that are verified: some of them are revoked
/// already.
const RECENT: usize = 64;
/// A request to a node that is stopped waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two requests of one client, so that three nodes and a database have something left of
/// two cores.
const BETWEEN_VERIFICATIONS: Duration = Duration::from_millis(3);
const BETWEEN_CHANGES: Duration = Duration::from_millis(60);
const TOKENS: &str = "/api/user/personal-access-tokens";

/// By which way a token comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    Rest,
    Mcp,
}

/// What a verification came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    Accepted,
    Refused,
    /// 503: the node cannot tell.
    Unsure,
}

/// A token, and what was done to it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) made: Made,
    /// When somebody first asked for its revocation.
    pub(crate) asked: OnceLock<Instant>,
    /// When its revocation was answered, and what the answer says about the moment.
    pub(crate) answered: OnceLock<(Instant, String)>,
    /// Whether a revocation of it ended with 503 or without an answer before.
    pub(crate) was_unsure: AtomicBool,
    /// Where its holder is, if not where everybody is.
    pub(crate) client: Option<Client>,
    /// Whether what it loses comes back.
    pub(crate) is_given_back: bool,
    /// When somebody first asked for it to be given back.
    pub(crate) back_asked: OnceLock<Instant>,
    /// How it is lost, if not by its own revocation.
    pub(crate) kind: Option<Kind>,
}

impl Kept {
    pub(crate) fn new(made: Made, client: Option<Client>) -> Self {
        let (asked, answered) = (OnceLock::new(), OnceLock::new());
        Self {
            made,
            asked,
            answered,
            was_unsure: AtomicBool::new(false),
            client,
            is_given_back: false,
            back_asked: OnceLock::new(),
            kind: None,
        }
    }

    /// For a right that is lost in this way.
    pub(crate) fn of(kind: Kind, made: Made) -> Self {
        Self { kind: Some(kind), ..Self::new(made, None) }
    }

    /// For a time until a loss after which all that was lost comes back.
    pub(crate) fn until_lost(kind: Kind, made: Made, client: Option<Client>) -> Self {
        Self { is_given_back: true, kind: Some(kind), ..Self::new(made, client) }
    }

    /// For somebody who has no token.
    pub(crate) fn nobody() -> Self {
        Self::new(Made { id: String::new(), token: String::new() }, None)
    }
}

/// A verification that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) token: Arc<Kept>,
    pub(crate) node: usize,
    pub(crate) door: Door,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) verdict: Verdict,
}

/// All that the clients share.
pub(crate) struct World {
    client: Client,
    pub(crate) keeper: Made,
    /// Where the nodes are; one that was killed comes back elsewhere.
    pub(crate) bases: RwLock<Vec<String>>,
    pub(crate) tokens: RwLock<Vec<Arc<Kept>>>,
    pub(crate) verified: Mutex<Vec<Verified>>,
    pub(crate) streams: Mutex<Vec<Arc<Stream>>>,
    /// What must not have happened, whenever it did.
    pub(crate) wrongs: Mutex<Vec<String>>,
    pub(crate) over: AtomicBool,
    probes: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl World {
    pub(crate) fn new(keeper: Made, bases: Vec<String>) -> Self {
        Self {
            client: Client::new(),
            keeper,
            bases: RwLock::new(bases),
            tokens: RwLock::default(),
            verified: Mutex::default(),
            streams: Mutex::default(),
            wrongs: Mutex::default(),
            over: AtomicBool::new(false),
            probes: Mutex::default(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(crate) fn api(&self, node: usize, made: &Made) -> Api {
        let base = self.bases.read().expect("whole")[node].clone();
        Api::new(self.client.clone(), &base, &made.token)
    }

    /// The same for a token's holder, wherever that is.
    pub(crate) fn api_of(&self, node: usize, kept: &Kept) -> Api {
        let base = self.bases.read().expect("whole")[node].clone();
        Api::new(kept.client.as_ref().unwrap_or(&self.client).clone(), &base, &kept.made.token)
    }

    /// Does something beside, and waits for it in the end.
    pub(crate) fn probe(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut probes = self.probes.lock().expect("whole");
        probes.retain(|probe| !probe.is_finished());
        probes.push(tokio::spawn(work));
    }

    pub(crate) fn wrong(&self, what: String) {
        self.wrongs.lock().expect("whole").push(what);
    }

    /// Whether an answer says that the node cannot tell; it says then when to ask again.
    pub(crate) fn is_unsure(&self, answer: &Response) -> bool {
        let is_unsure = answer.status() == 503;
        if is_unsure && !answer.headers().contains_key(RETRY_AFTER) {
            self.wrong(format!("a 503 without Retry-After, of {}", answer.url().path()));
        }
        is_unsure
    }

    /// Verifies a token; nothing is kept if there is no answer.
    pub(crate) async fn verify(&self, node: usize, door: Door, token: &Arc<Kept>) -> Option<Verdict> {
        let api = self.api(node, &token.made);
        let request = match door {
            Door::Rest => api.request(Method::GET, "/api/user"),
            Door::Mcp => mcp::call(&api, "/mcp", "trustrelay__whoami"),
        };
        let begun = Instant::now();
        let answer = request.timeout(PATIENCE).send().await.ok()?;
        let ended = Instant::now();
        let verdict = match answer.status().as_u16() {
            200 => Verdict::Accepted,
            401 => Verdict::Refused,
            503 if self.is_unsure(&answer) => Verdict::Unsure,
            other => {
                self.wrong(format!("{door:?} verification on node {node}: {other}"));
                return None;
            }
        };
        let token = Arc::clone(token);
        self.verified.lock().expect("whole").push(Verified { token, node, door, begun, ended, verdict });
        // So that the connection can be used again.
        let _ = answer.bytes().await;
        Some(verdict)
    }

    pub(crate) async fn keep_verifying(self: Arc<Self>, node: usize, door: Door, dice: Dice) {
        while !self.is_over() {
            let token = {
                let tokens = self.tokens.read().expect("whole");
                dice.pick(&tokens[tokens.len().saturating_sub(RECENT)..]).cloned()
            };
            if let Some(token) = token {
                self.verify(node, door, &token).await;
            }
            tokio::time::sleep(BETWEEN_VERIFICATIONS).await;
        }
    }

    /// Makes and revokes tokens through whichever node; the `stream` of a new one is told of it.
    pub(crate) async fn keep_changing(self: Arc<Self>, dice: Dice, stream: impl Fn(&Arc<Kept>, usize)) {
        while !self.is_over() {
            match self.next_change(&dice) {
                None => {
                    if let Some(token) = self.create(dice.below(NODES)).await
                        && dice.percent(STREAMS)
                    {
                        stream(&token, dice.below(NODES));
                    }
                }
                Some(token) => self.revoke(&token, &dice).await,
            }
            tokio::time::sleep(BETWEEN_CHANGES).await;
        }
    }

    /// The token to revoke; none if it is time to make another one.
    fn next_change(&self, dice: &Dice) -> Option<Arc<Kept>> {
        let tokens = self.tokens.read().expect("whole");
        let live: Vec<_> = tokens.iter().filter(|token| token.asked.get().is_none()).collect();
        if live.len() < LIVE.start || (live.len() < LIVE.end && dice.percent(50)) {
            return None;
        }
        // Of two who choose the same one, one has it.
        let token = dice.pick(&live)?;
        token.asked.set(Instant::now()).is_ok().then(|| Arc::clone(token))
    }

    pub(crate) async fn create(&self, node: usize) -> Option<Arc<Kept>> {
        let body = json!({ "pat_name": "by-history", "pat_scope": "mcp api" });
        let request = self.api(node, &self.keeper).request(Method::POST, TOKENS).json(&body);
        let answer = request.timeout(PATIENCE).send().await.ok()?;
        if self.is_unsure(&answer) {
            return None;
        }
        if answer.status() != 201 {
            self.wrong(format!("a creation on node {node}: {}", answer.status()));
            return None;
        }
        let body: Value = answer.json().await.ok()?;
        let text = |key: &str| body["value"][key].as_str().expect(key).to_owned();
        let made = Made { id: text("pat_id"), token: text("pat_token") };
        let kept = Arc::new(Kept::new(made, None));
        self.tokens.write().expect("whole").push(Arc::clone(&kept));
        Some(kept)
    }

    /// Revokes a token, through one node after the other until one answers.
    async fn revoke(self: &Arc<Self>, token: &Arc<Kept>, dice: &Dice) {
        loop {
            match self.revoke_once(dice.below(NODES), &token.made.id).await {
                Some(revoked_at) => {
                    let _ = token.answered.set((Instant::now(), revoked_at));
                    break;
                }
                None => token.was_unsure.store(true, Ordering::SeqCst),
            }
            tokio::time::sleep(BETWEEN_CHANGES).await;
        }
        // Nothing is as likely to be accepted too late as what comes right after the answer.
        for (node, door) in (0..NODES).flat_map(|node| [(node, Door::Rest), (node, Door::Mcp)]) {
            let (world, token) = (Arc::clone(self), Arc::clone(token));
            self.probe(async move {
                world.verify(node, door, &token).await;
            });
        }
    }

    /// What a revocation's answer says about its moment; `None` if there is no answer, or it is
    /// 503.
    pub(crate) async fn revoke_once(&self, node: usize, id: &str) -> Option<String> {
        let request = self.api(node, &self.keeper).request(Method::DELETE, &format!("{TOKENS}/{id}"));
        let answer = request.timeout(PATIENCE).send().await.ok()?;
        if self.is_unsure(&answer) {
            return None;
        }
        if answer.status() != 200 {
            self.wrong(format!("a revocation on node {node}: {}", answer.status()));
            return None;
        }
        // The headers are the answer already; a node that is killed in the middle of it is asked
        // again, which is only later.
        let body: Value = answer.json().await.ok()?;
        Some(body["value"]["revoked_at"].as_str().expect("a moment").to_owned())
    }

    /// Waits until all that was asked is answered.
    pub(crate) async fn settle(&self) {
        let probes = std::mem::take(&mut *self.probes.lock().expect("whole"));
        for probe in probes {
            probe.await.expect("verifies");
        }
    }

    /// How many verifications came to what.
    pub(crate) fn counts(&self) -> HashMap<(Door, Verdict), usize> {
        let mut counts = HashMap::new();
        for verified in &*self.verified.lock().expect("whole") {
            *counts.entry((verified.door, verified.verdict)).or_default() += 1;
        }
        counts
    }
}
