//! `/settings/notices`: where one is told, and what one was told; and `/admin/notices`,
//! everybody's.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use trustrelay_authority::{
    AuthorityError, By, DeliveryRecord, DeliveryState, MAX_WEBHOOKS, ToldNotice, WebhookRecord, Whose,
};
use uuid::Uuid;

use crate::api::webhooks::webhook_id;
use crate::body::{Filled, Sent};
use crate::error::ApiError;
use crate::extract::{Asked, OnPage, Segment};
use crate::pages::layout::{self, Tab};
use crate::pages::notice_words::what;
use crate::pages::once::{self, Once};
use crate::pages::time::day;
use crate::pages::{Person, failed};
use crate::state::AppState;

/// Most notices of a page.
const NOTICES: u64 = 25;
/// No notice is added to a page that has so many deliveries: with the eleven of the last one, at 2
/// KB each where every character is escaped, the log stays below 90 KB.
const DELIVERIES: usize = 35;
/// Where everybody's are shown the last one has twenty-one, since webhooks for all are among them.
const DELIVERIES_OF_ALL: usize = 25;

/// Whose notices a page is about: it says so by its address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Here(Whose);

impl<S: Sync> FromRequestParts<S> for Here {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let is_for_all = parts.uri.path().starts_with(Self(Whose::Everybody).path());
        Ok(Self(if is_for_all { Whose::Everybody } else { Whose::Own }))
    }
}

impl Here {
    fn path(self) -> &'static str {
        match self.0 {
            Whose::Own => "/settings/notices",
            Whose::Everybody => "/admin/notices",
        }
    }

    fn tab(self) -> Tab {
        match self.0 {
            Whose::Own => Tab::Notices,
            Whose::Everybody => Tab::AllNotices,
        }
    }

    fn title(self) -> (&'static str, &'static str) {
        match self.0 {
            Whose::Own => (
                "Notices",
                "You are notified when a token expires soon, was revoked by someone else, or was found in public.",
            ),
            Whose::Everybody => (
                "All notices",
                "All notices sent to token owners, and their delivery. Webhooks on this page receive all of them.",
            ),
        }
    }

    fn deliveries(self) -> usize {
        match self.0 {
            Whose::Own => DELIVERIES,
            Whose::Everybody => DELIVERIES_OF_ALL,
        }
    }
}

#[derive(Default, Deserialize)]
pub(crate) struct Came {
    after: Option<Uuid>,
    removed: Option<String>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Add {
    url: String,
}

/// A webhook that was added a moment ago: its signing secret.
#[derive(Serialize, Deserialize)]
struct Added {
    secret: String,
}

/// What a page says beside what there is.
#[derive(Default)]
struct Said<'a> {
    done: Option<&'a str>,
    /// What went wrong with a webhook that was tried.
    undelivered: Option<&'a str>,
    /// What went wrong with the form, and with what it was filled in.
    refused: Option<(&'a str, &'a str)>,
    added: Option<Added>,
}

pub(crate) async fn show(
    State(state): State<AppState>,
    here: Here,
    Person(browser): Person,
    Asked(came): Asked<Came>,
    once: Once,
) -> Response {
    let done = came.removed.is_some().then_some("The webhook is removed. It no longer receives notices.");
    let added = once.open(&state, &browser, here.path());
    let page = render(&state, &browser.by, here, came.after, Said { done, added, ..Said::default() }).await;
    once.over(&state, here.path(), page)
}

pub(crate) async fn add(
    State(state): State<AppState>,
    here: Here,
    Sent(Person(browser), Filled(form)): Sent<Person, Filled<Add>>,
) -> Response {
    match state.authority.add_webhook(&browser.by, here.0, &form.url).await {
        Ok(added) => {
            let secret = added.secret.expose().to_string();
            once::lead_to(&state, &browser, here.path(), Added { secret })
        }
        Err(error) => {
            let error = ApiError::from(error);
            let said = Said { refused: Some((&form.url, error.message())), ..Said::default() };
            let page = render(&state, &browser.by, here, None, said).await;
            error.with_body(page)
        }
    }
}

