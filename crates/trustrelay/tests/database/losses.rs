//! Takes rights away by every door that there is, while a history goes on.

#![allow(clippy::disallowed_methods, reason = "the servers' clock is this machine's")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::header::SET_COOKIE;
use jiff::Timestamp;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, block_in_place};

use crate::dice::Dice;
use crate::load::{Kept, NODES, PATIENCE, World};
use crate::mcp::{Clock, call};
use crate::nodes::Nodes;
use crate::rights::{Kind, Right};
use crate::streams::{self, follow};
use crate::support::{Made, PASSWORD};
use crate::{Shared, made_for};

const ROOT: &str = "root@example.org";
/// The accounts whose rights are taken away and given back.
const ACCOUNTS: [(Kind, &str); 4] = [
    (Kind::Account, "account@example.org"),
    (Kind::Administrator, "admin@example.org"),
    (Kind::Upstream, "upstream@example.org"),
    (Kind::Network, "network@example.org"),
];
/// The accounts whose browser sessions end.
const SIGNED_IN: [(Kind, &str); 2] =
    [(Kind::SignOut, "signout@example.org"), (Kind::Password, "password@example.org")];
/// Another address of this machine, from which some clients come.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];
/// The kinds that end a token, or a secret of it, for good.
const ENDING: [Kind; 5] = [Kind::Parent, Kind::Rotation, Kind::Overlap, Kind::FirstUse, Kind::Expiry];
const TOKENS: &str = "/api/user/personal-access-tokens";
/// Between two things that one task does.
const PAUSE: Duration = Duration::from_millis(250);
/// The newest rights are used most.
const RECENT: usize = 24;
/// Two clocks are compared when a time of the server's becomes one of the test's.
const CLOCKS: Duration = Duration::from_millis(30);

/// Everything that the tasks share.
pub(crate) struct Losses {
    world: Arc<World>,
    clock: Arc<Clock>,
    /// An administrator's token, which nobody takes anything from.
    root: Made,
    user_ids: Vec<String>,
    elsewhere: Client,
    rights: std::sync::Mutex<Vec<Arc<Right>>>,
    /// How many rounds of faults are over. What was asked before has been done by then, or never
    /// will be.
    pub(crate) rounds: AtomicUsize,
    dice: Dice,
}

/// Makes the accounts, before anything goes wrong.
fn prepare(shared: &Shared) -> (Made, Vec<Made>, Vec<String>) {
    let add = |email: &str, more: &[&str]| {
        let args = [&["user", "add", email, "--password-stdin"], more].concat();
        shared.run(&args).stdin(PASSWORD).done().good();
    };
    add(ROOT, &["--admin"]);
    SIGNED_IN.iter().for_each(|(_, email)| add(email, &[]));
    let made = ACCOUNTS.iter().map(|(kind, email)| {
        add(email, if *kind == Kind::Administrator { &["--admin"] } else { &[] });
        made_for(|args| shared.run(args), email, "api mcp")
    });
    let made = made.collect();
    let root = made_for(|args| shared.run(args), ROOT, "api tokens");
    let users = shared.run(&["user", "list", "--json"]).done().good();
    let users: Vec<Value> = serde_json::from_str(&users).expect("JSON");
    let id_of = |email: &str| {
        let user = users.iter().find(|user| user["email"] == email).expect("it is there");
        user["user_id"].as_str().expect("an id").to_owned()
    };
    (root, made, ACCOUNTS.iter().map(|(_, email)| id_of(email)).collect())
}

impl Losses {
    pub(crate) fn begin(nodes: &Nodes, world: &Arc<World>, clock: &Arc<Clock>, seed: u64) -> Arc<Self> {
        let (root, made, user_ids) = block_in_place(|| prepare(nodes.shared()));
        let elsewhere = Client::builder().local_address(std::net::IpAddr::from(ELSEWHERE)).build();
        let losses = Arc::new(Self {
            world: Arc::clone(world),
            clock: Arc::clone(clock),
            root,
            user_ids,
            elsewhere: elsewhere.expect("a client"),
            rights: std::sync::Mutex::default(),
            rounds: AtomicUsize::new(0),
            dice: Dice::new(seed),
        });
        for ((kind, _), made) in ACCOUNTS.into_iter().zip(made) {
            let client = (kind == Kind::Network).then(|| losses.elsewhere.clone());
            losses.add(Right::of_token(kind, Arc::new(Kept::until_lost(kind, made, client))));
        }
        losses
    }

