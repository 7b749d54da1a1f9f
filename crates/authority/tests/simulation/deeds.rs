//! Deeds that begin while their power is being taken away, and browser sessions: asked for, and
//! held against what was answered.

use trustrelay_authority::*;
use trustrelay_token::Verifier as _;

use crate::history::{Events, Moment, Switched, TokenNumber, Verdict, Verified};
use crate::node::Node;
use crate::powers::Power;
use crate::world::{PASSWORD, PASSWORD_HASH, USERS, World};

/// The credential that a deed is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    Token(TokenNumber),
    Session(usize),
}

/// A change that was done. Its caller was judged some time before it began.
#[derive(Debug, Clone)]
pub struct Deed {
    pub by: Credential,
    pub node: usize,
    pub began: Moment,
    pub ended: Moment,
    /// True if it takes an administrator.
    pub is_admins: bool,
    /// What the node's wall clock showed at the beginning.
    pub clock: jiff::Timestamp,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Refused for want of power: nothing of it may be in the store.
    Refused,
    /// The answer was lost, or something else was wrong.
    Unsure,
}

impl Outcome {
    fn of<T>(result: &Result<T, AuthorityError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(AuthorityError::Denied(denied))
                if !matches!(denied, trustrelay_token::Denied::Unavailable { .. }) =>
            {
                Self::Refused
            }
            Err(AuthorityError::SignedOut | AuthorityError::NotAdministrator) => Self::Refused,
            Err(_) => Self::Unsure,
        }
    }
}

/// A browser session, and what has ended it.
#[derive(Debug, Clone, Default)]
pub struct Session {
    pub user: usize,
    /// Each sign-out and each change of the password: when it began, and when it was answered.
    pub ended: Vec<(Moment, Option<Moment>)>,
}

/// Somebody came with a session's cookie.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "the node is for whoever reads what was wrong")]
pub struct Looked {
    pub session: usize,
    pub node: usize,
    pub began: Moment,
    pub ended: Moment,
    pub is_good: bool,
}

impl Events {
    /// Returns true if a session surely had ended: disabling an account ends its sessions for good.
    fn has_ended(&self, session: &Session, before: Moment) -> bool {
        let is_before = |answered: Option<Moment>| answered.is_some_and(|answered| answered < before);
        session.ended.iter().any(|(_, answered)| is_before(*answered))
            || self.disablings(session.user).any(|switched| is_before(switched.answered))
    }

    fn may_have_ended(&self, session: &Session, before: Moment) -> bool {
        session.ended.iter().any(|(began, _)| *began < before)
            || self.disablings(session.user).any(|switched| switched.began < before)
    }

    fn disablings(&self, user: usize) -> impl Iterator<Item = &Switched> {
        self.switched.iter().filter(move |switched| switched.user == user && switched.disabled)
    }

    /// A use of whatever an account has, for the rules about accounts.
    fn use_of(&self, token: TokenNumber, deed: (usize, Moment, Moment)) -> Verified {
        let (node, began, ended) = deed;
        let clock = (jiff::Timestamp::MIN, jiff::Timestamp::MIN);
        Verified { token, node, began, ended, verdict: Verdict::Accepted, powers: Vec::new(), clock }
    }

    /// Deeds that were done although their power had been taken away before they began.
    pub fn misdone(&self) -> Vec<String> {
        let done = self.deeds.iter().filter(|deed| deed.outcome == Outcome::Done);
        done.filter_map(|deed| {
            let at = (deed.node, deed.began, deed.ended);
            let user = match deed.by {
                Credential::Token(token) => {
                    let mut used = self.use_of(token, at);
                    used.clock = (deed.clock, deed.clock);
                    if let Some(why) = self.should_be_refused(&used) {
                        return Some(format!("{deed:?}: {why}"));
                    }
                    self.tokens[token].user
                }
                Credential::Session(session) => {
                    let session = &self.sessions[session];
                    if self.has_ended(session, deed.began) {
                        return Some(format!("{deed:?}: its session had ended: {session:?}"));
                    }
                    session.user
                }
            };
            let lacks = deed.is_admins && self.lacks(user, Power::Admin, deed.began, deed.ended);
            lacks.then(|| format!("{deed:?}: by somebody who was no administrator any more"))
        })
        .collect()
    }

    /// Sessions that were taken although they had ended, or refused although nobody had ended them.
    pub fn missigned(&self) -> Vec<String> {
        let wrong = self.looked.iter().filter(|looked| {
            let session = &self.sessions[looked.session];
            if looked.is_good {
                self.has_ended(session, looked.began)
            } else {
                !self.may_have_ended(session, looked.ended)
            }
        });
        wrong.map(|looked| format!("{looked:?}: {:?}", self.sessions[looked.session])).collect()
    }
}

impl World {
    /// Makes a token with another one, some time after that was judged.
    pub async fn issue_child(&self, node: &Node, parent: TokenNumber) {
        let secret = self.tokens.lock()[parent].clone();
        let Ok(principal) = node.authority.verify(secret).wait().await else { return };
        let by = By::new(principal, None);
        if let Some(issued) = self.do_deed(node, Credential::Token(parent), &by).await {
            let user = self.history.0.lock().tokens[parent].user;
            self.remember(issued, user, Some(parent));
        }
    }

