//! What a token has called, as its page shows it: tools and latest calls.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};
use trustrelay_authority::{Activity, Call, ToolDay};

use crate::pages::amounts::{bytes, count, counted, took};
use crate::pages::chart::chart;
use crate::pages::time::ago;

/// How many errors are shown.
const MAX_ERRORS: usize = 10;
/// How many tools are shown; the least called others are told as one.
const MAX_TOOLS: usize = 50;

/// A tool over all days.
#[derive(Default)]
struct Total<'a> {
    upstream: &'a str,
    tool: &'a str,
    outcomes: BTreeMap<&'a str, u64>,
    duration: Duration,
    bytes_in: u64,
    bytes_out: u64,
}

impl Total<'_> {
    fn calls(&self) -> u64 {
        self.outcomes.values().sum()
    }

    fn average(&self) -> Duration {
        self.duration / u32::try_from(self.calls().max(1)).unwrap_or(u32::MAX)
    }

    /// What became of those that did not end well, most frequent first.
    fn failures(&self) -> Vec<(&str, u64)> {
        let failed = self.outcomes.iter().filter(|(outcome, _)| **outcome != "ok");
        let mut failed: Vec<_> = failed.map(|(outcome, calls)| (*outcome, *calls)).collect();
        failed.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
        failed
    }
}

/// The tools over all days, most called first.
fn totals(days: &[ToolDay]) -> Vec<Total<'_>> {
    let mut totals: BTreeMap<(&str, &str), Total<'_>> = BTreeMap::new();
    for day in days {
        let (upstream, tool) = (day.upstream.as_str(), day.tool.as_str());
        let total = totals.entry((upstream, tool)).or_default();
        (total.upstream, total.tool) = (upstream, tool);
        for (outcome, calls) in &day.outcomes {
            *total.outcomes.entry(outcome).or_default() += calls;
        }
        total.duration += day.duration;
        total.bytes_in += day.bytes_in;
        total.bytes_out += day.bytes_out;
    }
    let mut totals: Vec<_> = totals.into_values().collect();
    totals.sort_by_key(|total| std::cmp::Reverse(total.calls()));
    totals
}

/// An outcome in words.
fn words(outcome: &str) -> Cow<'_, str> {
    match outcome {
        "ok" => "succeeded".into(),
        "cut" => "ended by revocation".into(),
        "upstream_down" => "server unavailable".into(),
        "upstream_busy" => "server busy".into(),
        other => other.replace('_', " ").into(),
    }
}

/// An outcome, to be told apart at a glance: good, ended from outside, failed.
fn badge(outcome: &str) -> Markup {
    let kind = match outcome {
        "ok" => "good",
        "cut" | "cancelled" => "warn",
        _ => "danger",
    };
    html! { span class={ "badge " (kind) } { (words(outcome)) } }
}

fn name(upstream: &str, tool: &str) -> Markup {
    html! { span.tool { span.faint { (upstream) " " } (tool) } }
}

/// The chart, the tools and the latest calls; or that there are none.
pub(crate) fn sections(activity: &Activity, now: Timestamp) -> Markup {
    if activity.days.is_empty() {
        return html! {
            section.card.empty {
                h2 { "No calls in the last 30 days" }
                p { "MCP tool calls made with this token appear here, with their time and result. Arguments and responses are never stored." }
            }
        };
    }
    let totals = totals(&activity.days);
    let calls: u64 = totals.iter().map(Total::calls).sum();
    let failed: u64 = activity.days.iter().map(ToolDay::failed).sum();
    html! {
        section.card aria-labelledby="days" {
            h2 #days { "The last 30 days" }
            ul.figures {
                li { strong { (count(calls)) } (if calls == 1 { " call" } else { " calls" }) }
                li { strong { (count(failed)) } " failed" }
                li { strong { (count(totals.len() as u64)) } (if totals.len() == 1 { " tool" } else { " tools" }) }
            }
            (chart(activity))
        }
        section.card aria-labelledby="tools" {
            h2 #tools { "Tools" }
            (tools(&totals))
        }
        (errors(&activity.latest, now))
        section.card aria-labelledby="latest" {
            h2 #latest { "Latest calls" }
            (latest(&activity.latest, now))
        }
    }
}

