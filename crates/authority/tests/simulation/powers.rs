//! What an account has beyond its standing: given, taken away, and held against what was answered.

use std::sync::Arc;

use jiff::Timestamp;
use trustrelay_authority::*;
use trustrelay_token::{Account, Principal};

use crate::history::{Events, Moment, Verdict, Verified};
use crate::node::Node;
use crate::world::{ROOT, USERS, World};

/// What an account has, or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It administers.
    Admin,
    /// It may use the upstream `wiki`: it is not held to others.
    Wiki,
}

impl Power {
    pub const ALL: [Self; 2] = [Self::Admin, Self::Wiki];

    /// Whether somebody has it just now.
    pub fn is_had_by(self, principal: &Principal) -> bool {
        match self {
            Self::Admin => principal.is_admin(),
            Self::Wiki => principal.account().upstreams.allow("wiki"),
        }
    }

    /// Whether each account has it at first.
    fn at_first(self) -> bool {
        self == Self::Wiki
    }

    /// All that somebody has just now.
    pub fn of(principal: Option<&Principal>) -> Vec<Self> {
        let had = |power: &Self| principal.is_some_and(|principal| power.is_had_by(principal));
        Self::ALL.into_iter().filter(had).collect()
    }
}

/// An account was given something, or it was taken away.
#[derive(Debug, Clone)]
pub struct Granted {
    pub user: usize,
    pub power: Power,
    pub has: bool,
    pub began: Moment,
    pub answered: Option<Moment>,
}

impl Events {
    /// Who was accepted and had what they should not, or lacked what they should have.
    pub fn misgranted(&self) -> Vec<String> {
        let accepted = self.verified.iter().filter(|verified| verified.verdict == Verdict::Accepted);
        let wrong =
            |verified| Power::ALL.into_iter().filter_map(move |power| self.misgranted_to(verified, power));
        accepted.flat_map(wrong).collect()
    }

    /// Returns true if an account surely lacked something meanwhile.
    pub fn lacks(&self, user: usize, power: Power, began: Moment, ended: Moment) -> bool {
        !self.may_be(user, power, true, (began, ended))
    }

    /// The last change that was answered before says whether an account has something, unless
    /// another began since.
    fn may_be(&self, user: usize, power: Power, has: bool, (began, ended): (Moment, Moment)) -> bool {
        let changes: Vec<_> =
            self.granted.iter().filter(|granted| granted.user == user && granted.power == power).collect();
        let last =
            changes.iter().rposition(|granted| granted.answered.is_some_and(|answered| answered < began));
        let before = last.map_or(power.at_first(), |last| changes[last].has);
        before == has
            || changes[last.map_or(0, |last| last + 1)..]
                .iter()
                .any(|granted| granted.has == has && granted.began < ended)
    }

    fn misgranted_to(&self, verified: &Verified, power: Power) -> Option<String> {
        let user = self.tokens[verified.token].user;
        let has = verified.powers.contains(&power);
        let is_right = self.may_be(user, power, has, (verified.began, verified.ended));
        (!is_right).then(|| format!("{verified:?}: {power:?} is {has}"))
    }
}

impl World {
    /// The administrator who makes all changes that need one. Nobody takes its power away.
    pub fn root(&self) -> By {
        let user_id = self.user_ids[USERS.len()];
        let account = Account { user_id, email: ROOT.into(), ..Account::default() };
        account.role.set_admin(true);
        By::new(Arc::new(Principal::with_session(Arc::new(account), Timestamp::MAX)), None)
    }

    /// Makes an account an administrator or holds it to other upstreams, or takes that back. One
    /// change at a time, as with its state.
    pub async fn grant(&self, node: &Node, user: usize, power: Power, has: bool) {
        let Ok(_alone) = self.granting[user].try_lock() else { return };
        let began = self.history.moment();
        let at = {
            let mut events = self.history.0.lock();
            events.granted.push(Granted { user, power, has, began, answered: None });
            events.granted.len() - 1
        };
        let change = match power {
            Power::Admin => PersonChange::Admin(has),
            Power::Wiki => PersonChange::Upstreams((!has).then(|| vec!["github".to_owned()])),
        };
        if node.authority.change_person(&self.root(), self.user_ids[user], change).await.is_ok() {
            let answered = self.history.moment();
            self.history.0.lock().granted[at].answered = Some(answered);
            let nodes = self.nodes.lock().clone();
            for node in nodes.iter().filter(|node| !has && node.authority.holds_lease()) {
                if node.streams.has_power(self.user_ids[user], power) {
                    let number = node.number;
                    let wrong = format!("at {answered}, {power:?} of user {user} goes on at node {number}");
                    self.history.0.lock().wrong.push(wrong);
                }
            }
        }
    }
}