/// Whether it arrived is what was asked, so that it did not is an answer and no failure.
pub(crate) async fn test(
    State(state): State<AppState>,
    here: Here,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
) -> Response {
    match state.authority.test_webhook(&browser.by, here.0, webhook_id(&id)).await {
        Ok(tested) => {
            let undelivered =
                tested.error.map(|error| format!("The test notification was not delivered: {error}"));
            let said = match &undelivered {
                None => Said { done: Some("The test notification was delivered."), ..Said::default() },
                Some(why) => Said { undelivered: Some(why), ..Said::default() },
            };
            render(&state, &browser.by, here, None, said).await
        }
        Err(error @ AuthorityError::Throttled { .. }) => {
            let error = ApiError::from(error);
            let said = Said {
                undelivered: Some("This webhook was tested just now. Wait a few seconds and try again."),
                ..Said::default()
            };
            let page = render(&state, &browser.by, here, None, said).await;
            error.with_body(page)
        }
        Err(error) => failed(error.into()),
    }
}

pub(crate) async fn ask_to_remove(
    State(state): State<AppState>,
    here: Here,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
) -> Response {
    let webhook_id = webhook_id(&id);
    let webhooks = match state.authority.webhooks(&browser.by, here.0).await {
        Ok(webhooks) => webhooks,
        Err(error) => return failed(error.into()),
    };
    match webhooks.iter().find(|webhook| webhook.webhook_id == webhook_id) {
        Some(webhook) => {
            layout::settings("Remove a webhook", &browser.by, here.tab(), question(here, webhook))
                .into_response()
        }
        None => failed(AuthorityError::NotFound("webhook").into()),
    }
}

fn question(here: Here, webhook: &WebhookRecord) -> Markup {
    html! {
        section.card {
            h1 { "Remove this webhook?" }
            p { "The webhook receives no more notices, and pending deliveries are cancelled. If you add it again, it gets a new signing secret." }
            dl.details {
                dt { "Webhook" } dd { code { (webhook.origin) } }
                dt { "Added" } dd { (day(webhook.created_at)) }
            }
            form.row method="post" action={ (here.path()) "/" (webhook.webhook_id) "/remove" } {
                button.danger type="submit" { "Remove the webhook" }
                a.button.quiet href=(here.path()) { "Cancel" }
            }
        }
    }
}

pub(crate) async fn remove(
    State(state): State<AppState>,
    here: Here,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
) -> Response {
    match state.authority.remove_webhook(&browser.by, here.0, webhook_id(&id)).await {
        Ok(()) => Redirect::to(&format!("{}?removed=1", here.path())).into_response(),
        Err(error) => failed(error.into()),
    }
}

async fn render(state: &AppState, by: &By, here: Here, after: Option<Uuid>, said: Said<'_>) -> Response {
    let found = async {
        let webhooks = state.authority.webhooks(by, here.0).await?;
        Ok::<_, AuthorityError>((webhooks, state.authority.notices(by, here.0, after, NOTICES).await?))
    };
    let (webhooks, mut told) = match found.await {
        Ok(found) => found,
        Err(error) => return failed(error.into()),
    };
    let is_full = told.len() as u64 == NOTICES;
    let shown = fitting(here, &told);
    let has_more = is_full || shown < told.len();
    told.truncate(shown);
    let next = told.last().map(|last| last.notice.notice_id).filter(|_| has_more);
    let (title, lead) = here.title();
    layout::settings(
        title,
        by,
        here.tab(),
        html! {
            div.head { div {
                h1 { (title) }
                p.lead { (lead) }
            } }
            @if let Some(done) = said.done { p.done role="status" { (done) } }
            (layout::problem(said.undelivered, &[]))
            @if let Some(added) = &said.added { (fresh(here, added)) }
            (places(here, by, state.authority.has_mail(), &webhooks, said.refused))
            (log(here, &told, after, next))
        },
    )
    .into_response()
}

/// How many of the notices fit on a page.
fn fitting(here: Here, told: &[ToldNotice]) -> usize {
    let mut deliveries = 0;
    let fits = |one: &&ToldNotice| {
        let fits = deliveries < here.deliveries();
        deliveries += one.deliveries.len();
        fits
    };
    told.iter().take_while(fits).count()
}

