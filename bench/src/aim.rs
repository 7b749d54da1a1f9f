//! What was measured, beside what is aimed at.

use serde::Serialize;

use crate::measure::Spread;

/// A bound that the median is to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One aim, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Aim {
    what: String,
    bound: Bound,
    measured: Spread,
    decimals: usize,
}

impl Aim {
    pub(crate) fn new(what: impl Into<String>, bound: Bound, measured: Spread, decimals: usize) -> Self {
        Self { what: what.into(), bound, measured, decimals }
    }

    /// Whether the median keeps the bound. What could not be measured does not.
    pub(crate) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(most) => self.measured.median <= most,
            Bound::AtLeast(least) => self.measured.median >= least,
        }
    }

    /// A line of the table.
    pub(crate) fn line(&self) -> String {
        let (word, bound) = match self.bound {
            Bound::AtMost(most) => ("at most", most),
            Bound::AtLeast(least) => ("at least", least),
        };
        let met = if self.is_met() { "met" } else { "missed" };
        format!("{:<84} {word:<8} {bound:>7} {:>26}  {met}", self.what, self.measured.shown(self.decimals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aim(bound: Bound, figure: f64) -> Aim {
        Aim::new("a ratio", bound, Spread::of([figure]), 2)
    }

    #[test]
    fn a_bound_is_kept_up_to_the_bound_itself() {
        for (bound, kept, broken) in [(Bound::AtMost(2.0), 1.0, 2.1), (Bound::AtLeast(1.8), 1.9, 1.7)] {
            let (Bound::AtMost(itself) | Bound::AtLeast(itself)) = bound;
            assert!(aim(bound, kept).is_met() && aim(bound, itself).is_met());
            assert!(!aim(bound, broken).is_met() && !aim(bound, f64::NAN).is_met());
            assert!(
                aim(bound, broken).line().ends_with("missed") && aim(bound, kept).line().ends_with("met")
            );
        }
    }
}
