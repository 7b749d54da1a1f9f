//! `/settings/notices`

use http::StatusCode;

use crate::support::{ADA, Answer, DAY, EVE, World};

const PATH: &str = "/settings/notices";

async fn add(world: &World, session: &str, url: &str) -> Answer {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let added = world.post(PATH).session(session).form(&format!("url={url}")).send().await;
    if added.status.is_redirection() { world.follow(session, &added).await } else { added }
}

/// The signing secret on a page.
fn secret_in(page: &Answer) -> Option<&str> {
    let (_, rest) = page.text.split_once("whsec_")?;
    let end = rest.find('<').expect("an end");
    Some(&rest[..end])
}

/// The path of the first webhook of a page.
fn first_webhook(page: &Answer) -> String {
    let (_, rest) = page.text.split_once("action=\"/settings/notices/").expect("a webhook");
    format!("{PATH}/{}", rest.split('/').next().expect("an id"))
}

#[tokio::test]
async fn a_webhook_s_secret_is_on_the_page_that_the_form_leads_to_and_on_no_other() {
    let world = World::new().await;
    let session = world.browser().await;
    let empty = world.get(PATH).session(&session).send().await;
    assert_eq!((empty.status, empty.kind()), (StatusCode::OK, "text/html"));
    assert!(empty.text.contains(&format!("By email to <strong>{ADA}")), "{empty}");
    assert!(empty.text.contains("No notices yet") && !empty.text.contains("/test\""), "{empty}");

    let added = add(&world, &session, "https://hooks.example.org/tokens?a=1&b=2").await;
    assert_eq!(added.status, StatusCode::OK, "{added}");
    let secret = secret_in(&added).expect("a secret");
    assert_eq!(secret.len(), 44);
    world.keep_secret(secret);
    let page = world.get(PATH).session(&session).send().await;
    assert!(page.text.contains("https://hooks.example.org<"), "{page}");
    assert!(!page.text.contains("org/tokens") && !page.text.contains("a=1"), "only the origin: {page}");
    assert_eq!(secret_in(&page), None);
    let others = world.get(PATH).session(&world.browser_of(EVE).await).send().await;
    assert!(!others.text.contains("hooks.example.org"), "{others}");
}

#[tokio::test]
async fn a_url_that_will_not_do_comes_back_with_what_is_wrong() {
    let world = World::new().await;
    let session = world.browser().await;
    let refused = add(&world, &session, "http://\"><b>hooks").await;
    assert_eq!((refused.status, refused.kind()), (StatusCode::BAD_REQUEST, "text/html"));
    assert!(refused.text.contains("The webhook's URL must begin with https://."), "{refused}");
    assert!(refused.text.contains("value=\"http://&quot;&gt;&lt;b&gt;hooks\""), "{refused}");
    for n in 0..10 {
        assert!(add(&world, &session, &format!("https://hooks.example.org/{n}")).await.status.is_success());
    }
    let full = world.get(PATH).session(&session).send().await;
    assert!(full.text.contains("The maximum number of webhooks for an account is reached"), "{full}");
    assert!(!full.text.contains("name=\"url\""), "{full}");
    assert_eq!(add(&world, &session, "https://hooks.example.org/11").await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_test_says_whether_it_arrived_and_is_in_the_log() {
    let world = World::new().await;
    let session = world.browser().await;
    let works = first_webhook(&add(&world, &session, "https://hooks.example.org/tokens").await);
    let arrived = world.post(&format!("{works}/test")).session(&session).send().await;
    assert_eq!(arrived.status, StatusCode::OK);
    assert!(
        arrived.text.contains("The test notification was delivered.") && arrived.text.contains(">delivered<"),
        "{arrived}"
    );
    assert!(arrived.text.contains("Test notification") && arrived.text.contains("1 attempt"), "{arrived}");
    let again = world.post(&format!("{works}/test")).session(&session).send().await;
    assert_eq!((again.status, again.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "5"));
    assert!(again.text.contains("Wait a few seconds"), "{again}");

    let eve = world.browser_of(EVE).await;
    let down = first_webhook(&add(&world, &eve, "https://down.example/tokens").await);
    let lost = world.post(&format!("{down}/test")).session(&eve).send().await;
    assert_eq!(lost.status, StatusCode::OK, "what was asked is answered");
    assert!(
        lost.text.contains("The test notification was not delivered: the receiver answered 500."),
        "{lost}"
    );
    assert!(lost.text.contains("retrying") && lost.text.contains("next at"), "{lost}");
    assert!(!lost.text.contains("has arrived"), "{lost}");
    let hers = world.post(&format!("{works}/test")).session(&eve).send().await;
    assert_eq!((hers.status, hers.kind()), (StatusCode::NOT_FOUND, "text/html"));
}

#[tokio::test]
async fn removing_is_confirmed_first_and_then_holds() {
    let world = World::new().await;
    let session = world.browser().await;
    let webhook = first_webhook(&add(&world, &session, "https://hooks.example.org/tokens").await);
    let path = format!("{webhook}/remove");
    let question = world.get(&path).session(&session).send().await;
    assert!(question.text.contains("https://hooks.example.org<"), "{question}");
    let page = world.get(PATH).session(&session).send().await;
    assert!(page.text.contains("hooks.example.org"), "looking removes nothing");
    let eve = world.browser_of(EVE).await;
    for answer in [world.get(&path).session(&eve).send().await, world.post(&path).session(&eve).send().await]
    {
        assert_eq!((answer.status, answer.kind()), (StatusCode::NOT_FOUND, "text/html"));
    }
    let removed = world.post(&path).session(&session).send().await;
    assert_eq!(removed.status, StatusCode::SEE_OTHER);
    let page = world.get(removed.header("location")).session(&session).send().await;
    assert!(
        page.text.contains("The webhook is removed") && !page.text.contains("hooks.example.org"),
        "{page}"
    );
    assert_eq!(world.post(&path).session(&session).send().await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_log_tells_what_was_told_page_by_page() {
    let world = World::new().await;
    for _ in 0..30 {
        world.token_of(EVE, "mcp").await;
    }
    world.clock.advance(336 * DAY);
    world.authority.sweep_notices().await.expect("sweeps");
    while world.authority.send_due().await.expect("sends") > 0 {}
    let eve = world.browser_of(EVE).await;
    let page = world.get(PATH).session(&eve).send().await;
    let row = "The token ci-pipeline expires on 7 Apr 2127, 00:00";
    assert_eq!(page.text.matches(row).count(), 25, "{page}");
    assert!(page.text.contains(EVE), "it went by mail");
    assert!(page.text.len() < 100 * 1024, "{}", page.text.len());
    let (_, rest) = page.text.split_once("rel=\"next\" href=\"").expect("there is more");
    let older = world.get(rest.split('"').next().expect("ends")).session(&eve).send().await;
    assert_eq!(older.text.matches(row).count(), 5, "{older}");
    assert!(older.text.contains(">Newest<") && !older.text.contains(">Older<"), "{older}");
    let ada = world.get(PATH).session(&world.browser().await).send().await;
    assert!(!ada.text.contains(row), "{ada}");
}

#[tokio::test]
async fn the_page_is_a_tab_of_the_settings() {
    let world = World::new().await;
    let session = world.browser().await;
    let elsewhere = world.get("/settings/profile").session(&session).send().await;
    assert!(elsewhere.text.contains("<a href=\"/settings/notices\">Notices</a>"), "{elsewhere}");
    let here = world.get(PATH).session(&session).send().await;
    assert!(here.text.contains("<a href=\"/settings/notices\" aria-current=\"page\">"), "{here}");
}