    /// Begins to take away, to give back and to use.
    pub(crate) fn tasks(self: &Arc<Self>, nodes: &Nodes) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        let toggled = self.rights.lock().expect("whole").clone();
        for (number, right) in toggled.into_iter().enumerate() {
            tasks.push(tokio::spawn(Arc::clone(self).keep_toggling(number, right)));
        }
        for _ in 0..2 {
            tasks.push(tokio::spawn(Arc::clone(self).keep_ending()));
        }
        let shared = Arc::clone(nodes.shared());
        let set_password = move |email: &str| {
            let args = ["user", "set-password", email, "--password-stdin"];
            shared.run(&args).stdin(PASSWORD).done().code == Some(0)
        };
        tasks.push(tokio::spawn(Arc::clone(self).keep_signing_in(set_password)));
        for node in 0..NODES {
            tasks.push(tokio::spawn(Arc::clone(self).keep_using(node)));
        }
        tasks
    }

    pub(crate) fn rights(&self) -> Vec<Arc<Right>> {
        self.rights.lock().expect("whole").clone()
    }

    /// Ends a right of each kind once while all is well, so that each has been seen.
    pub(crate) async fn all_once(self: &Arc<Self>) {
        for kind in ENDING {
            self.end(kind).await;
        }
    }

    fn add(&self, right: Arc<Right>) -> Arc<Right> {
        self.rights.lock().expect("whole").push(Arc::clone(&right));
        right
    }

    async fn keep_using(self: Arc<Self>, node: usize) {
        while !self.world.is_over() {
            let right = {
                let rights = self.rights.lock().expect("whole");
                let recent = &rights[rights.len().saturating_sub(RECENT)..];
                let toggled = &rights[..ACCOUNTS.len().min(rights.len())];
                self.dice.pick(if self.dice.percent(40) { toggled } else { recent }).cloned()
            };
            if let Some(right) = right {
                right.used(&self.world, node, self.dice.percent(50)).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Uses a right on every node at once: nothing is as likely to be accepted too late as what
    /// comes right after the answer.
    fn probe(self: &Arc<Self>, right: &Arc<Right>) {
        for (node, by_mcp) in (0..NODES).flat_map(|node| [(node, false), (node, true)]) {
            let (losses, right) = (Arc::clone(self), Arc::clone(right));
            self.world.probe(async move { right.used(&losses.world, node, by_mcp).await });
        }
    }

    /// Opens a stream that needs the right.
    fn open(self: &Arc<Self>, right: &Right) {
        let kind = *self.dice.pick(&streams::KINDS).expect("there are some");
        let (world, clock, kept) = (Arc::clone(&self.world), Arc::clone(&self.clock), right.kept());
        tokio::spawn(follow(world, clock, kept, self.dice.below(NODES), kind));
    }

    /// Returns the value of an answer that says that it was done.
    async fn done(&self, request: RequestBuilder) -> Option<Value> {
        let answer = request.timeout(PATIENCE).send().await.ok()?;
        if !answer.status().is_success() {
            if !self.world.is_unsure(&answer) {
                self.world.wrong(format!("{}: {}", answer.url().path(), answer.status()));
            }
            return None;
        }
        let body: Value = answer.json().await.ok()?;
        Some(body["value"].clone())
    }

    fn by_root(&self, method: Method, path: &str) -> RequestBuilder {
        self.world.api(self.dice.below(NODES), &self.root).request(method, path)
    }

    fn by_keeper(&self, method: Method, path: &str) -> RequestBuilder {
        self.world.api(self.dice.below(NODES), &self.world.keeper).request(method, path)
    }

    /// Takes a right away, or gives it back.
    fn change(&self, number: usize, kind: Kind, is_back: bool) -> RequestBuilder {
        let user = |body: Value| {
            let path = format!("/api/admin/users/{}", self.user_ids[number]);
            self.by_root(Method::PATCH, &path).json(&body)
        };
        match kind {
            Kind::Account => user(json!({ "is_disabled": !is_back })),
            Kind::Administrator => user(json!({ "is_admin": is_back })),
            Kind::Upstream if is_back => user(json!({ "upstreams": null })),
            Kind::Upstream => user(json!({ "upstreams": [] })),
            _ => {
                let networks = if is_back { "127.0.0.0/8" } else { "127.0.0.1/32" };
                self.by_root(Method::PUT, "/api/admin/policy").json(&json!({
                    "max_days": null, "default_days": null, "allowed_scopes": [], "unused_days": null,
                    "allowed_networks": [networks],
                }))
            }
        }
    }

    /// Changes something for certain. A request without an answer may be done at any time until all
    /// is well again, so nothing else is asked for before.
    async fn change_surely(&self, number: usize, kind: Kind, is_back: bool) -> bool {
        loop {
            let round = self.rounds.load(Ordering::SeqCst);
            if self.done(self.change(number, kind, is_back)).await.is_some() {
                return true;
            }
            while self.rounds.load(Ordering::SeqCst) == round {
                if self.world.is_over() {
                    return false;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn keep_toggling(self: Arc<Self>, number: usize, right: Arc<Right>) {
        while !self.world.is_over() {
            // Nothing on a stream needs an administrator.
            if right.kind != Kind::Administrator {
                self.open(&right);
            }
            tokio::time::sleep(PAUSE * 2).await;
            right.loss_is_asked(Instant::now());
            if !self.change_surely(number, right.kind, false).await {
                return;
            }
            right.loss_is_answered(Instant::now());
            self.probe(&right);
            tokio::time::sleep(PAUSE).await;
            right.return_is_asked();
            // The streams of the time before stay lost; those that come are another token's, as it
            // were.
            let before = right.kept();
            *right.kept.lock().expect("whole") =
                Arc::new(Kept::until_lost(right.kind, before.made.clone(), before.client.clone()));
            if !self.change_surely(number, right.kind, true).await {
                return;
            }
            right.return_is_answered();
        }
    }

    async fn create(&self, made_by: &Made, body: Value) -> Option<Made> {
        let api = self.world.api(self.dice.below(NODES), made_by);
        let value = self.done(api.request(Method::POST, TOKENS).json(&body)).await?;
        let text = |key: &str| value[key].as_str().expect(key).to_owned();
        Some(Made { id: text("pat_id"), token: text("pat_token") })
    }

    /// What has no answer is over for this token: it is judged as far as it is known.
    async fn end(self: &Arc<Self>, kind: Kind) {
        let _ = match kind {
            Kind::Parent => self.end_parent().await,
            Kind::Expiry => self.expire().await,
            _ => self.rotate(kind).await,
        };
    }

    async fn keep_ending(self: Arc<Self>) {
        let mut kinds = ENDING;
        while !self.world.is_over() {
            self.dice.shuffle(&mut kinds);
            for kind in &kinds {
                if self.world.is_over() {
                    return;
                }
                self.end(*kind).await;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// A right that is new, used and has something open.
    async fn begin_right(self: &Arc<Self>, kind: Kind, made: Made) -> Arc<Right> {
        let right = self.add(Right::of_token(kind, Arc::new(Kept::of(kind, made))));
        self.open(&right);
        self.probe(&right);
        tokio::time::sleep(PAUSE).await;
        right
    }

    async fn end_parent(self: &Arc<Self>) -> Option<()> {
        let keeper = self.world.keeper.clone();
        let parent = json!({ "pat_name": "parent", "pat_scope": "tokens mcp api" });
        let parent = self.create(&keeper, parent).await?;
        let child = self.create(&parent, json!({ "pat_name": "child", "pat_scope": "mcp api" })).await?;
        let right = self.begin_right(Kind::Parent, child).await;
        right.loss_is_asked(Instant::now());
        self.done(self.by_keeper(Method::DELETE, &format!("{TOKENS}/{}", parent.id))).await?;
        right.loss_is_answered(Instant::now());
        self.probe(&right);
        Some(())
    }

    async fn expire(self: &Arc<Self>) -> Option<()> {
        let expires_at = Timestamp::now() + Duration::from_secs(2);
        let body =
            json!({ "pat_name": "short", "pat_scope": "mcp api", "expires_at": expires_at.to_string() });
        let keeper = self.world.keeper.clone();
        let made = self.create(&keeper, body).await?;
        let right = self.add(Right::of_token(Kind::Expiry, Arc::new(Kept::of(Kind::Expiry, made))));
        let end = self.ends_at(&right, expires_at);
        self.open(&right);
        self.probe(&right);
        tokio::time::sleep_until(end.into()).await;
        self.probe(&right);
        Some(())
    }

    /// A right ends at a time that the server has said; returns when it has surely ended.
    fn ends_at(&self, right: &Right, at: Timestamp) -> Instant {
        let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
        let end = Instant::now() + left;
        right.loss_is_asked(end.checked_sub(CLOCKS).unwrap_or(end));
        right.loss_is_answered(end + CLOCKS);
        end + CLOCKS
    }

    async fn rotate(self: &Arc<Self>, kind: Kind) -> Option<()> {
        let keeper = self.world.keeper.clone();
        let made = self.create(&keeper, json!({ "pat_name": "rotated", "pat_scope": "mcp api" })).await?;
        let path = format!("{TOKENS}/{}/rotate", made.id);
        let right = self.begin_right(kind, made).await;
        let body = match kind {
            Kind::Rotation => json!({ "overlap_seconds": 0 }),
            Kind::Overlap => json!({ "overlap_seconds": 1 }),
            _ => json!({ "until_first_use": true }),
        };
        if kind == Kind::Rotation {
            right.loss_is_asked(Instant::now());
        }
        let asked = Instant::now();
        let value = match self.done(self.by_keeper(Method::POST, &path).json(&body)).await {
            Some(value) => value,
            None => {
                // Without the answer it is not known when the overlap ends. Nobody has the new
                // secret.
                if kind == Kind::Overlap {
                    right.loss_is_asked(asked);
                }
                return None;
            }
        };
        match kind {
            Kind::Rotation => {
                right.loss_is_answered(Instant::now());
                self.probe(&right);
            }
            Kind::Overlap => {
                let until = value["old_secret"]["valid_until"].as_str().expect("a time");
                let end = self.ends_at(&right, until.parse().expect("a time"));
                tokio::time::sleep_until(end.into()).await;
                self.probe(&right);
            }
            _ => {
                let text = |key: &str| value[key].as_str().expect(key).to_owned();
                let new = Made { id: text("pat_id"), token: text("pat_token") };
                tokio::time::sleep(PAUSE).await;
                right.loss_is_asked(Instant::now());
                self.use_first(&right, &new).await;
                self.probe(&right);
            }
        }
        Some(())
    }

    /// Several use the new secret at once. Whoever is answered first may rely on the old one's end.
    async fn use_first(&self, right: &Arc<Right>, new: &Made) {
        let uses = (0..NODES).map(|node| -> BoxFuture<'_, ()> {
            Box::pin(async move {
                let request = call(&self.world.api(node, new), "/mcp", "trustrelay__whoami");
                let answer = request.timeout(PATIENCE).send().await;
                if answer.is_ok_and(|answer| answer.status() == 200) && right.is_only_asked() {
                    right.loss_is_answered(Instant::now());
                }
            })
        });
        futures_util::future::join_all(uses).await;
    }

    async fn keep_signing_in(self: Arc<Self>, set_password: impl Fn(&str) -> bool) {
        while !self.world.is_over() {
            for (kind, email) in SIGNED_IN {
                let Some(cookie) = self.sign_in(email).await else { continue };
                let right = self.add(Right::of_session(kind, cookie.clone()));
                self.probe(&right);
                tokio::time::sleep(PAUSE).await;
                right.loss_is_asked(Instant::now());
                let is_done = match kind {
                    Kind::Password => block_in_place(|| set_password(email)),
                    _ => self.sign_out(&cookie).await,
                };
                if is_done {
                    right.loss_is_answered(Instant::now());
                    self.probe(&right);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn nobody(&self, method: Method, path: &str) -> RequestBuilder {
        let nobody = Made { id: String::new(), token: String::new() };
        self.world.api(self.dice.below(NODES), &nobody).request(method, path).timeout(PATIENCE)
    }

    async fn sign_in(&self, email: &str) -> Option<String> {
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = self.nobody(Method::POST, "/api/auth/login").json(&body).send().await.ok()?;
        let cookie = answer.headers().get(SET_COOKIE)?.to_str().ok()?;
        Some(cookie.strip_prefix("session=")?.split(';').next()?.to_owned())
    }

    async fn sign_out(&self, cookie: &str) -> bool {
        let request = self.nobody(Method::POST, "/api/auth/logout");
        let answer = request.header(http::header::COOKIE, format!("session={cookie}")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}
