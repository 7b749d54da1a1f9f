//! The parts of a verification, timed one by one in this process: each on its own, and all
//! together.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use trustrelay_authority::{Authority, Clock as _, SystemClock, judge};
use trustrelay_token::{DigestKey, KeyId, Token, Verification, Verifier as _};

use crate::chase::Chase;

/// How many verifications a thread does between two looks at the clock.
const BETWEEN_LOOKS: usize = 256;

/// What one verification, or one part of it, takes, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// HMAC-SHA-256 of a token under a prepared key.
    pub(crate) hash: f64,
    /// From text to a token: prefix, alphabet, checksum.
    pub(crate) parse: f64,
    /// The two clocks that a verification asks.
    pub(crate) clocks: f64,
    /// The judgment alone, of values at hand.
    pub(crate) judgment: f64,
    /// `Authority::verify` of a token at hand.
    pub(crate) verify: f64,
    /// From text to the answer.
    pub(crate) whole: f64,
    /// One, and three, random reads of a buffer as large as the index, each begun when the one
    /// before it has ended.
    pub(crate) one_read: f64,
    pub(crate) three_reads: f64,
}

impl Times {
    /// What is left of a verification without the hash, the clocks and the judgment: the look-up,
    /// and what belongs to it.
    pub(crate) fn look_up(&self) -> f64 {
        self.verify - self.hash - self.clocks - self.judgment
    }
}

/// Who verifies what: the tokens are in disorder, so that the index is not read in the order in
/// which it was filled.
#[derive(Clone)]
pub(crate) struct Warm {
    pub(crate) authority: Arc<Authority>,
    pub(crate) tokens: Arc<Vec<Token>>,
    pub(crate) chase: Arc<Chase>,
}

impl Warm {
    /// Times each part on the same tokens: so many, from a place on.
    pub(crate) fn time(&self, from: usize, number: usize) -> Result<Times> {
        let key = DigestKey::new(KeyId(0), &[7; 32]);
        let clock = SystemClock;
        let (now, until) = (clock.now(), jiff::Timestamp::MAX);
        let tokens = || self.tokens.iter().cycle().skip(from).take(number);
        let each = |begun: Instant| begun.elapsed().as_secs_f64() * 1e9 / number as f64;
        let begun = Instant::now();
        for token in tokens() {
            black_box(key.digest(token));
        }
        let hash = each(begun);
        let begun = Instant::now();
        for token in tokens() {
            black_box(Token::from_bytes(token.expose().as_bytes()).is_ok());
        }
        let parse = each(begun);
        let begun = Instant::now();
        for _ in 0..number {
            black_box((clock.since_boot(), clock.now()));
        }
        let clocks = each(begun);
        let begun = Instant::now();
        for _ in 0..number {
            black_box(judge(black_box(None), black_box(false), black_box(until), black_box(now)).is_ok());
        }
        let judgment = each(begun);
        let begun = Instant::now();
        let mut accepted = tokens().filter(|token| is_accepted(&self.authority, (*token).clone())).count();
        let verify = each(begun);
        let begun = Instant::now();
        accepted += tokens().filter(|token| self.whole(token)).count();
        let whole = each(begun);
        ensure!(accepted == 2 * number, "{accepted} of {} were accepted from memory", 2 * number);
        // Before the first: else one walk of the two finds the page tables in no cache, and the
        // other does.
        black_box(self.chase.read(self.chase.place(from), number));
        let [one_read, three_reads] = [1, 3].map(|reads| {
            // From another place each time: what the last walk has read may be in a cache still.
            let (mut at, begun) = (self.chase.place(from + reads), Instant::now());
            for _ in 0..number {
                at = self.chase.read(at, reads);
            }
            black_box(at);
            each(begun)
        });
        Ok(Times { hash, parse, clocks, judgment, verify, whole, one_read, three_reads })
    }

    fn whole(&self, token: &Token) -> bool {
        Token::from_bytes(token.expose().as_bytes()).is_ok_and(|token| is_accepted(&self.authority, token))
    }

    /// Verifies on so many threads for so long: how many a second on all of them together.
    pub(crate) fn together(&self, threads: usize, time: Duration) -> Result<f64> {
        let begun = Instant::now();
        let done = std::thread::scope(|scope| {
            let running: Vec<_> =
                (0..threads).map(|thread| scope.spawn(move || self.alone(thread, threads, time))).collect();
            running.into_iter().map(|thread| thread.join().unwrap_or(None)).sum::<Option<usize>>()
        });
        let took = begun.elapsed();
        ensure!(done.is_some(), "a token that stands was not accepted from memory");
        Ok(done.unwrap_or_default() as f64 / took.as_secs_f64())
    }

    /// One thread of several, on tokens of its own: how many it verified. `None` if one was not
    /// accepted.
    fn alone(&self, thread: usize, threads: usize, time: Duration) -> Option<usize> {
        let mut tokens = self.tokens.iter().cycle().skip(thread * self.tokens.len() / threads);
        let (begun, mut done) = (Instant::now(), 0);
        while begun.elapsed() < time {
            if !tokens.by_ref().take(BETWEEN_LOOKS).all(|token| self.whole(token)) {
                return None;
            }
            done += BETWEEN_LOOKS;
        }
        Some(done)
    }
}

fn is_accepted(authority: &Authority, token: Token) -> bool {
    matches!(black_box(authority.verify(token)), Verification::Ready(Ok(_)))
}