/// Of the latest calls, those that did not end well: what somebody who looks into a fault looks
/// for.
fn errors(calls: &[Call], now: Timestamp) -> Markup {
    let failed: Vec<_> = calls.iter().filter(|call| call.outcome != "ok").take(MAX_ERRORS).cloned().collect();
    html! {
        @if !failed.is_empty() {
            section.card aria-labelledby="errors" {
                h2 #errors { "Recent errors" }
                p.faint { "From the latest " (counted(calls.len() as u64, "call")) ". Arguments and responses are never stored." }
                (latest(&failed, now))
            }
        }
    }
}

/// Where it was used from: a network that nobody knows is the first sign of a leak.
pub(crate) fn networks(activity: &Activity, now: Timestamp) -> Markup {
    html! {
        @if !activity.networks.is_empty() {
            section.card aria-labelledby="networks" {
                h2 #networks { "Networks" }
                p.faint { "Networks that this token was used from in the last 30 days, through the API and MCP. If you don't recognize one, rotate the token." }
                table.data {
                    thead { tr {
                        th scope="col" { "Network" } th scope="col" { "First used" } th scope="col" { "Last used" }
                    } }
                    tbody { @for used in &activity.networks { tr {
                        th scope="row" { code { (used.network) } }
                        td.when data-label="First used" { (ago(Some(used.first_used_at), now)) }
                        td.when data-label="Last used" { (ago(Some(used.last_used_at), now)) }
                    } } }
                }
            }
        }
    }
}