/// A webhook's signing secret, once.
fn fresh(here: Here, Added { secret }: &Added) -> Markup {
    html! {
        section.card.fresh aria-labelledby="fresh" {
            h2 #fresh { "The webhook is added" }
            p role="status" { strong { "Copy the signing secret now. " } "It won't be shown again. The receiver uses it to verify that notices come from this server." }
            div.secret {
                code data-testid="webhook-secret" #webhook-secret { (secret) }
                button.copy type="button" data-copy="webhook-secret" hidden { "Copy" }
            }
            p.faint { "Requests are signed according to the Standard Webhooks specification." }
            p.end { a.button.quiet href=(here.path()) { "Done, hide the secret" } }
        }
    }
}

fn places(
    here: Here,
    by: &By,
    has_mail: bool,
    webhooks: &[WebhookRecord],
    refused: Option<(&str, &str)>,
) -> Markup {
    let is_own = here.0 == Whose::Own;
    let problem = refused.map(|(_, why)| why);
    html! {
        section.card aria-labelledby="places" {
            h2 #places { "Where notices are sent" }
            @if !has_mail {
                p { "This server is not set up to send email. " @if webhooks.is_empty() {
                    strong { @if is_own { "Without a webhook, you won't be notified." } @else { "Users without a webhook won't be notified." } }
                } }
            } @else if is_own {
                p { "By email to " strong { (by.email) } "." }
            } @else {
                p { "Notices go to the token’s owner by email and to the owner’s webhooks, and to these webhooks:" @if webhooks.is_empty() { " None yet." } }
            }
            @if !webhooks.is_empty() {
                ul.places {
                    @for webhook in webhooks { li {
                        div { code { (webhook.origin) } small { "Added " (day(webhook.created_at)) } }
                        form.act method="post" action={ (here.path()) "/" (webhook.webhook_id) "/test" } {
                            button.quiet type="submit" aria-label={ "Send test to " (webhook.origin) } { "Send test" }
                            a.button.quiet href={ (here.path()) "/" (webhook.webhook_id) "/remove" } aria-label={ "Remove " (webhook.origin) } { "Remove" }
                        }
                    } }
                }
            }
            @if webhooks.len() as u64 >= MAX_WEBHOOKS {
                p.faint { "The maximum number of webhooks for " @if is_own { "an account" } @else { "all notices" } " is reached. Remove one to add another." }
                (layout::problem(problem, &[]))
            } @else {
                form.stack method="post" action=(here.path()) aria-describedby=[problem.map(|_| "problem")] {
                    label {
                        "Add a webhook"
                        input type="url" name="url" value=(refused.map_or("", |(url, _)| url)) required placeholder="https://example.org/hooks" autocomplete="off" aria-invalid=[problem.map(|_| "true")] autofocus[problem.is_some()];
                        (layout::problem(problem, &[]))
                        small { @if is_own { "Each of your notices" } @else { "Every notice" } " is sent there as signed JSON." }
                    }
                    button type="submit" { "Add the webhook" }
                }
            }
        }
    }
}

fn log(here: Here, told: &[ToldNotice], after: Option<Uuid>, next: Option<Uuid>) -> Markup {
    html! {
        h2 #log { "Sent notices" }
        @if told.is_empty() {
            section.card.empty { h3 { "No notices yet" } p { "Notices and their delivery status are kept for 90 days." } }
        } @else {
            table.tokens.log.sent aria-labelledby="log" {
                thead { tr { th scope="col" { "When (UTC)" } th scope="col" { "What" } th scope="col" { "Delivery" } } }
                tbody { @for one in told { tr {
                    td.when data-label="When" { (at(one.notice.created_at)) }
                    td data-label="What" { span { (what(&one.notice)) @if here.0 == Whose::Everybody { " " span.faint { "for " (one.email) } } } }
                    td data-label="Delivery" {
                        @if one.deliveries.is_empty() { span.faint { "Not sent: no email and no webhook was set up" } }
                        @else { ul { @for delivery in &one.deliveries { li { (way(delivery)) } } } }
                    }
                } } }
            }
        }
        nav.pages aria-label="Pages" {
            @if after.is_some() { a.button.quiet href=(here.path()) { "Newest" } }
            @if let Some(next) = next { a.button.quiet rel="next" href={ (here.path()) "?after=" (next) } { "Older" } }
        }
    }
}

