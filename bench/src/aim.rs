//! What was measured, beside what is aimed at.

use serde::{Deserialize, Serialize};

use crate::measure::Spread;
use crate::table::{Table, figures, words};

/// A bound that the median is to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One aim, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

    fn cells(&self) -> Vec<String> {
        let bound = match self.bound {
            Bound::AtMost(most) => format!("at most {most}"),
            Bound::AtLeast(least) => format!("at least {least}"),
        };
        let met = if self.is_met() { "met" } else { "missed" };
        vec![self.what.clone(), bound, self.measured.shown(self.decimals), met.to_owned()]
    }
}

/// Aims, each with what was measured and whether that keeps it.
pub(crate) fn table(aims: &[Aim]) -> Table {
    let columns = [words("what is aimed at"), figures("bound"), figures("measured"), words("")];
    Table::new(columns, aims.iter().map(Aim::cells))
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
        }
    }

    #[test]
    fn the_table_says_of_each_aim_whether_it_is_met() {
        let aims = [aim(Bound::AtMost(2.0), 1.5), aim(Bound::AtLeast(1.8), 1.5)];
        let lines: Vec<String> = table(&aims).markdown().lines().skip(2).map(ToOwned::to_owned).collect();
        assert_eq!(
            lines,
            [
                "| a ratio | at most 2 | 1.50 (1.50–1.50) | met |",
                "| a ratio | at least 1.8 | 1.50 (1.50–1.50) | missed |"
            ]
        );
    }
}
