//! What must be true of a history.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::faults::{Blind, Sick};
use crate::load::{Door, Kept, NODES, PATIENCE, Verdict, Verified, World};
use crate::nodes::Nodes;
use crate::streams::Stream;

/// How soon a stream ends whose token was revoked, on a node with which nothing is wrong. It has
/// ended before the answer; this is for the machine that looks at it.
const SOON: Duration = Duration::from_secs(5);

/// What happened.
pub(crate) struct History {
    pub(crate) blind: Vec<Blind>,
    pub(crate) sick: Vec<Sick>,
    pub(crate) verified: Vec<Verified>,
}

impl History {
    /// How many verifications came to what.
    fn count(&self, door: Door, verdict: Verdict) -> usize {
        self.verified.iter().filter(|verified| verified.door == door && verified.verdict == verdict).count()
    }

    /// Holds the verifications against the revocations.
    pub(crate) fn judge(&self) {
        let accepted = || self.verified.iter().filter(|verified| verified.verdict == Verdict::Accepted);
        let late: Vec<_> = accepted()
            .filter_map(|verified| {
                let by = verified.begun.checked_duration_since(verified.token.answered.get()?.0)?;
                Some((verified.node, verified.door, by))
            })
            .filter(|(.., by)| !by.is_zero())
            .collect();
        assert_eq!(late, [], "accepted although they started so long after the revocation's answer");

        let wronged: Vec<_> = self
            .verified
            .iter()
            .filter(|verified| verified.verdict == Verdict::Refused)
            .filter(|verified| verified.token.asked.get().is_none_or(|asked| verified.ended < *asked))
            .map(|verified| (verified.node, verified.door, &verified.token.made.id))
            .collect();
        assert_eq!(wronged, [], "refused although nobody had asked for a revocation");

        for Blind { node, from, until } in &self.blind {
            let within = |verified: &&Verified| {
                verified.node == *node && verified.begun >= *from && verified.ended <= *until
            };
            let sighted = accepted().filter(within).count();
            assert_eq!(sighted, 0, "accepted by node {node} without a lease and without the database");
        }

        // The history says something.
        for door in [Door::Rest, Door::Mcp] {
            for verdict in [Verdict::Accepted, Verdict::Refused, Verdict::Unsure] {
                assert!(self.count(door, verdict) > 0, "{door:?} {verdict:?} is missing");
            }
        }
        let of_revoked = accepted().filter(|verified| verified.token.answered.get().is_some()).count();
        assert!(of_revoked > 100, "{of_revoked} accepted before the revocation");
    }

    /// Whether something was wrong with a stream's node when the stream had to end.
    fn is_sick(&self, stream: &Stream, answered: Instant) -> bool {
        let is_sick =
            |sick: &Sick| sick.node == stream.node && sick.from < answered + SOON && sick.until > answered;
        self.sick.iter().any(is_sick)
    }

    /// Holds the open streams against the revocations.
    pub(crate) async fn judge_streams(&self, streams: &[Arc<Stream>]) {
        let revoked = || {
            let answered =
                |stream: &&Arc<Stream>| Some((Arc::clone(*stream), stream.token.answered.get()?.0));
            streams.iter().filter_map(move |stream| answered(&stream))
        };
        assert!(revoked().count() > 0, "no stream was cut");
        let may_be_open = |stream: &Stream, answered| {
            stream.seen().ended.is_some()
                || stream.token.back_asked.get().is_some() && self.is_sick(stream, answered)
        };
        let ended = async || revoked().all(|(stream, answered)| may_be_open(&stream, answered));
        let waited = Instant::now();
        while !ended().await && waited.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let open: Vec<_> = revoked().filter(|(stream, answered)| !may_be_open(stream, *answered)).collect();
        let open: Vec<_> = open
            .iter()
            .map(|(stream, answered)| {
                let Stream { node, kind, token, .. } = &**stream;
                format!("node {node} {kind:?} of {:?} since {:?}", token.kind, answered.elapsed())
            })
            .collect();
        assert_eq!(open, [""; 0], "streams of lost tokens are open");
        for (stream, answered) in revoked() {
            let (seen, what) = (stream.seen(), (stream.node, stream.kind, stream.token.kind));
            assert!(stream.begun < answered, "{what:?} was opened after the revocation's answer");
            // Not even on a node that nobody could reach.
            assert_eq!(
                seen.late, None,
                "{what:?}: an event came that was made so long after the revocation's answer"
            );
            let is_sick = self.is_sick(&stream, answered);
            // What was given back while a node could not be reached, that node has never taken
            // away.
            let Some(ended) = seen.ended.filter(|_| !is_sick) else { continue };
            assert!(
                ended < answered + SOON,
                "{what:?} ended {:?} after the revocation's answer",
                ended - answered
            );
        }
        assert!(
            streams.iter().map(|stream| stream.seen().events).sum::<usize>() > 0,
            "nothing came on any stream"
        );
    }
}

/// What was answered is so, on all nodes and in the database.
pub(crate) async fn judge_end(world: &World, nodes: &Nodes) {
    let tokens = world.tokens.read().expect("whole").clone();
    let rows = nodes.database.sql("SELECT pat_id, revoked_at FROM pats");
    let rows: HashMap<_, _> = rows.lines().filter_map(|line| line.split_once('|')).collect();
    for token in &tokens {
        let kept = *rows.get(token.made.id.as_str()).expect("what was answered is in the database");
        let expected = match token.answered.get() {
            None => {
                assert_eq!(kept, "", "nobody revoked it");
                Verdict::Accepted
            }
            Some((_, answer)) => {
                let answer: Timestamp = answer.parse().expect("a moment");
                assert_eq!(kept, answer.as_microsecond().to_string(), "the moment of the answer");
                Verdict::Refused
            }
        };
        for node in 0..NODES {
            for door in [Door::Rest, Door::Mcp] {
                assert_eq!(world.verify(node, door, token).await, Some(expected), "node {node}, {door:?}");
            }
        }
    }
    settled(world, &tokens).await;
}

/// What a revocation did that was not answered, or with 503, is said by the next one, on each node
/// alike.
async fn settled(world: &World, tokens: &[Arc<Kept>]) {
    let unsure = tokens.iter().filter(|token| token.was_unsure.load(Ordering::SeqCst));
    for token in unsure {
        let (_, first) = token.answered.get().expect("it was repeated until it was answered");
        for node in 0..NODES {
            let again = world.revoke_once(node, &token.made.id).await;
            assert_eq!(again.as_ref(), Some(first), "node {node}");
        }
    }
}

/// How long ago, for what is shown.
pub(crate) fn since(begun: Instant) -> String {
    format!("{:>5.1} s", begun.elapsed().as_secs_f32())
}
