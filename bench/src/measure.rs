//! Figures and their spread.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A figure over several rounds: the median, and the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Of figures of which there is at least one.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let (half, last) = (figures.len() / 2, figures.len().saturating_sub(1));
        let median =
            if figures.len().is_multiple_of(2) { f64::midpoint(at(last / 2), at(half)) } else { at(half) };
        Self { median, least: at(0), greatest: at(last) }
    }

    /// `median (least–greatest)`, with so many decimals.
    pub(crate) fn shown(&self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", self.median, self.least, self.greatest)
    }
}

/// What one round of calls came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) calls: usize,
    pub(crate) took: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Round {
    /// From each call's time, in nanoseconds.
    pub(crate) fn of(mut times: Vec<u32>, took: Duration) -> Self {
        times.sort_unstable();
        let at = |hundredth: usize| {
            let index = (times.len() * hundredth / 100).min(times.len().saturating_sub(1));
            Duration::from_nanos(times.get(index).copied().unwrap_or_default().into())
        };
        Self { calls: times.len(), took, p50: at(50), p99: at(99) }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 9.0]), Spread { median: 3.0, least: 1.0, greatest: 9.0 });
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]).median, 3.0);
        assert_eq!(spread(&[7.0]).shown(1), "7.0 (7.0–7.0)");
    }

    #[test]
    fn a_round_knows_its_percentiles_and_its_pace() {
        let round = Round::of((1..=100).rev().map(|n| n * 1000).collect(), Duration::from_millis(500));
        assert_eq!(round.per_second(), 200.0);
        assert_eq!((micros(round.p50), micros(round.p99)), (51.0, 100.0));
        assert_eq!(Round::of(Vec::new(), Duration::from_secs(1)).per_second(), 0.0);
    }
}
