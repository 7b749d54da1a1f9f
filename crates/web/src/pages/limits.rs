//! Limits of a token: in the form that makes one, and as they are shown.

use maud::{Markup, html};
use trustrelay_authority::{AskedLimits, AuthorityError, MAX_REQUESTS_PER_MINUTE, MAX_UNUSED_DAYS};
use trustrelay_token::Limits;

use crate::pages::layout::{Problem, field_problem, invalid};

/// The fields that show what is wrong with them.
pub(super) const FIELDS: [&str; 3] = ["allowed_networks", "requests_per_minute", "expires_if_unused_days"];

/// What the form was filled in with, as it came.
#[derive(Default)]
pub(super) struct Filled {
    networks: String,
    requests: String,
    days: String,
}

impl Filled {
    /// Takes a field of the form, if it is one of these.
    pub(super) fn take(&mut self, field: &str, value: &str) {
        let place = match field {
            "allowed_networks" => &mut self.networks,
            "requests_per_minute" => &mut self.requests,
            "expires_if_unused_days" => &mut self.days,
            _ => return,
        };
        value.clone_into(place);
    }

    /// What is asked for. What is no number is refused as 0 is.
    pub(super) fn read(&self) -> Result<Limits, AuthorityError> {
        let asked = AskedLimits {
            networks: words(&self.networks),
            requests_per_minute: number(&self.requests),
            unused_days: number(&self.days),
        };
        asked.read()
    }

    fn is_empty(&self) -> bool {
        [&self.networks, &self.requests, &self.days].iter().all(|text| text.trim().is_empty())
    }
}

/// A number, if there is something. What is none is refused as 0 is.
pub(super) fn number(text: &str) -> Option<i64> {
    Some(text.trim()).filter(|text| !text.is_empty()).map(|text| text.parse().unwrap_or(0))
}

/// Words, parted by anything that people use.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split([' ', ',', '\n', '\r', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The fields: folded away until somebody wants them.
pub(super) fn fields(filled: &Filled, problem: Option<Problem<'_>>) -> Markup {
    html! {
        details.limits open[!filled.is_empty()] {
            summary { "Limits " span.faint { "(optional)" } }
            label {
                "Allowed IP ranges"
                input type="text" name="allowed_networks" value=(filled.networks) placeholder="10.0.0.0/8 2001:db8::/32" autocomplete="off" spellcheck="false" aria-invalid=[invalid(problem, "allowed_networks")];
                (field_problem(problem, "allowed_networks"))
                small { "Separated by spaces. Leave empty to allow all addresses." }
            }
            div.pair {
                label {
                    "Requests per minute"
                    input type="number" name="requests_per_minute" value=(filled.requests) min="1" max=(MAX_REQUESTS_PER_MINUTE) inputmode="numeric" aria-invalid=[invalid(problem, "requests_per_minute")];
                    (field_problem(problem, "requests_per_minute"))
                    small { "Further requests in the same minute are refused. Leave empty for no limit." }
                }
                label {
                    "Revoke after days without use"
                    input type="number" name="expires_if_unused_days" value=(filled.days) min="1" max=(MAX_UNUSED_DAYS) inputmode="numeric" aria-invalid=[invalid(problem, "expires_if_unused_days")];
                    (field_problem(problem, "expires_if_unused_days"))
                    small { "Leave empty to keep the token even if it is not used." }
                }
            }
        }
    }
}

/// A token's limits, as rows of its description.
pub(super) fn rows(limits: &Limits) -> Markup {
    html! {
        @if !limits.networks.is_empty() {
            dt { "Allowed IP ranges" }
            dd { span.chips { @for network in &limits.networks { code.chip { (network.to_string()) } } } }
        }
        @if let Some(requests) = limits.requests_per_minute { dt { "Rate limit" } dd { (requests) " requests per minute" } }
        @if let Some(days) = limits.unused_days { dt { "Revoked after" } dd { (days) @if days.get() == 1 { " day" } @else { " days" } " without use" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(networks: &str, requests: &str, days: &str) -> Filled {
        Filled { networks: networks.into(), requests: requests.into(), days: days.into() }
    }

    #[test]
    fn what_is_left_empty_is_not_limited() {
        let read = filled(" ", "", " ").read().expect("reads");
        assert!(read.is_empty());
        assert!(!fields(&filled("", " ", ""), None).into_string().contains("details class=\"limits\" open"));
    }

    #[test]
    fn networks_may_be_parted_by_anything_that_people_use() {
        let read = filled("10.0.0.0/8, 192.0.2.7\r\n2001:db8::/32", "60", "30").read().expect("reads");
        assert_eq!(read.networks.len(), 3);
        assert_eq!(
            (read.requests_per_minute.map(u32::from), read.unused_days.map(u16::from)),
            (Some(60), Some(30))
        );
    }

    #[test]
    fn what_is_no_limit_is_refused_and_comes_back_to_be_corrected() {
        for wrong in
            [filled("office", "", ""), filled("", "many", ""), filled("", "", "1.5"), filled("", "-1", "")]
        {
            assert!(wrong.read().is_err());
            assert!(fields(&wrong, None).into_string().contains("open"));
        }
        let page = fields(&filled("\"><script>", "", ""), None).into_string();
        assert!(!page.contains("<script>"), "{page}");
    }
}
