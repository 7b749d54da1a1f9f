//! `/settings/developer`

use http::StatusCode;

use crate::support::{DAY, EVE, World};

/// What looks like a token in a page.
fn tokens_in(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.parse::<trustrelay_token::Token>().is_ok()).collect()
}

#[tokio::test]
async fn a_new_token_is_on_the_page_that_answers_and_on_no_other() {
    let world = World::new().await;
    let session = world.browser().await;
    let form = "pat_name=my-agent&scope=mcp&scope=api%3Aread&expires_in_days=30";
    let answer = world.post("/settings/developer").session(&session).form(form).send().await;
    assert_eq!(answer.status, StatusCode::OK);
    let token = tokens_in(&answer.text)[0];
    world.keep_secret(token);
    let who = world.get("/api/user").authorization(&format!("Bearer {token}")).send().await;
    assert_eq!(who.value()["credential"]["pat_scope"], "mcp api:read");
    assert_eq!(who.value()["credential"]["expires_at"], "2126-05-07T00:00:00Z");
    let again = world.get("/settings/developer").session(&session).send().await;
    assert!(again.text.contains("my-agent") && tokens_in(&again.text).is_empty());
}

#[tokio::test]
async fn a_wrong_field_comes_back_with_what_was_filled_in() {
    let world = World::new().await;
    let session = world.browser().await;
    for form in [
        "pat_name=&scope=mcp",
        "pat_name=%3Cb%3Efilled-in&scope=admin",
        "pat_name=filled-in",
        "pat_name=filled-in&scope=mcp&expires_in_days=soon",
        "pat_name=filled-in&scope=mcp&expires_in_days=366",
    ] {
        let answer = world.post("/settings/developer").session(&session).form(form).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{form}");
        assert!(answer.text.contains("role=\"alert\""), "{form}");
        assert_eq!(answer.text.contains("filled-in"), form.contains("filled-in"), "{form}");
        assert!(!answer.text.contains("<b>"), "{form}");
    }
    assert_eq!(
        world.get("/api/user/personal-access-tokens").session(&session).send().await.value(),
        serde_json::json!([])
    );
}

#[tokio::test]
async fn the_snippets_name_the_host_that_was_asked() {
    let world = World::new().await;
    let session = world.browser().await;
    let call = world.post("/settings/developer").host("relay.example:8080").session(&session);
    let answer = call.form("pat_name=n&scope=mcp").send().await;
    assert!(answer.text.contains("http://relay.example:8080/mcp"));
    let call = world.post("/settings/developer").host("\"><script>alert(1)</script>").session(&session);
    let answer = call.form("pat_name=n&scope=mcp").send().await;
    assert!(!answer.text.contains("<script>alert"));
}

#[tokio::test]
async fn revoking_is_confirmed_first_and_then_holds() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let path = format!("/settings/developer/{}/revoke", token.record.pat_id);
    assert_eq!(world.get(&path).session(&session).send().await.status, StatusCode::OK);
    assert_eq!(
        world.get("/api/user").bearer(&token).send().await.status,
        StatusCode::OK,
        "looking ends nothing"
    );
    let answer = world.post(&path).session(&session).send().await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn another_s_token_is_not_there() {
    let world = World::new().await;
    let (session, hers) = (world.browser().await, world.token_of(EVE, "mcp").await);
    let path = format!("/settings/developer/{}/revoke", hers.record.pat_id);
    for answer in
        [world.get(&path).session(&session).send().await, world.post(&path).session(&session).send().await]
    {
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(world.get("/api/user").bearer(&hers).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_due_soon_comes_first_and_is_counted_above_the_list() {
    let world = World::new().await;
    let old = world.token("mcp").await;
    world.clock.advance(DAY * 340);
    let session = world.browser().await;
    world.token("mcp").await;
    let page = world.get("/settings/developer").session(&session).send().await;
    assert!(page.text.contains("<strong>1 token expires</strong> within 30 days on"), "{page}");
    let first = page.text.find("/revoke\"").expect("a list");
    assert!(page.text[..first].contains(&old.record.pat_id.to_string()), "{page}");
    world.clock.advance(DAY * 26);
    let page = world.get("/settings/developer").session(&world.browser().await).send().await;
    assert!(!page.text.contains("within 30 days"), "what has ended is not due: {page}");
}
