//! What a random read of main memory costs here and now: a walk through a buffer in which each
//! place says which is next.

/// The linear congruential step and the mixing of SplitMix64: enough to put things in disorder, the
/// same at each run.
pub(crate) struct Disorder(pub(crate) u64);

impl Disorder {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper half of the product: no remainder to take (Lemire).
        usize::try_from((u128::from(mixed) * end as u128) >> 64).unwrap_or_default()
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, things: &mut [T]) {
        for at in (1..things.len()).rev() {
            things.swap(at, self.below(at + 1));
        }
    }
}

/// As large as what a processor fetches at a time.
#[derive(Clone)]
#[repr(align(64))]
struct Line {
    next: usize,
}

/// One cycle through all lines of a buffer, in disorder: no read can begin before the one before it
/// has ended.
pub(crate) struct Chase(Vec<Line>);

impl Chase {
    /// Through a buffer of so many bytes.
    pub(crate) fn through(bytes: usize) -> Self {
        let lines = (bytes / size_of::<Line>()).max(2);
        let mut lines: Vec<Line> = (0..lines).map(|next| Line { next }).collect();
        let mut disorder = Disorder(1);
        // Sattolo: never with itself, so that there is one cycle.
        for at in (1..lines.len()).rev() {
            lines.swap(at, disorder.below(at));
        }
        Self(lines)
    }

    /// Some place to begin at.
    pub(crate) fn place(&self, seed: usize) -> usize {
        Disorder(seed as u64).below(self.0.len())
    }

    /// Goes on from a place, so many reads.
    pub(crate) fn read(&self, mut at: usize, times: usize) -> usize {
        for _ in 0..times {
            at = self.0[at].next;
        }
        at
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_comes_back_after_it_was_everywhere_and_not_before() {
        let chase = Chase::through(1000 * 64);
        assert_eq!(chase.bytes(), 64_000);
        let begin = chase.place(5);
        let mut at = begin;
        for step in 1..=1000 {
            at = chase.read(at, 1);
            assert_eq!(at == begin, step == 1000, "after {step} reads");
        }
        assert_eq!(chase.read(0, 3), chase.read(chase.read(0, 2), 1));
    }

    #[test]
    fn a_shuffle_loses_nothing_and_leaves_little_in_its_place() {
        let mut things: Vec<usize> = (0..1000).collect();
        Disorder(7).shuffle(&mut things);
        let in_place = things.iter().enumerate().filter(|(at, thing)| at == *thing).count();
        assert!(in_place < 20, "{in_place} did not move");
        things.sort_unstable();
        assert!(things.into_iter().eq(0..1000));
    }
}
