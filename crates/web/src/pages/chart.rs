//! Calls by day, as bars. The drawing is for the eye; the same numbers stand in a table beside it.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::Date;
use maud::{Markup, html};
use trustrelay_authority::Activity;

use crate::pages::amounts::{count, counted};

/// The drawing's own units: it is stretched to whatever room there is.
const SLOT: u64 = 20;
const BAR: u64 = 14;
const HEIGHT: u64 = 1000;

/// The calls of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bar {
    day: Date,
    calls: u64,
    failed: u64,
}

impl Bar {
    fn says(&self) -> String {
        let day = self.day.strftime("%-d %b %Y");
        match self.failed {
            0 => format!("{day}: {}", counted(self.calls, "call")),
            failed => format!("{day}: {}, {} failed", counted(self.calls, "call"), count(failed)),
        }
    }
}

/// One bar a day, also for the days without calls.
fn bars(activity: &Activity) -> Vec<Bar> {
    let mut sums = BTreeMap::new();
    for tool in &activity.days {
        let (calls, failed): &mut (u64, u64) = sums.entry(tool.day).or_default();
        *calls += tool.calls();
        *failed += tool.failed();
    }
    let days = activity.since.series(1.day()).take_while(|day| *day <= activity.today);
    let bar = |day| {
        let (calls, failed) = sums.get(&day).copied().unwrap_or_default();
        Bar { day, calls, failed }
    };
    days.map(bar).collect()
}

/// How high a bar stands: whatever there is can be seen.
fn height(calls: u64, most: u64) -> u64 {
    if calls == 0 { 0 } else { (calls * HEIGHT / most.max(1)).max(HEIGHT / 50) }
}

/// The chart, and its table.
pub(crate) fn chart(activity: &Activity) -> Markup {
    let bars = bars(activity);
    let most = bars.iter().map(|bar| bar.calls).max().unwrap_or(0);
    let calls: u64 = bars.iter().map(|bar| bar.calls).sum();
    let failed: u64 = bars.iter().map(|bar| bar.failed).sum();
    let width = SLOT * bars.len() as u64;
    let summary = format!(
        "Calls by day: {} in {} days, {} failed, at most {} a day.",
        count(calls),
        bars.len(),
        count(failed),
        count(most)
    );
    html! {
        figure.chart {
            p.scale aria-hidden="true" { (count(most)) }
            svg viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(summary) {
                @for (at, bar) in (0..).zip(&bars) {
                    @let (all, bad) = (height(bar.calls, most), height(bar.failed, most));
                    @let x = at * SLOT + (SLOT - BAR) / 2;
                    g {
                        title { (bar.says()) }
                        rect.slot x=(at * SLOT) y="0" width=(SLOT) height=(HEIGHT) {}
                        @if all > bad { rect.good x=(x) y=(HEIGHT - all) width=(BAR) height=(all - bad) {} }
                        @if bad > 0 { rect.bad x=(x) y=(HEIGHT - bad) width=(BAR) height=(bad) {} }
                    }
                }
            }
            p.scale.days aria-hidden="true" {
                span { (activity.since.strftime("%-d %b")) }
                span.key { span.good { "succeeded" } span.bad { "failed" } }
                span { "today" }
            }
            figcaption.sr { "Calls by day (UTC)" }
        }
        details.numbers {
            summary { "Daily totals" }
            table.data {
                thead { tr { th scope="col" { "Day (UTC)" } th.number scope="col" { "Calls" } th.number scope="col" { "Failed" } } }
                tbody { @for bar in bars.iter().rev().filter(|bar| bar.calls > 0) { tr {
                    th scope="row" { time datetime=(bar.day) { (bar.day.strftime("%-d %b %Y")) } }
                    td.number data-label="Calls" { (count(bar.calls)) }
                    td.number data-label="Failed" { (count(bar.failed)) }
                } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::pages::activity::tests::{activity, tool};

    #[test]
    fn each_day_has_its_bar_and_the_highest_fills_the_drawing() {
        let today = date(2026, 4, 7);
        let shown = activity(vec![
            tool(today, "search", &[("ok", 6), ("error", 2)]),
            tool(today, "echo", &[("ok", 2)]),
            tool(date(2026, 3, 9), "echo", &[("ok", 5)]),
        ]);
        let bars = bars(&shown);
        assert_eq!(bars.len(), 30);
        assert_eq!(bars[0], Bar { day: date(2026, 3, 9), calls: 5, failed: 0 });
        assert_eq!(bars[29], Bar { day: today, calls: 10, failed: 2 });
        assert!(bars[1..29].iter().all(|bar| bar.calls == 0));
        let page = chart(&shown).into_string();
        assert!(page.contains("<title>7 Apr 2026: 10 calls, 2 failed</title>"), "{page}");
        assert!(page.contains("<title>9 Mar 2026: 5 calls</title>"));
        // Eight of ten stand on the two that failed; five of ten are half as high.
        assert!(page.contains(r#"<rect class="good" x="583" y="0" width="14" height="800">"#), "{page}");
        assert!(page.contains(r#"<rect class="bad" x="583" y="800" width="14" height="200">"#), "{page}");
        assert!(page.contains(r#"<rect class="good" x="3" y="500" width="14" height="500">"#), "{page}");
        assert_eq!(page.matches("class=\"slot\"").count(), 30);
        assert!(page.contains("15 in 30 days, 2 failed, at most 10 a day"));
        assert_eq!(page.matches("<tr>").count(), 3, "the table's head, and the days with calls");
    }

    #[test]
    fn the_least_of_many_can_be_seen_and_nothing_cannot() {
        assert_eq!(height(1, 1_000_000), HEIGHT / 50);
        assert_eq!((height(0, 10), height(0, 0), height(10, 10)), (0, 0, HEIGHT));
    }
}
