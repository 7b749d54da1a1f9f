//! Bars, drawn as SVG for the documents: small, with text as text in the reader's own font, and
//! readable on a light and on a dark page, since the drawing has a ground of its own that goes with
//! the page.

use maud::{PreEscaped, html};

use crate::measure::Spread;

const WIDTH: f64 = 760.0;
/// Labels end here, and bars begin a little to the right of it.
const LABELS: f64 = 196.0;
const BARS: f64 = LABELS + 8.0;
/// The longest bar ends here: there is room for what is said beside it.
const LONGEST: f64 = 600.0;
const HEAD: f64 = 58.0;
const GROUP: f64 = 26.0;
const ROW: f64 = 20.0;
const BAR: f64 = 12.0;
const FOOT: f64 = 34.0;

/// Ground, ink, faint ink and lines, then the tones of the bars: light and dark.
const STYLE: &str = "\
svg{font:12px system-ui,sans-serif;--g:#fff;--i:#1f2328;--f:#59636e;--l:#d1d9e0;--a:#0969da;--b:#8c959f;--c:#bf8700;--d:#1a7f37;--e:#8250df}\
@media(prefers-color-scheme:dark){svg{--g:#0d1117;--i:#f0f6fc;--f:#9198a1;--l:#3d444d;--a:#4493f8;--b:#7d8590;--c:#d29922;--d:#3fb950;--e:#ab7df8}}\
.g{fill:var(--g)}text{fill:var(--i)}.f{fill:var(--f)}.h{font-size:15px;font-weight:600}.s{font-weight:600}\
.l{stroke:var(--l)}.w{stroke:var(--i)}.t0{fill:var(--a)}.t1{fill:var(--b)}.t2{fill:var(--c)}.t3{fill:var(--d)}.t4{fill:var(--e)}";
const TONES: usize = 5;

/// A drawing of bars in groups.
#[derive(Debug, Clone)]
pub(crate) struct Bars {
    pub(crate) title: String,
    /// What a bar's length is.
    pub(crate) unit: String,
    /// What each tone means; empty where a bar's label says it.
    pub(crate) legend: Vec<String>,
    pub(crate) groups: Vec<Group>,
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) bars: Vec<Bar>,
}

/// A bar, perhaps of several pieces one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    label: String,
    /// Each with its tone.
    pieces: Vec<(usize, f64)>,
    /// The least and the greatest of the rounds.
    range: Option<(f64, f64)>,
    /// What is said beside it.
    said: String,
}

impl Bar {
    /// The median, with a line from the least to the greatest.
    pub(crate) fn spread(label: impl Into<String>, tone: usize, spread: Spread, said: String) -> Self {
        let range = Some((spread.least, spread.greatest));
        Self { label: label.into(), pieces: vec![(tone, spread.median)], range, said }
    }

    /// What something consists of.
    pub(crate) fn stacked(label: impl Into<String>, pieces: Vec<(usize, f64)>, said: String) -> Self {
        Self { label: label.into(), pieces, range: None, said }
    }

    fn length(&self) -> f64 {
        let pieces: f64 = self.pieces.iter().map(|(_, length)| length.max(0.0)).sum();
        self.range.map_or(pieces, |(_, greatest)| greatest.max(pieces))
    }
}

