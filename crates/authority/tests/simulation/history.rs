//! What happened, in one order, and whether it was right.

use jiff::Timestamp;
use parking_lot::Mutex;
use trustrelay_token::Denied;
use uuid::Uuid;

use crate::deeds::{Deed, Looked, Session};
use crate::powers::{Granted, Power};
use crate::rotations::Rotated;

/// A place in the one order of all events.
pub type Moment = u64;

/// A token, as those outside know it: its place in the list of tokens.
pub type TokenNumber = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Revoked,
    /// The token has another secret.
    Retired,
    Expired,
    OwnerDisabled,
    Unavailable,
    Other,
}

impl Verdict {
    pub fn of<T>(result: &Result<T, Denied>) -> Self {
        match result {
            Ok(_) => Self::Accepted,
            Err(Denied::Revoked(_)) => Self::Revoked,
            Err(Denied::Retired(_)) => Self::Retired,
            Err(Denied::Expired(_)) => Self::Expired,
            Err(Denied::OwnerDisabled) => Self::OwnerDisabled,
            Err(Denied::Unavailable { .. }) => Self::Unavailable,
            Err(_) => Self::Other,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Token {
    pub pat_id: Uuid,
    pub user: usize,
    pub parent: Option<TokenNumber>,
    pub expires_at: Timestamp,
}

#[derive(Debug, Clone)]
#[expect(dead_code, reason = "the node is for whoever reads what was wrong")]
pub struct Verified {
    pub token: TokenNumber,
    pub node: usize,
    pub began: Moment,
    pub ended: Moment,
    pub verdict: Verdict,
    /// If it was accepted: what its account had then.
    pub powers: Vec<Power>,
    /// The earliest and the latest time that the node's wall clock showed meanwhile.
    pub clock: (Timestamp, Timestamp),
}

#[derive(Debug, Clone)]
pub struct Revoked {
    pub token: TokenNumber,
    pub began: Moment,
    /// When it was answered, with which time, and with how many sessions.
    pub answer: Option<(Moment, Timestamp, usize)>,
    /// What the nodes that held a lease at the answer, and the one that was asked, had cut by then.
    pub surely_cut: usize,
}

#[derive(Debug, Clone)]
pub struct Switched {
    pub user: usize,
    pub disabled: bool,
    pub began: Moment,
    pub answered: Option<Moment>,
}

/// Tokens may be used from anywhere by the policy from now on, or from nowhere that the clients
/// are.
#[derive(Debug, Clone)]
pub struct Decided {
    pub is_open: bool,
    pub began: Moment,
    pub answered: Option<Moment>,
}

/// Somebody stood at the door with a token that was good.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "the node is for whoever reads what was wrong")]
pub struct LetIn {
    pub node: usize,
    pub began: Moment,
    pub ended: Moment,
    /// Whether the policy let them in.
    pub is_in: bool,
}

/// Something of a stream that was handed on.
#[derive(Debug, Clone)]
pub struct HandedOn {
    pub token: TokenNumber,
    pub node: usize,
    /// When the verification had ended that it was opened after.
    pub began: Moment,
    /// Whether its account might use all upstreams then.
    pub had_wiki: bool,
    pub at: Moment,
    /// Whether the node held no lease when it came to the gate.
    pub waited: bool,
    /// What the node's wall clock showed, if it had not been set for as long as its node may take
    /// to notice.
    pub clock: Option<Timestamp>,
}

/// Streams that a node's change ended.
#[derive(Debug, Clone)]
pub struct Cut {
    pub pat_id: Uuid,
    pub streams: usize,
}

#[derive(Default)]
pub struct Events {
    pub now: Moment,
    pub tokens: Vec<Token>,
    pub verified: Vec<Verified>,
    pub revoked: Vec<Revoked>,
    pub rotated: Vec<Rotated>,
    pub switched: Vec<Switched>,
    pub granted: Vec<Granted>,
    pub decided: Vec<Decided>,
    pub deeds: Vec<Deed>,
    pub sessions: Vec<Session>,
    pub looked: Vec<Looked>,
    /// The latest time that any node's wall clock has shown.
    pub latest_clock: Timestamp,
    pub let_in: Vec<LetIn>,
    pub cuts: Vec<Cut>,
    pub handed_on: Vec<HandedOn>,
    /// How often something had to wait, and was of a revoked token when the lease was held again.
    pub held_back: usize,
    /// What was wrong on the spot.
    pub wrong: Vec<String>,
    /// How many processes ended and began again.
    pub restarts: usize,
}

#[derive(Default)]
pub struct History(pub Mutex<Events>);

impl History {
    /// The next moment.
    pub fn moment(&self) -> Moment {
        let mut events = self.0.lock();
        events.now += 1;
        events.now
    }
}

impl Events {
    /// Whether `token` is `ancestor`, or was made with it.
    pub fn descends(&self, token: TokenNumber, ancestor: TokenNumber) -> bool {
        let mut next = Some(token);
        while let Some(token) = next {
            if self.tokens[token].pat_id == self.tokens[ancestor].pat_id {
                return true;
            }
            next = self.tokens[token].parent;
        }
        false
    }

    /// All that is wrong with it.
    pub fn judge(&self) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        wrong.extend(self.verified.iter().filter_map(|verified| {
            let why = match verified.verdict {
                Verdict::Accepted => self.should_be_refused(verified)?,
                Verdict::Retired if self.may_be_retired(verified) => return None,
                Verdict::Expired if self.may_be_expired(verified) => return None,
                Verdict::Revoked | Verdict::OwnerDisabled if self.may_be_refused(verified) => return None,
                Verdict::Unavailable => return None,
                _ => "nothing that was asked for explains it".into(),
            };
            Some(format!("{verified:?}: {why}"))
        }));
        wrong.extend(self.misgranted());
        wrong.extend(self.misdone());
        wrong.extend(self.missigned());
        wrong.extend(self.revoked.iter().filter_map(|revoked| self.miscounted(revoked)));
        wrong.extend(self.let_in.iter().filter(|at_the_door| !self.may_be_let_in(at_the_door)).map(
            |at_the_door| format!("{at_the_door:?}: by no policy that held then, of {:?}", self.decided),
        ));
        wrong.extend(self.handed_on.iter().filter_map(|handed| {
            let why = self.should_be_held_back(handed)?;
            Some(format!("{handed:?} after {why}"))
        }));
        wrong
    }

    /// What was answered before something was handed on, and takes it away.
    fn should_be_held_back(&self, handed: &HandedOn) -> Option<String> {
        if let Some(revoked) = self.answered(handed.token, handed.at) {
            return Some(format!("{revoked:?}"));
        }
        if self.is_replaced(handed.token, handed.at) {
            return Some("a rotation that replaced its secret".into());
        }
        if handed.clock.is_some_and(|clock| self.has_ended_by(handed.token, handed.at, clock)) {
            return Some(format!("its end, by the clock of node {}", handed.node));
        }
        let since = |began: Moment, answered: Option<Moment>| {
            began > handed.began && answered.is_some_and(|answered| answered < handed.at)
        };
        let user = self.tokens[handed.token].user;
        let narrowed = self.granted.iter().find(|granted| {
            let takes = granted.user == user && granted.power == Power::Wiki && !granted.has;
            handed.had_wiki && takes && since(granted.began, granted.answered)
        });
        if let Some(narrowed) = narrowed {
            return Some(format!("{narrowed:?}"));
        }
        let shut = self.decided.iter().rfind(|one| !one.is_open && since(one.began, one.answered))?;
        let opened =
            self.decided.iter().any(|one| one.is_open && one.began > shut.began && one.began < handed.at);
        (!opened).then(|| format!("{shut:?}"))
    }

    /// A revocation of a token that was answered before.
    fn answered(&self, token: TokenNumber, before: Moment) -> Option<&Revoked> {
        self.revoked.iter().find(|revoked| {
            self.descends(token, revoked.token)
                && revoked.answer.is_some_and(|(answered, ..)| answered < before)
        })
    }

    pub fn should_be_refused(&self, verified: &Verified) -> Option<String> {
        if let Some(revoked) = self.answered(verified.token, verified.began) {
            return Some(format!("it was accepted after {revoked:?}"));
        }
        if self.is_replaced(verified.token, verified.began) {
            return Some("it was accepted after a rotation that replaced it".into());
        }
        if self.has_ended_by(verified.token, verified.began, verified.clock.0) {
            return Some("it was accepted after its end by the node's own clock".into());
        }
        let user = self.tokens[verified.token].user;
        let disabled = self.disabled_by(user, verified.began, verified.ended)?;
        Some(format!("it was accepted after {disabled:?}"))
    }

    /// The last answered disabling before something began, unless something that may have enabled
    /// began since.
    fn disabled_by(&self, user: usize, began: Moment, ended: Moment) -> Option<&Switched> {
        let of_owner = || self.switched.iter().filter(move |switched| switched.user == user);
        let disabled = of_owner().rfind(|switched| {
            switched.disabled && switched.answered.is_some_and(|answered| answered < began)
        })?;
        let enabled = of_owner()
            .any(|switched| !switched.disabled && switched.began > disabled.began && switched.began < ended);
        (!enabled).then_some(disabled)
    }

    fn may_be_refused(&self, verified: &Verified) -> bool {
        if verified.verdict == Verdict::Revoked {
            return self.revoked.iter().any(|revoked| {
                self.descends(verified.token, revoked.token) && revoked.began < verified.ended
            });
        }
        self.may_be_disabled(self.tokens[verified.token].user, verified.began, verified.ended)
    }

    fn may_be_disabled(&self, user: usize, began: Moment, ended: Moment) -> bool {
        let of_owner: Vec<_> = self.switched.iter().filter(|switched| switched.user == user).collect();
        // The last that was answered before it decides, unless something that disables began since.
        let last =
            of_owner.iter().rposition(|switched| switched.answered.is_some_and(|answered| answered < began));
        last.is_some_and(|last| of_owner[last].disabled)
            || of_owner[last.map_or(0, |last| last + 1)..]
                .iter()
                .any(|switched| switched.disabled && switched.began < ended)
    }

    /// Whether some policy that may have held meanwhile explains it: the last that was answered
    /// before, or one that was asked for since and began before the end. One that was never
    /// answered may have come to hold at any time.
    fn may_be_let_in(&self, at_the_door: &LetIn) -> bool {
        let last = self
            .decided
            .iter()
            .rposition(|one| one.answered.is_some_and(|answered| answered < at_the_door.began));
        let held = last.is_none_or(|last| self.decided[last].is_open);
        held == at_the_door.is_in
            || self.decided[last.map_or(0, |last| last + 1)..]
                .iter()
                .any(|one| one.is_open == at_the_door.is_in && one.began < at_the_door.ended)
    }

    fn miscounted(&self, revoked: &Revoked) -> Option<String> {
        let (_, _, counted) = revoked.answer?;
        let cut: usize = self
            .cuts
            .iter()
            .filter(|cut| {
                let token = self.tokens.iter().position(|token| token.pat_id == cut.pat_id);
                token.is_some_and(|token| self.descends(token, revoked.token))
            })
            .map(|cut| cut.streams)
            .sum();
        let alone = self.revoked.iter().all(|other| {
            other.began == revoked.began
                || !(self.descends(other.token, revoked.token) || self.descends(revoked.token, other.token))
        });
        let too_few = alone && counted < revoked.surely_cut;
        (counted > cut || too_few).then(|| format!("{revoked:?} counts {counted}; in all {cut} were cut"))
    }
}