    /// Makes a token in a browser session, some time after that was judged.
    pub async fn issue_in_session(&self, node: &Node, session: usize) {
        let cookie = self.cookies[session].clone();
        let Ok(Some(by)) = node.authority.authenticate_browser(&cookie, None).await else { return };
        if let Some(issued) = self.do_deed(node, Credential::Session(session), &by).await {
            let user = self.history.0.lock().sessions[session].user;
            self.remember(issued, user, None);
        }
    }

    async fn do_deed(&self, node: &Node, credential: Credential, by: &By) -> Option<Issued> {
        let name = format!("deed {}", self.history.moment());
        let new =
            NewPat { name: name.clone(), scope: "mcp".into(), expiry: Expiry::Default, ..NewPat::default() };
        let work = node.authority.issue(by, new);
        let (outcome, issued) = self.after_a_while(node, credential, false, work).await;
        if outcome == Outcome::Refused {
            self.refused.lock().push(name);
        }
        issued
    }

    /// Invites somebody, some time after the inviting administrator was judged.
    pub async fn invite(&self, node: &Node, token: TokenNumber) {
        let secret = self.tokens.lock()[token].clone();
        let Ok(principal) = node.authority.verify(secret).wait().await else { return };
        if !principal.is_admin() {
            return;
        }
        let by = By::new(principal, None);
        let email = format!("guest{}@example.org", self.history.moment());
        let work = node.authority.invite(&by, &email, false);
        let (outcome, _) = self.after_a_while(node, Credential::Token(token), true, work).await;
        if outcome == Outcome::Refused {
            self.refused.lock().push(email.clone());
        }
    }

    async fn after_a_while<T>(
        &self,
        node: &Node,
        by: Credential,
        is_admins: bool,
        work: impl Future<Output = Result<T, AuthorityError>>,
    ) -> (Outcome, Option<T>) {
        // The body of a request may come as late as its client likes.
        tokio::time::sleep(self.dice.millis(300)).await;
        let (began, clock) = (self.history.moment(), node.clock.now());
        let set_at = node.clock.set_at();
        let result = work.await;
        let ended = self.history.moment();
        let outcome = Outcome::of(&result);
        // A clock that is set meanwhile may have been looked at before or after.
        let clock = if node.clock.set_at() == set_at { clock } else { jiff::Timestamp::MIN };
        let deed = Deed { by, node: node.number, began, ended, is_admins, clock, outcome };
        self.history.0.lock().deeds.push(deed);
        (outcome, result.ok())
    }

    /// Comes with a session's cookie.
    pub async fn look_in(&self, node: &Node, session: usize) {
        let began = self.history.moment();
        let looked = node.authority.authenticate_session(&self.cookies[session]).await;
        let ended = self.history.moment();
        if let Ok(found) = looked {
            let looked = Looked { session, node: node.number, began, ended, is_good: found.is_some() };
            self.history.0.lock().looked.push(looked);
        }
    }

    pub async fn sign_out(&self, node: &Node, session: usize) {
        let ends = self.end_begins(|number, _| number == session);
        if node.authority.logout(&self.cookies[session], None).await.is_ok() {
            self.end_is_answered(&ends);
        }
    }

    /// Sets an account's password, which ends all its sessions.
    pub async fn change_password(&self, node: &Node, user: usize) {
        let ends = self.end_begins(|_, of| of == user);
        let now = node.clock.now();
        let audit =
            AuditEntry::new(now, Actor::OPERATOR, "account.password_changed").of_user(self.user_ids[user]);
        if node.wire.set_password(self.user_ids[user], &PASSWORD_HASH, None, &audit).await.is_ok() {
            self.end_is_answered(&ends);
        }
    }

    fn end_begins(&self, ends: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
        let began = self.history.moment();
        let mut events = self.history.0.lock();
        let mut begun = Vec::new();
        for (number, session) in events.sessions.iter_mut().enumerate() {
            if ends(number, session.user) {
                session.ended.push((began, None));
                begun.push((number, session.ended.len() - 1));
            }
        }
        begun
    }

    fn end_is_answered(&self, ends: &[(usize, usize)]) {
        let answered = self.history.moment();
        let mut events = self.history.0.lock();
        for (session, end) in ends {
            events.sessions[*session].ended[*end].1 = Some(answered);
        }
    }

    /// Nothing of what was refused is in the store.
    pub async fn nothing_refused_is_there(&self) {
        let store = &self.database.store;
        let mut there = Vec::new();
        for user_id in &self.user_ids {
            let pats = store.active_pats(*user_id, jiff::Timestamp::MIN).await.expect("asks");
            there.extend(pats.into_iter().map(|pat| pat.name));
        }
        let invites = store.invites(jiff::Timestamp::MIN).await.expect("asks");
        there.extend(invites.into_iter().map(|invite| invite.email));
        let refused = self.refused.lock().clone();
        let wrong = refused.iter().filter(|name| there.contains(name));
        let wrong: Vec<_> = wrong.map(|name| format!("`{name}` was refused, and is in the store")).collect();
        self.history.0.lock().wrong.extend(wrong);
    }

    /// The accounts' sessions, from before the schedule begins.
    pub async fn signed_in(command: &Node) -> (Vec<String>, Vec<Session>) {
        let (mut cookies, mut sessions) = (Vec::new(), Vec::new());
        for (user, email) in USERS.into_iter().enumerate() {
            for _ in 0..2 {
                let signed_in = command.authority.login(email, PASSWORD.into(), None).await;
                cookies.push(signed_in.expect("in fine weather").0.expose().to_owned());
                sessions.push(Session { user, ended: Vec::new() });
            }
        }
        (cookies, sessions)
    }
}