fn tools(totals: &[Total<'_>]) -> Markup {
    let (shown, others) = totals.split_at(totals.len().min(MAX_TOOLS));
    html! {
        table.data {
            thead { tr {
                th scope="col" { "Tool" } th.number scope="col" { "Calls" } th scope="col" { "Failed" }
                th.number scope="col" { "Average time" } th.number scope="col" { "Sent" } th.number scope="col" { "Received" }
            } }
            tbody { @for total in shown { tr {
                th scope="row" { (name(total.upstream, total.tool)) }
                td.number data-label="Calls" { (count(total.calls())) }
                td data-label="Failed" {
                    @let failures = total.failures();
                    @if failures.is_empty() { span.faint { "none" } }
                    @for (at, (outcome, calls)) in failures.iter().enumerate() {
                        @if at > 0 { ", " }
                        span.one { (count(*calls)) " " (words(outcome)) }
                    }
                }
                td.number data-label="Average time" { (took(total.average())) }
                td.number data-label="Sent" { (bytes(total.bytes_in)) }
                td.number data-label="Received" { (bytes(total.bytes_out)) }
            } } }
        }
        @if !others.is_empty() {
            p.faint { "And " (counted(others.len() as u64, "more tool")) ", called less often." }
        }
    }
}

fn latest(calls: &[Call], now: Timestamp) -> Markup {
    html! {
        table.data {
            thead { tr {
                th scope="col" { "Tool" } th scope="col" { "When" } th scope="col" { "Result" }
                th.number scope="col" { "Duration" } th.number scope="col" { "Sent" } th.number scope="col" { "Received" }
            } }
            tbody { @for call in calls { tr {
                th scope="row" { (name(&call.upstream, &call.tool)) }
                td.when data-label="When" { (ago(Some(call.at), now)) }
                td data-label="Result" { (badge(&call.outcome)) }
                td.number data-label="Duration" { (took(call.duration)) }
                td.number data-label="Sent" { (bytes(call.bytes_in)) }
                td.number data-label="Received" { (bytes(call.bytes_out)) }
            } } }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::ToSpan;
    use jiff::civil::{Date, date};
    use trustrelay_authority::PatRecord;

    use super::*;

    /// Thirty days up to 2026-04-07.
    pub(crate) fn activity(days: Vec<ToolDay>) -> Activity {
        let at = "2026-04-07T00:00:00Z".parse().expect("a time");
        let pat = PatRecord {
            pat_id: uuid::Uuid::nil(),
            user_id: uuid::Uuid::nil(),
            name: "<b>agent".into(),
            hint: "...abcd".into(),
            scopes: "mcp".parse().expect("a scope"),
            digest: trustrelay_token::TokenDigest::from_bytes([0; 32]),
            key_id: trustrelay_token::KeyId(1),
            parent_id: None,
            created_at: at,
            expires_at: at.checked_add(1000.hours()).expect("in range"),
            revoked_at: None,
            last_used_at: None,
            rotated_at: None,
            limits: None,
        };
        let (since, today) = (date(2026, 3, 9), date(2026, 4, 7));
        Activity {
            pat,
            address: None,
            user_agent: None,
            networks: Vec::new(),
            since,
            today,
            days,
            latest: Vec::new(),
        }
    }

    pub(crate) fn tool(day: Date, tool: &str, outcomes: &[(&'static str, u64)]) -> ToolDay {
        ToolDay {
            day,
            upstream: "github".into(),
            tool: tool.into(),
            outcomes: outcomes.iter().map(|(outcome, calls)| ((*outcome).into(), *calls)).collect(),
            duration: Duration::from_millis(30),
            bytes_in: 1000,
            bytes_out: 2000,
        }
    }

    #[test]
    fn tools_are_added_up_over_the_days_and_the_most_called_come_first() {
        let (today, yesterday) = (date(2026, 4, 7), date(2026, 4, 6));
        let shown = activity(vec![
            tool(today, "rare", &[("ok", 1)]),
            tool(today, "search", &[("ok", 2), ("cut", 1), ("upstream_down", 2)]),
            tool(yesterday, "search", &[("ok", 1)]),
        ]);
        let now = shown.pat.created_at;
        let page = sections(&shown, now).into_string();
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no `{text}` in {page}"));
        assert!(at("</span>search</span>") < at("</span>rare</span>"));
        assert!(
            page.contains("2 server unavailable</span>, <span class=\"one\">1 ended by revocation<"),
            "{page}"
        );
        assert!(
            page.contains("<strong>7</strong> calls") && page.contains("<strong>3</strong> failed"),
            "{page}"
        );
        assert!(page.contains("<strong>2</strong> tools"), "{page}");
        assert!(
            page.contains(">10 ms<") && page.contains(">30 ms<"),
            "60 ms of six calls, and 30 of one: {page}"
        );
    }

    #[test]
    fn what_failed_last_is_told_apart_and_where_it_was_used_from() {
        let today = date(2026, 4, 7);
        let mut shown = activity(vec![tool(today, "search", &[("ok", 1)])]);
        let now = shown.pat.created_at;
        let call = |tool: String, outcome: &'static str| Call {
            at: now,
            upstream: "github".into(),
            tool,
            outcome: outcome.into(),
            duration: Duration::from_millis(1),
            bytes_in: 1,
            bytes_out: 1,
        };
        shown.latest = vec![call("good".into(), "ok")];
        let page = sections(&shown, now).into_string();
        assert!(!page.contains("Recent errors"), "{page}");
        assert!(networks(&shown, now).into_string().is_empty());
        shown.latest.extend((0..MAX_ERRORS + 2).map(|n| call(format!("bad-{n}-"), "upstream_down")));
        let page = sections(&shown, now).into_string();
        let (_, errors) = page.split_once("Recent errors").expect("told");
        let (errors, _) = errors.split_once("Latest calls").expect("after them");
        assert!(errors.contains("bad-0-") && errors.contains("bad-9-"), "{errors}");
        assert!(!errors.contains("bad-10-") && !errors.contains("good"), "{errors}");
        shown.networks = vec![trustrelay_authority::NetworkUse {
            network: "2001:db8::/48".parse().expect("a network"),
            first_used_at: now,
            last_used_at: now,
        }];
        assert!(networks(&shown, now).into_string().contains("<code>2001:db8::/48</code>"));
    }

    #[test]
    fn names_that_clients_chose_stay_text_and_do_not_fill_the_page() {
        let tools = (0..60).map(|n| tool(date(2026, 4, 7), &format!("<script>{n}"), &[("forbidden", 1)]));
        let mut shown = activity(tools.collect());
        shown.latest.push(Call {
            at: shown.pat.created_at,
            upstream: "github".into(),
            tool: "<script>".into(),
            outcome: "upstream_busy".into(),
            duration: Duration::from_millis(3),
            bytes_in: 1,
            bytes_out: 2,
        });
        let page = sections(&shown, shown.pat.created_at).into_string();
        assert!(!page.contains("<script>"));
        assert!(page.contains("And 10 more tools"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;").count(), MAX_TOOLS + 2, "the call is an error too");
        assert!(page.contains("<span class=\"badge danger\">server busy</span>"), "{page}");
    }

    #[test]
    fn without_calls_it_says_so() {
        let empty = activity(Vec::new());
        let page = sections(&empty, empty.pat.created_at).into_string();
        assert!(page.contains("No calls in the last 30 days") && !page.contains("<svg"));
    }
}
