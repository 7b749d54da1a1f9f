//! `/settings/developer/{pat_id}`: one token, and what it has called.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use trustrelay_authority::Activity;
use uuid::Uuid;

use crate::api::pats::pat_ref;
use crate::error::ApiError;
use crate::extract::{OnPage, Segment};
use crate::pages::activity::{networks, sections};
use crate::pages::developer::{badge, chips};
use crate::pages::layout::{self, Tab};
use crate::pages::limits;
use crate::pages::once::Once;
use crate::pages::rotate;
use crate::pages::time::{ago, day};
use crate::pages::{Person, failed};
use crate::state::AppState;

/// Where a token's page is.
pub(super) fn path(pat_id: Uuid) -> String {
    format!("/settings/developer/{pat_id}")
}

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
    once: Once,
) -> Response {
    let found = match pat_ref(&id) {
        Ok(which) => state.authority.activity(&browser.by, which).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    match found {
        Ok(activity) => {
            let path = path(activity.pat.pat_id);
            let turned =
                once.open(&state, &browser, &path).map(|turned| rotate::fresh(&turned, &activity.pat));
            let page = page(&activity, turned, state.authority.clock().now());
            let title = format!("{} · Developer", activity.pat.name);
            let page = layout::settings(&title, &browser.by, Tab::Developer, page).into_response();
            once.over(&state, &path, page)
        }
        Err(error) => failed(error),
    }
}

fn page(activity: &Activity, fresh: Option<Markup>, now: Timestamp) -> Markup {
    let pat = &activity.pat;
    let is_over = pat.revoked_at.is_some() || pat.expires_at <= now;
    html! {
        p.back { a href="/settings/developer" { "All tokens" } }
        div.head {
            div {
                h1 { (pat.name) }
                p.lead { code { (pat.hint) } }
            }
            @if !is_over {
                div.row {
                    a.button.quiet href={ "/settings/developer/" (pat.pat_id) "/rotate" } { "Rotate" }
                    a.button.quiet href={ "/settings/developer/" (pat.pat_id) "/revoke" } { "Revoke" }
                }
            }
        }
        @if let Some(fresh) = fresh { (fresh) }
        section.card aria-label="Details" {
            dl.details {
                dt { "Scopes" } dd { (chips(&pat.scopes)) }
                dt { "Created" } dd { (day(pat.created_at)) }
                @if let Some(at) = pat.rotated_at { dt { "Rotated" } dd { (day(at)) } }
                @if let Some(at) = pat.revoked_at {
                    dt { "Revoked" } dd { (day(at)) " " span.badge.danger { "no longer works" } }
                }
                dt { "Expires" }
                dd {
                    (day(pat.expires_at))
                    @if pat.revoked_at.is_none() {
                        @if pat.expires_at <= now { " " span.badge.danger { "expired" } }
                        @else { (badge(pat.expires_at, now)) }
                    }
                }
                @if let Some(limits) = &pat.limits { (limits::rows(limits)) }
                dt { "Last used" } dd { (ago(pat.last_used_at, now)) }
                @if pat.last_used_at.is_some() {
                    dt { "Last used from" }
                    dd {
                        @match activity.address {
                            Some(address) => code { (address) },
                            None => span.faint { "unknown" },
                        }
                        @if let Some(agent) = &activity.user_agent { " " span.faint { (agent) } }
                    }
                }
            }
        }
        (networks(activity, now))
        (sections(activity, now))
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::pages::activity::tests::activity;

    #[test]
    fn a_token_that_is_over_is_marked_and_can_not_be_revoked_again() {
        let mut shown = activity(Vec::new());
        let now = shown.pat.created_at;
        assert!(page(&shown, None, now).into_string().contains("/revoke\""));
        let expired = page(&shown, None, shown.pat.expires_at).into_string();
        assert!(expired.contains(">expired<") && !expired.contains("/revoke\""), "{expired}");
        shown.pat.revoked_at = Some(now);
        let revoked = page(&shown, None, now.checked_add(2000.hours()).expect("in range")).into_string();
        assert!(revoked.contains("no longer works") && !revoked.contains("/revoke\""), "{revoked}");
        assert!(!revoked.contains(">expired<"), "one reason is enough: {revoked}");
    }

    #[test]
    fn where_it_was_used_from_is_shown_once_it_was_and_what_a_client_says_of_itself_stays_text() {
        let mut shown = activity(Vec::new());
        let now = shown.pat.created_at;
        assert!(!page(&shown, None, now).into_string().contains("<dt>Last used from</dt>"));
        shown.pat.last_used_at = Some(now);
        assert!(page(&shown, None, now).into_string().contains("unknown"));
        shown.address = Some("2001:db8::7".parse().expect("an address"));
        shown.user_agent = Some("<img src=x>".into());
        let page = page(&shown, None, now).into_string();
        assert!(page.contains("<code>2001:db8::7</code>") && page.contains("&lt;img src=x&gt;"), "{page}");
        assert!(!page.contains("<img") && !page.contains("<b>agent"), "{page}");
    }
}
