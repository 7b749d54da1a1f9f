//! `/admin/notices`: what everybody was told, and the webhooks for all.

use http::StatusCode;

use crate::support::{ADA, Answer, EVE, World};

const PATH: &str = "/admin/notices";

async fn add(world: &World, session: &str, host: &str) -> Answer {
    let form = format!("url=https%3A%2F%2F{host}%2Fall");
    let added = world.post(PATH).session(session).form(&form).send().await;
    world.follow(session, &added).await
}

/// The path of the first webhook of a page.
fn first_webhook(page: &Answer) -> String {
    let (_, rest) = page.text.split_once("action=\"/admin/notices/").unwrap_or_else(|| panic!("{page}"));
    format!("{PATH}/{}", rest.split('/').next().expect("an id"))
}

#[tokio::test]
async fn a_webhook_for_all_is_added_tried_and_removed_and_is_no_one_s_own() {
    let world = World::new().await;
    let session = world.browser().await;
    let empty = world.get(PATH).session(&session).send().await;
    assert!(empty.text.contains("None yet") && empty.text.contains("No notices yet"), "{empty}");
    assert!(empty.text.contains("<a href=\"/admin/notices\" aria-current=\"page\">"), "{empty}");

    let added = add(&world, &session, "hooks.example.org").await;
    assert!(added.status == StatusCode::OK && added.text.contains("whsec_"), "{added}");
    let webhook = first_webhook(&added);
    let page = world.get(PATH).session(&session).send().await;
    assert!(page.text.contains("https://hooks.example.org<") && !page.text.contains("whsec_"), "{page}");
    let own = world.get("/settings/notices").session(&session).send().await;
    assert!(!own.text.contains("hooks.example.org"), "{own}");
    // By the page of one's own it is out of reach.
    let as_own = webhook.replace("/admin/", "/settings/");
    for path in [format!("{as_own}/test"), format!("{as_own}/remove")] {
        assert_eq!(world.post(&path).session(&session).send().await.status, StatusCode::NOT_FOUND, "{path}");
    }

    let tried = world.post(&format!("{webhook}/test")).session(&session).send().await;
    assert!(
        tried.text.contains("The test notification was delivered.") && tried.text.contains(">delivered<"),
        "{tried}"
    );
    let again = world.post(&format!("{webhook}/test")).session(&session).send().await;
    assert_eq!(again.status, StatusCode::TOO_MANY_REQUESTS);

    let question = world.get(&format!("{webhook}/remove")).session(&session).send().await;
    assert!(question.text.contains("https://hooks.example.org<"), "{question}");
    let removed = world.post(&format!("{webhook}/remove")).session(&session).send().await;
    assert_eq!(removed.header("location"), "/admin/notices?removed=1");
    let page = world.get(removed.header("location")).session(&session).send().await;
    assert!(page.text.contains("The webhook is removed") && !page.text.contains("hooks.example.org/all"));
    let down = first_webhook(&add(&world, &session, "down.example").await);
    let lost = world.post(&format!("{down}/test")).session(&session).send().await;
    assert!(
        lost.text.contains("The test notification was not delivered: the receiver answered 500."),
        "{lost}"
    );
    let wrong = world.post(PATH).session(&session).form("url=http%3A%2F%2Fplain").send().await;
    assert_eq!((wrong.status, wrong.kind()), (StatusCode::BAD_REQUEST, "text/html"));
    assert!(wrong.text.contains("must begin with https://") && wrong.text.contains("value=\"http://plain\""));
}

#[tokio::test]
async fn what_everybody_was_told_is_there_with_whose_it_is_and_where_it_went() {
    let world = World::new().await;
    let session = world.browser().await;
    let token = world.token_of(EVE, "mcp").await;
    add(&world, &session, "hooks.example.org").await;
    let path = format!("/admin/tokens/{}/revoke", token.record.pat_id);
    assert_eq!(world.post(&path).session(&session).form("").send().await.status, StatusCode::SEE_OTHER);
    while world.authority.send_due().await.expect("sends") > 0 {}
    let page = world.get(PATH).session(&session).send().await;
    assert!(page.text.contains("An administrator revoked the token ci-pipeline"), "{page}");
    assert!(
        page.text.contains("for eve@example.org") && page.text.contains("https://hooks.example.org<"),
        "{page}"
    );
    // It is no notice of Ada's, and Eve does not see where administrators are told.
    let own = world.get("/settings/notices").session(&session).send().await;
    assert!(!own.text.contains("revoked the token"), "{own}");
    let eves = world.get("/settings/notices").session(&world.browser_of(EVE).await).send().await;
    assert!(eves.text.contains("revoked the token") && !eves.text.contains("hooks.example.org"), "{eves}");
}

#[tokio::test]
async fn who_is_no_administrator_sees_and_changes_nothing() {
    let world = World::new().await;
    let (ada, eve) = (world.browser().await, world.browser_of(EVE).await);
    let webhook = first_webhook(&add(&world, &ada, "hooks.example.org").await);
    for call in [
        world.get(PATH),
        world.post(PATH).form("url=https%3A%2F%2Feve.example"),
        world.get(&format!("{webhook}/remove")),
        world.post(&format!("{webhook}/remove")).form(""),
        world.post(&format!("{webhook}/test")).form(""),
    ] {
        let refused = call.session(&eve).send().await;
        assert_eq!((refused.status, refused.kind()), (StatusCode::FORBIDDEN, "text/html"), "{refused}");
        assert!(!refused.text.contains("hooks.example.org") && !refused.text.contains(ADA), "{refused}");
    }
    let page = world.get(PATH).session(&ada).send().await;
    assert!(page.text.contains("https://hooks.example.org<") && !page.text.contains("eve.example"));
}
