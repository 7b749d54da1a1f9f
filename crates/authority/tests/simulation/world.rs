//! Three nodes, a command and a database, and what clients and operators do to them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::*;
use trustrelay_token::{Token, Verifier};
use uuid::Uuid;

use crate::dice::Dice;
use crate::history::{self, History, Moment, TokenNumber, Verdict};
use crate::node::{Admitted, DRIFT, DriftingClock, LEASE, Node, open};
use crate::powers::Power;
use crate::wire::{Database, Weather};

const NODES: usize = 3;
/// Where all clients are.
pub const CLIENTS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
/// The accounts whose power is taken away and given back.
pub const USERS: [&str; 2] = ["ada@example.org", "bob@example.org"];
pub const ROOT: &str = "root@example.org";
pub const PASSWORD: &str = "correct horse battery";
/// Made once: it is the same in every schedule.
pub static PASSWORD_HASH: LazyLock<String> = LazyLock::new(|| {
    let params = Params::new(8, 2, 1, None).expect("parameters");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(PASSWORD.as_bytes()).expect("a hash").to_string()
});
/// How many things clients and operators do in one schedule.
const STEPS: usize = 150;
/// In microseconds. The database's clock is set ahead and back by many of them.
const MINUTE: i64 = 60_000_000;
/// Longer than anything may take: the longest lease, and some more.
pub const BOUND: Duration = Duration::from_secs(120);

pub struct World {
    pub history: Arc<History>,
    pub database: Arc<Database>,
    pub dice: Arc<Dice>,
    secret: ServerSecret,
    began: Instant,
    pub nodes: Mutex<Vec<Node>>,
    command: Node,
    pub tokens: Mutex<Vec<Token>>,
    pub cookies: Vec<String>,
    /// The names of what was refused: none may be in the store.
    pub refused: Mutex<Vec<String>>,
    pub user_ids: Vec<Uuid>,
    /// One change of an account's state at a time: else nobody could say which came last.
    pub rotating: Mutex<BTreeSet<Uuid>>,
    deciding: tokio::sync::Mutex<()>,
    switching: [tokio::sync::Mutex<()>; USERS.len()],
    pub granting: [tokio::sync::Mutex<()>; USERS.len()],
    restarting: [tokio::sync::Mutex<()>; NODES],
    running: Mutex<Vec<(Node, JoinHandle<()>)>>,
}

impl World {
    pub async fn new(seed: u64) -> Arc<Self> {
        let dice = Arc::new(Dice::new(seed));
        let weather = Weather {
            slow: dice.below(30),
            slowness: [20, 200, 900][dice.below(3)],
            lost: dice.below(15),
            unsure: dice.below(15),
            unheard: [0, 30, 100][dice.below(3)],
        };
        let database = Database::new(dice.clone(), Weather::FINE);
        let (history, began) = (Arc::<History>::default(), Instant::now());
        let secret = ServerSecret::generate().expect("random");
        let clock = DriftingClock::new(began, 0, 1000);
        let command = open(NODES, database.connect(), &secret, clock, &history).await;
        let mut user_ids = Vec::new();
        // One more, who always administers, so that nobody is the last.
        for (number, email) in USERS.into_iter().chain([ROOT]).enumerate() {
            let user = UserRecord {
                user_id: Uuid::from_u128(number as u128 + 1),
                email: email.into(),
                password_hash: PASSWORD_HASH.clone(),
                is_admin: email == ROOT,
                created_at: command.authority.clock().now(),
                disabled_at: None,
                upstreams: None,
            };
            database.store.insert_user(&user, &AUDIT).await.expect("added");
            user_ids.push(user.user_id);
        }
        let (cookies, sessions) = Self::signed_in(&command).await;
        history.0.lock().sessions = sessions;
        let world = Arc::new(Self {
            history,
            database,
            dice,
            secret,
            began,
            nodes: Mutex::default(),
            command,
            tokens: Mutex::default(),
            user_ids,
            switching: Default::default(),
            granting: Default::default(),
            rotating: Mutex::default(),
            deciding: tokio::sync::Mutex::default(),
            restarting: Default::default(),
            cookies,
            refused: Mutex::default(),
            running: Mutex::default(),
        });
        for number in 0..NODES {
            let node = world.begin(number).await;
            node.authority.start().await.expect("in fine weather");
            world.nodes.lock().push(node);
        }
        for user in [0, 0, 0, 1, 1] {
            world.issue(&world.command, user).await;
        }
        *world.database.weather.lock() = weather;
        world
    }