impl Bars {
    pub(crate) fn svg(&self) -> String {
        let bars: usize = self.groups.iter().map(|group| group.bars.len()).sum();
        let legend = if self.legend.is_empty() { 0.0 } else { ROW };
        let (top, rows) = (HEAD + legend, self.groups.len() as f64 * GROUP + bars as f64 * ROW);
        let (bottom, height) = (top + rows + 6.0, top + rows + FOOT);
        let longest = self.groups.iter().flat_map(|group| &group.bars).map(Bar::length).fold(0.0, f64::max);
        let step = step(longest);
        let x = |value: f64| round(BARS + value.max(0.0) / longest.max(f64::MIN_POSITIVE) * (LONGEST - BARS));
        let ticks: Vec<f64> =
            (0..).map(|at| f64::from(at) * step).take_while(|tick| *tick <= longest).take(12).collect();
        let tops = self.groups.iter().scan(top, |next, group| {
            let at = *next;
            *next += GROUP + group.bars.len() as f64 * ROW;
            Some(at)
        });
        html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (round(height)) } role="img" aria-label=(self.title) {
                title { (self.title) }
                style { (PreEscaped(STYLE)) }
                rect.g width="100%" height="100%" rx="6" {}
                text.h x="16" y="26" { (self.title) }
                text.f x="16" y="44" { (self.unit) }
                @for (tone, name) in self.legend.iter().enumerate() {
                    @let at = 16.0 + tone as f64 * 146.0;
                    rect class={ "t" (tone % TONES) } x=(at) y=(HEAD - 3.0) width="10" height="10" rx="2" {}
                    text x=(at + 15.0) y=(HEAD + 6.0) { (name) }
                }
                @for tick in &ticks {
                    path.l d={ "M" (x(*tick)) " " (round(top)) "V" (round(bottom)) } {}
                    text.f x=(x(*tick)) y=(round(bottom + 16.0)) text-anchor="middle" { (short(*tick)) }
                }
                @for (group, y) in self.groups.iter().zip(tops) {
                    text.s x="16" y=(round(y + 18.0)) { (group.name) }
                    @let first = y + GROUP;
                    @for (at, bar) in group.bars.iter().enumerate() {
                        @let middle = first + at as f64 * ROW + ROW / 2.0;
                        text x=(LABELS) y=(round(middle + 4.0)) text-anchor="end" { (bar.label) }
                        @for (tone, from, to) in placed(bar) {
                            rect class={ "t" (tone % TONES) } x=(x(from)) y=(round(middle - BAR / 2.0)) width=(round(x(to) - x(from))) height=(BAR) rx="1.5" {}
                        }
                        @if let Some((least, greatest)) = bar.range {
                            path.w d={ "M" (x(least)) " " (round(middle)) "H" (x(greatest)) } {}
                        }
                        text.f x=(round(x(bar.length()) + 8.0)) y=(round(middle + 4.0)) { (bar.said) }
                    }
                }
            }
        }
        .into_string()
    }
}

/// Each piece with where it begins and ends.
fn placed(bar: &Bar) -> Vec<(usize, f64, f64)> {
    let mut end = 0.0;
    let place = |(tone, length): &(usize, f64)| {
        let from = end;
        end += length.max(0.0);
        (*tone, from, end)
    };
    bar.pieces.iter().map(place).collect()
}

/// A round number of which a handful make up the longest.
fn step(longest: f64) -> f64 {
    if longest <= 0.0 || !longest.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf((longest / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|one| one * power)
        .into_iter()
        .find(|step| longest / step <= 6.0)
        .unwrap_or(longest)
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", round(value / 1e6)),
        value if value >= 1e4 => format!("{} k", round(value / 1e3)),
        value => round(value).to_string(),
    }
}

/// One decimal is enough for a drawing.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn() -> String {
        let spread = |median| Spread { median, least: median - 10.0, greatest: median + 20.0 };
        let bars = vec![
            Bar::spread("bare", 1, spread(100.0), "100".into()),
            Bar::stacked("<hash>", vec![(0, 30.0), (1, 0.5), (2, -4.0)], "30.5 & more".into()),
        ];
        let groups = vec![Group { name: "32 connections".into(), bars }];
        Bars { title: "Requests".into(), unit: "per second".into(), legend: vec!["a".into()], groups }.svg()
    }

    #[test]
    fn a_bar_is_as_long_as_its_figure_and_the_longest_line_ends_at_the_edge() {
        let svg = drawn();
        let width = (LONGEST - BARS) * 100.0 / 120.0;
        assert!(svg.contains(&format!(r#"width="{}""#, round(width))), "{svg}");
        assert!(svg.contains(&format!("H{LONGEST}")), "{svg}");
    }

    #[test]
    fn pieces_follow_each_other_and_one_below_nothing_has_no_width() {
        let bar = Bar::stacked("", vec![(0, 30.0), (1, -4.0), (2, 5.0)], String::new());
        assert_eq!(placed(&bar), [(0, 0.0, 30.0), (1, 30.0, 30.0), (2, 30.0, 35.0)]);
        assert_eq!(bar.length(), 35.0);
    }

    #[test]
    fn what_is_said_is_escaped_and_no_font_or_script_is_asked_for() {
        let svg = drawn();
        assert!(svg.contains("&lt;hash&gt;") && svg.contains("30.5 &amp; more"), "{svg}");
        assert!(!svg.contains("<script") && !svg.contains("url(") && !svg.contains("href"), "{svg}");
        assert!(svg.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn the_lines_across_are_at_round_numbers() {
        assert_eq!(step(47_000.0), 10_000.0);
        assert_eq!(step(120.0), 20.0);
        assert_eq!(step(0.9), 0.2);
        assert_eq!(step(0.0), 1.0);
        assert_eq!(["0", "500", "40 k", "1.5 M"], [0.0, 500.0, 4e4, 1.5e6].map(short));
    }
}
