//! Rotations in their three forms, and what ends by the clock: asked for, and held against what was
//! answered.

use std::time::Duration;

use jiff::Timestamp;
use trustrelay_authority::*;
use uuid::Uuid;

use crate::history::{Events, Moment, TokenNumber, Verdict, Verified};
use crate::node::Node;
use crate::world::World;

/// How long a new secret's predecessor stays good in milliseconds, at most: within a schedule's
/// length.
const OVERLAP: usize = 600;

/// When the secret before the new one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the answer.
    AtOnce,
    /// At this time, by the clock of the first node that reaches it.
    At(Timestamp),
    /// When the new secret is used for the first time.
    FirstUse,
}

/// A token was given another secret. To those outside that is another token, of the same identity.
#[derive(Debug, Clone)]
pub struct Rotated {
    pub pat_id: Uuid,
    pub began: Moment,
    pub answer: Option<Answer>,
}

/// What the answer says.
#[derive(Debug, Clone)]
pub struct Answer {
    pub at: Moment,
    pub new: TokenNumber,
    /// The secret that was the latest known one, and when it ends.
    pub last: TokenNumber,
    pub end: End,
    /// Those before it. They have ended.
    pub earlier: Vec<TokenNumber>,
}

impl Events {
    fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.rotated.iter().filter_map(|rotated| rotated.answer.as_ref())
    }

    /// Returns true if a secret was replaced, on every node, by something that was answered before.
    pub fn is_replaced(&self, token: TokenNumber, before: Moment) -> bool {
        self.answers().filter(|answer| answer.at < before).any(|answer| {
            answer.earlier.contains(&token)
                || answer.last == token
                    && match answer.end {
                        End::AtOnce => true,
                        End::At(_) => false,
                        End::FirstUse => self.was_used(answer.new, before),
                    }
        })
    }

    fn was_used(&self, token: TokenNumber, before: Moment) -> bool {
        let accepted = |used: &Verified| used.token == token && used.verdict == Verdict::Accepted;
        self.verified.iter().any(|used| accepted(used) && used.ended < before)
    }

    /// Returns true if a token, or its secret, has come to its end by a clock.
    pub fn has_ended_by(&self, token: TokenNumber, before: Moment, clock: Timestamp) -> bool {
        let is_over = |answer: &Answer| {
            answer.at < before && answer.last == token && matches!(answer.end, End::At(end) if end <= clock)
        };
        self.tokens[token].expires_at <= clock || self.answers().any(is_over)
    }

    /// Returns true if the token may have another secret than this one by now.
    pub fn may_have_another_secret(&self, token: TokenNumber) -> bool {
        let of_it = self.rotated.iter().filter(|one| one.pat_id == self.tokens[token].pat_id);
        of_it
            .map(|one| one.answer.as_ref())
            .any(|answer| answer.is_none_or(|answer| answer.last == token || answer.earlier.contains(&token)))
    }

    /// Returns true if the token's life may have ended by the node's clock: the one that it had, or
    /// the one that a rotation gave it.
    pub fn may_be_expired(&self, verified: &Verified) -> bool {
        let token = &self.tokens[verified.token];
        let of_it =
            self.rotated.iter().filter(|one| one.pat_id == token.pat_id && one.began < verified.ended);
        let mut lives = of_it.map(|one| Some(self.tokens[one.answer.as_ref()?.new].expires_at));
        token.expires_at <= verified.clock.1 || lives.any(|end| end.is_none_or(|end| end <= verified.clock.1))
    }

    /// Returns true if something may have ended a secret: a rotation that began before and is not
    /// known to have spared it, or any node's clock.
    pub fn may_be_retired(&self, verified: &Verified) -> bool {
        let of_it = self.rotated.iter().filter(|one| one.pat_id == self.tokens[verified.token].pat_id);
        of_it.filter(|one| one.began < verified.ended).any(|one| {
            let Some(answer) = &one.answer else { return true };
            answer.earlier.contains(&verified.token)
                || answer.last == verified.token
                    && match answer.end {
                        End::AtOnce | End::FirstUse => true,
                        End::At(end) => end <= self.latest_clock,
                    }
        })
    }
}