    async fn begin(&self, number: usize) -> Node {
        let span = DRIFT.end() - DRIFT.start();
        let thousandths = DRIFT.start() + u32::try_from(self.dice.below(span as usize + 1)).expect("small");
        let clock = DriftingClock::new(self.began, self.ahead(), thousandths);
        open(number, self.database.connect(), &self.secret, clock, &self.history).await
    }

    /// Returns how far a wall clock is set ahead: half agree, some are off by less than an overlap.
    fn ahead(&self) -> i64 {
        [0, 0, 0, 500_000, 60 * MINUTE, -500_000, -60 * MINUTE, 0][self.dice.below(8)]
    }

    /// What all wall clocks have shown at most.
    fn note_clocks(&self) {
        let shown = self.nodes.lock().iter().map(|node| node.clock.now()).max();
        let shown = shown.unwrap_or_default().max(self.command.clock.now());
        let mut events = self.history.0.lock();
        events.latest_clock = events.latest_clock.max(shown);
    }

    /// The whole schedule; what was wrong with it.
    pub async fn run(self: &Arc<Self>) -> Vec<String> {
        for _ in 0..STEPS {
            sleep(self.dice.millis(20)).await;
            self.step();
        }
        *self.database.weather.lock() = Weather::FINE;
        self.nodes.lock().iter().for_each(|node| node.wire.heal());
        let waited = timeout(BOUND, async {
            while self.is_waited_for() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        if waited.await.is_err() {
            return vec!["something that was asked for is never answered".into()];
        }
        self.note_clocks();
        self.in_the_end().await;
        self.every_overlap_ends().await;
        self.nothing_refused_is_there().await;
        self.history.0.lock().judge()
    }

    /// Whether something that was asked of a process that lives is not answered.
    fn is_waited_for(&self) -> bool {
        let mut running = self.running.lock();
        running.retain(|(node, task)| !task.is_finished() && !node.wire.has_ended());
        !running.is_empty()
    }

    fn step(self: &Arc<Self>) {
        self.note_clocks();
        let nodes: Vec<Node> = self.nodes.lock().iter().filter(|node| node.answers()).cloned().collect();
        let node = nodes.get(self.dice.below(NODES)).cloned().unwrap_or_else(|| self.command.clone());
        let is_node = node.number < NODES;
        let (me, mut asked) = (self.clone(), node.clone());
        let work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = match self.dice.below(100) {
            0..10 if is_node => {
                let Some(admitted) = node.streams.any(&self.dice) else { return };
                Box::pin(async move { me.hand_on(&node, &admitted).await })
            }
            10..62 if is_node => {
                let token = self.dice.below(self.tokens.lock().len());
                Box::pin(async move { me.verify(&node, token).await })
            }
            62..64 if is_node => {
                let session = self.dice.below(self.cookies.len());
                match self.dice.below(10) {
                    0..6 => Box::pin(async move { me.look_in(&node, session).await }),
                    6..8 => Box::pin(async move { me.issue_in_session(&node, session).await }),
                    8 => Box::pin(async move { me.sign_out(&node, session).await }),
                    _ => {
                        let user = self.dice.below(USERS.len());
                        Box::pin(async move { me.change_password(&node, user).await })
                    }
                }
            }
            64..67 if is_node => {
                let token = self.dice.below(self.tokens.lock().len());
                Box::pin(async move { me.issue_child(&node, token).await })
            }
            67 if is_node => {
                let token = self.dice.below(self.tokens.lock().len());
                Box::pin(async move { me.invite(&node, token).await })
            }
            68 if is_node => return node.clock.set(self.ahead()),
            69..76 => {
                let token = self.dice.below(self.tokens.lock().len());
                Box::pin(async move { me.revoke(&node, token).await })
            }
            76..83 => {
                let token = self.dice.below(self.tokens.lock().len());
                Box::pin(async move { me.rotate(&node, token).await })
            }
            83..86 => {
                let user = self.dice.below(USERS.len());
                Box::pin(async move { me.issue(&node, user).await })
            }
            86..90 => {
                let user = self.dice.below(USERS.len());
                let disabled = self.dice.percent(50);
                Box::pin(async move { me.switch(&node, user, disabled).await })
            }
            90..93 => return node.wire.pause(LEASE / 4 + self.dice.millis(1000)),
            93..96 => return node.wire.cut_off(LEASE / 4 + self.dice.millis(1000)),
            96 => return self.database.store.set_clock(MINUTE * (self.dice.below(61) as i64 - 30)),
            97 => Box::pin(async move { me.decide(&node).await }),
            98 if is_node => {
                asked = self.command.clone();
                Box::pin(async move { me.restart(&node).await })
            }
            99 => {
                let (user, power) = (self.dice.below(USERS.len()), Power::ALL[self.dice.below(2)]);
                let has = self.dice.percent(50);
                Box::pin(async move { me.grant(&node, user, power, has).await })
            }
            _ => return,
        };
        self.running.lock().push((asked, tokio::spawn(work)));
    }

    async fn verify(&self, node: &Node, token: TokenNumber) {
        let secret = self.tokens.lock()[token].clone();
        let (began, before, set_at) = (self.history.moment(), node.clock.now(), node.clock.set_at());
        let result = node.authority.verify(secret).wait().await;
        let (ended, after) = (self.history.moment(), node.clock.now());
        self.note_clocks();
        // A clock that is set meanwhile may have shown anything.
        let clock = match node.clock.set_at() == set_at {
            true => (before, after),
            false => (Timestamp::MIN, Timestamp::MAX),
        };
        let verdict = Verdict::of(&result);
        let narrowings = result.as_deref().map_or(0, |principal| principal.upstreams.narrowings());
        let powers = Power::of(result.as_deref().ok());
        let had_wiki = powers.contains(&Power::Wiki);
        let verified = history::Verified { token, node: node.number, began, ended, verdict, powers, clock };
        self.history.0.lock().verified.push(verified);
        if let Ok(principal) = &result {
            let is_in = node.authority.hold_to_limits(principal, Some(CLIENTS), true).is_ok();
            let ended = self.history.moment();
            self.history.0.lock().let_in.push(history::LetIn { node: node.number, began, ended, is_in });
        }
        if let Ok(principal) = result
            && self.dice.percent(50)
        {
            // A request may take a while before it holds something open.
            if self.dice.percent(50) {
                sleep(self.dice.millis(50)).await;
            }
            let admitted = Admitted { principal, token, at: ended, narrowings, had_wiki };
            let stream = node.streams.register(&admitted);
            tokio::task::yield_now().await;
            node.streams.ask(stream, &admitted);
        }
    }

    /// As long as it waits for its lease, so does what is handed on.
    async fn hand_on(&self, node: &Node, admitted: &Admitted) {
        let waited = !node.authority.holds_lease();
        let handed_on = timeout(LEASE * 8, node.hand_on(admitted)).await;
        let at = self.history.moment();
        // A node notices by its next renewal that its wall clock was set.
        let clock = node.clock.is_steady_for(LEASE * 2).then(|| node.clock.now());
        let mut events = self.history.0.lock();
        let Admitted { token, at: began, had_wiki, .. } = *admitted;
        match handed_on {
            Ok(true) => {
                events.handed_on.push(history::HandedOn {
                    token,
                    node: node.number,
                    began,
                    had_wiki,
                    at,
                    waited,
                    clock,
                });
            }
            Ok(false) if waited => events.held_back += 1,
            _ => {}
        }
    }

    async fn revoke(&self, node: &Node, token: TokenNumber) {
        let pat_id = self.history.0.lock().tokens[token].pat_id;
        let began = self.history.moment();
        let nodes = self.nodes.lock().clone();
        let had_joined = node.wire.has_joined();
        let leases: Vec<_> = nodes.iter().map(|node| node.wire.holds_since()).collect();
        let at = {
            let mut events = self.history.0.lock();
            events.revoked.push(history::Revoked { token, began, answer: None, surely_cut: 0 });
            events.revoked.len() - 1
        };
        if let Ok(revoked) = node.authority.revoke_any(pat_id).await {
            let answered = self.history.moment();
            // Those whose lease held all the time, and the one that was asked, if it had joined.
            let sure = nodes.iter().zip(leases).filter_map(|(other, lease)| {
                let held = lease.is_some() && other.wire.holds_since() == lease;
                (held || (had_joined && Arc::ptr_eq(&other.wire, &node.wire))).then_some(other)
            });
            let surely_cut = sure.map(|node| self.cut(node, token)).sum();
            self.look_for_open_streams(token, answered);
            let answer = Some((answered, revoked.revoked_at, revoked.sessions_terminated));
            let mut events = self.history.0.lock();
            events.revoked[at].answer = answer;
            events.revoked[at].surely_cut = surely_cut;
        }
    }

    fn family(&self, token: TokenNumber) -> BTreeSet<Uuid> {
        let events = self.history.0.lock();
        let family = (0..events.tokens.len()).filter(|other| events.descends(*other, token));
        family.map(|other| events.tokens[other].pat_id).collect()
    }

    /// What was cut on a node for a token and its children.
    fn cut(&self, node: &Node, token: TokenNumber) -> usize {
        let cut = node.streams.cut.lock();
        self.family(token).iter().filter_map(|pat_id| cut.get(pat_id)).sum()
    }

    /// Where a lease is held, nothing of a token whose revocation is answered may be open.
    fn look_for_open_streams(&self, token: TokenNumber, answered: Moment) {
        let nodes = self.nodes.lock().clone();
        for node in nodes.iter().filter(|node| node.authority.holds_lease()) {
            if self.family(token).into_iter().any(|pat_id| node.streams.has(pat_id)) {
                let wrong = format!("at {answered}, node {} has a stream of token {token} open", node.number);
                self.history.0.lock().wrong.push(wrong);
            }
        }
    }

    async fn issue(&self, node: &Node, user: usize) {
        let expiry = match self.dice.percent(20) {
            true => Expiry::At(node.clock.now() + Duration::from_millis(100) + self.dice.millis(1500)),
            false => Expiry::Default,
        };
        let new = NewPat { name: "ci".into(), scope: "mcp api tokens".into(), expiry, ..NewPat::default() };
        if let Ok(issued) = node.authority.issue_for(USERS[user], new).await {
            self.remember(issued, user, None);
        }
    }

    pub fn remember(&self, issued: Issued, user: usize, parent: Option<TokenNumber>) {
        self.tokens.lock().push(issued.token);
        let PatRecord { pat_id, expires_at, .. } = issued.record;
        self.history.0.lock().tokens.push(history::Token { pat_id, user, parent, expires_at });
    }

    async fn switch(&self, node: &Node, user: usize, disabled: bool) {
        let Ok(_alone) = self.switching[user].try_lock() else { return };
        let began = self.history.moment();
        let switched = history::Switched { user, disabled, began, answered: None };
        let at = {
            let mut events = self.history.0.lock();
            events.switched.push(switched);
            events.switched.len() - 1
        };
        if node.authority.set_disabled(USERS[user], disabled).await.is_ok() {
            let answered = self.history.moment();
            self.history.0.lock().switched[at].answered = Some(answered);
        }
    }

    /// The policy opens or shuts the networks that the clients are in. One change at a time, as
    /// with accounts.
    async fn decide(&self, node: &Node) {
        let Ok(_alone) = self.deciding.try_lock() else { return };
        let is_open = self.dice.percent(50);
        let elsewhere = "10.0.0.0/8".parse().expect("a network");
        let networks = if is_open { Vec::new() } else { vec![elsewhere] };
        let began = self.history.moment();
        let at = {
            let mut events = self.history.0.lock();
            events.decided.push(history::Decided { is_open, began, answered: None });
            events.decided.len() - 1
        };
        let policy = Policy { networks, ..Policy::default() };
        if node
            .authority
            .change_policy(&self.root(), PolicyChange { policy, ..PolicyChange::default() })
            .await
            .is_ok()
        {
            let answered = self.history.moment();
            self.history.0.lock().decided[at].answered = Some(answered);
        }
    }

    /// Kills or stops a node; either way another one takes its place.
    async fn restart(&self, node: &Node) {
        let Ok(_alone) = self.restarting[node.number].try_lock() else { return };
        if node.wire.has_ended() {
            return;
        }
        if self.dice.percent(50) {
            node.authority.stop().await;
        }
        node.wire.end();
        self.history.0.lock().restarts += 1;
        let new = self.begin(node.number).await;
        // It answers from the store before it joins.
        self.nodes.lock()[node.number] = new.clone();
        while new.authority.start().await.is_err() && !new.wire.has_ended() {}
    }

    /// All is well again: everything is as it was answered, on each node.
    async fn in_the_end(&self) {
        let nodes = self.nodes.lock().clone();
        let store = &self.database.store;
        let head = store.log_head().await.expect("asks");
        // Also of a change that nobody was told of: who asked for it was killed.
        let hold = async {
            while !nodes.iter().all(|node| node.authority.holds_lease())
                || !store.holders_behind(head, None).await.expect("asks").is_empty()
            {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let mut wrong = Vec::new();
        if timeout(BOUND, hold).await.is_err() {
            wrong.push("a node does not catch up and get its lease back".to_owned());
        }
        let tokens = self.history.0.lock().tokens.clone();
        for (number, token) in tokens.iter().enumerate() {
            let pat = self.database.store.pat_by_id(token.pat_id).await.expect("asks").expect("there");
            let owner = self.database.store.user_by_id(self.user_ids[token.user]).await.expect("asks");
            let owner = owner.expect("there");
            let stands = pat.revoked_at.is_none() && owner.disabled_at.is_none();
            for node in &nodes {
                let replaced = self.history.0.lock().may_have_another_secret(number);
                let before = node.clock.now();
                let stands = stands && before < token.expires_at;
                // Whether a rotation was made whose answer was lost, the secret alone can tell.
                let is_good = stands && !replaced;
                let secret = self.tokens.lock()[number].clone();
                let result = node.authority.verify(secret).wait().await;
                let has_just_expired = before < token.expires_at && token.expires_at <= node.clock.now();
                let unsure = has_just_expired
                    || stands && replaced && !self.history.0.lock().is_replaced(number, Moment::MAX);
                if result.is_ok() != is_good && !unsure {
                    wrong.push(format!("in the end, token {number} at node {}: {result:?}", node.number));
                }
                let granted = (owner.is_admin, owner.upstreams.is_none());
                if let Ok(had) = &result
                    && (had.is_admin(), Power::Wiki.is_had_by(had)) != granted
                {
                    wrong.push(format!(
                        "in the end, the powers of user {} at node {}",
                        token.user, node.number
                    ));
                }
                if (pat.revoked_at.is_some() || owner.disabled_at.is_some()) && node.streams.has(token.pat_id)
                {
                    wrong.push(format!(
                        "in the end, token {number} has a stream open at node {}",
                        node.number
                    ));
                }
            }
            let events = self.history.0.lock();
            for revoked in events.revoked.iter().filter(|revoked| revoked.token == number) {
                let durable = revoked.answer.is_none_or(|(_, at, _)| pat.revoked_at == Some(at));
                if !durable {
                    wrong.push(format!("{revoked:?} is lost: the store has {:?}", pat.revoked_at));
                }
            }
        }
        self.history.0.lock().wrong.extend(wrong);
    }
}