/// One delivery: where to, how it stands, how often it was tried, and what was wrong.
fn way(delivery: &DeliveryRecord) -> Markup {
    let tries = match delivery.attempts {
        0 => "no attempts yet".to_owned(),
        1 => "1 attempt".to_owned(),
        many => format!("{many} attempts"),
    };
    html! {
        span.to { (delivery.target) } " "
        @match delivery.state {
            DeliveryState::Done => span.badge.good { "delivered" },
            DeliveryState::Pending if delivery.attempts == 0 => span.badge { "pending" },
            DeliveryState::Pending => span.badge.warn { "retrying" },
            DeliveryState::Failed => span.badge.danger { "failed" },
        }
        " " span.faint {
            (tries)
            @match (delivery.state, delivery.done_at) {
                (DeliveryState::Pending, _) => { ", next at " (at(delivery.next_at)) },
                (_, Some(done_at)) => { ", " (at(done_at)) },
                _ => {},
            }
        }
        @if let Some(error) = &delivery.error { div.why { (error) } }
    }
}

fn at(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (at.strftime("%-d %b %Y, %H:%M:%S")) } }
}

#[cfg(test)]
mod tests {
    use trustrelay_authority::{Channel, Notice, NoticeFacts, NoticeKind};

    use super::*;

    fn told(deliveries: usize) -> ToldNotice {
        let now: Timestamp = "2026-04-07T00:00:00Z".parse().expect("a time");
        let delivery = DeliveryRecord {
            delivery_id: Uuid::nil(),
            channel: Channel::Webhook,
            webhook_id: Some(Uuid::nil()),
            is_shared: false,
            target: format!("https://{}", "a".repeat(253)),
            attempts: 3,
            next_at: now,
            state: DeliveryState::Pending,
            error: Some("\"".repeat(200)),
            done_at: None,
        };
        let facts = NoticeFacts { pat_name: Some("\"".repeat(100)), ..NoticeFacts::default() };
        let notice = Notice {
            notice_id: Uuid::nil(),
            user_id: Uuid::nil(),
            pat_id: None,
            kind: NoticeKind::Expiring7d,
            created_at: now,
            facts,
        };
        ToldNotice { notice, email: "ada@example.org".into(), deliveries: vec![delivery; deliveries] }
    }

    #[test]
    fn a_page_of_the_longest_notices_stays_below_a_hundred_kibibytes() {
        let (own, all) = (Here(Whose::Own), Here(Whose::Everybody));
        let longest = vec![told(11); 25];
        let shown = fitting(own, &longest);
        assert_eq!(shown, 4, "4 × 11 is the first number that is 35 or more");
        let size = log(own, &longest[..shown], None, Some(Uuid::nil())).into_string().len();
        assert!((40_000..95_000).contains(&size), "{size}");
        // The most that a page for all can have: one short of full, and then the longest.
        let longest = [vec![told(8); 3], vec![told(21); 5]].concat();
        let shown = fitting(all, &longest);
        assert_eq!(shown, 4, "3 × 8 is one less than 25");
        assert_eq!(fitting(all, &vec![told(5); 6]), 5, "5 × 5 is full");
        let size = log(all, &longest[..shown], None, Some(Uuid::nil())).into_string().len();
        assert!((40_000..95_000).contains(&size), "{size}");
        assert_eq!(fitting(own, &vec![told(0); 25]), 25, "what went nowhere is short");
        assert_eq!(fitting(own, &[]), 0);
        let size = log(own, &vec![told(1); 25], None, None).into_string().len();
        assert!(size < 95_000, "{size}");
    }

    #[test]
    fn each_way_says_how_it_stands() {
        let mut delivery = told(1).deliveries.remove(0);
        delivery.target = "<b>".into();
        delivery.error = Some("<i>".into());
        let pending = way(&delivery).into_string();
        assert!(pending.contains("retrying") && pending.contains("3 attempts, next at"), "{pending}");
        assert!(!pending.contains("<b>") && !pending.contains("<i>"), "{pending}");
        (delivery.state, delivery.attempts, delivery.done_at, delivery.error) =
            (DeliveryState::Done, 1, Some(delivery.next_at), None);
        let done = way(&delivery).into_string();
        assert!(done.contains("delivered") && done.contains("1 attempt, <time"), "{done}");
        assert!(!done.contains("why"), "{done}");
        (delivery.state, delivery.attempts) = (DeliveryState::Failed, 0);
        let failed = way(&delivery).into_string();
        assert!(failed.contains("failed") && failed.contains("no attempts yet"), "{failed}");
    }
}