impl World {
    /// Gives a token another secret. The one that it has is refused at once, after an overlap, or
    /// from the new one's first use on.
    pub async fn rotate(&self, node: &Node, token: TokenNumber) {
        let pat_id = self.history.0.lock().tokens[token].pat_id;
        // One at a time: of two, the answers do not say which secret is the later one.
        if !self.rotating.lock().insert(pat_id) {
            return;
        }
        let began = self.history.moment();
        let at = {
            let mut events = self.history.0.lock();
            events.rotated.push(Rotated { pat_id, began, answer: None });
            events.rotated.len() - 1
        };
        let overlap = match self.dice.below(10) {
            0..4 => Overlap::For(Duration::ZERO),
            4..7 => Overlap::UntilFirstUse,
            _ => Overlap::For(Duration::from_millis(1) + self.dice.millis(OVERLAP)),
        };
        let asked = Rotate { overlap, expiry: Expiry::Default, idempotency_key: None };
        if let Ok(rotated) = node.authority.rotate_any(pat_id, asked).await {
            let answered = self.history.moment();
            let mut secrets = self.tokens.lock();
            let mut events = self.history.0.lock();
            // Whatever secrets of it are known are older than this one.
            let mut earlier: Vec<_> =
                (0..events.tokens.len()).filter(|other| events.tokens[*other].pat_id == pat_id).collect();
            let last = earlier.pop().expect("the one that was rotated");
            let end = match overlap {
                Overlap::UntilFirstUse => End::FirstUse,
                Overlap::For(Duration::ZERO) => End::AtOnce,
                Overlap::For(_) => End::At(rotated.old_valid_until),
            };
            let mut ended = earlier.clone();
            ended.extend((end == End::AtOnce).then_some(last));
            let nodes = self.nodes.lock().clone();
            for node in nodes.iter().filter(|node| node.authority.holds_lease()) {
                if node.streams.has_secret(&ended) {
                    let number = node.number;
                    let wrong = format!("at {answered}, node {number} has a stream of one of {ended:?} open");
                    events.wrong.push(wrong);
                }
            }
            let mut new = events.tokens[token].clone();
            new.expires_at = rotated.record.expires_at;
            events.tokens.push(new);
            secrets.push(rotated.token);
            let new = events.tokens.len() - 1;
            events.rotated[at].answer = Some(Answer { at: answered, new, last, end, earlier });
        }
        self.rotating.lock().remove(&pat_id);
    }

    /// When all is well again: what a clock ends, it ends on every node.
    pub async fn every_overlap_ends(&self) {
        let nodes = self.nodes.lock().clone();
        let answers: Vec<Answer> = self.history.0.lock().answers().cloned().collect();
        tokio::time::sleep(Duration::from_millis(OVERLAP as u64)).await;
        let mut wrong = Vec::new();
        for answer in answers {
            let End::At(end) = answer.end else { continue };
            let Some(first) = nodes.iter().find(|node| node.clock.now() >= end) else { continue };
            let secret = self.tokens.lock()[answer.last].clone();
            let is_good = async |node: &Node| {
                use trustrelay_token::Verifier as _;
                node.authority.verify(secret.clone()).wait().await.is_ok()
            };
            if is_good(first).await {
                wrong.push(format!("in the end, node {} takes the secret of {answer:?}", first.number));
            }
            let spread = async {
                for node in &nodes {
                    while is_good(node).await {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            };
            if tokio::time::timeout(crate::world::BOUND, spread).await.is_err() {
                wrong.push(format!("in the end, a slower clock is asked about the secret of {answer:?}"));
            }
        }
        self.history.0.lock().wrong.extend(wrong);
    }
}
