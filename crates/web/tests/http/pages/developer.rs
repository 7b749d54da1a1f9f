//! `/settings/developer`

use std::time::Duration;

use http::StatusCode;

use crate::support::{DAY, EVE, Setting, World};

/// What looks like a token in a page.
fn tokens_in(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.parse::<trustrelay_token::Token>().is_ok()).collect()
}

#[tokio::test]
async fn a_new_token_is_on_the_page_that_the_form_leads_to_and_on_no_other() {
    let world = World::new().await;
    let session = world.browser().await;
    let form = "pat_name=my-agent&scope=mcp&scope=api%3Aread&expires_in_days=30";
    let made = world.post("/settings/developer").session(&session).form(form).send().await;
    assert_eq!(made.header("location"), "/settings/developer");
    let answer = world.follow(&session, &made).await;
    assert_eq!(answer.status, StatusCode::OK);
    let token = tokens_in(&answer.text)[0];
    world.keep_secret(token);
    let who = world.get("/api/user").authorization(&format!("Bearer {token}")).send().await;
    assert_eq!(who.value()["credential"]["pat_scope"], "mcp api:read");
    assert_eq!(who.value()["credential"]["expires_at"], "2126-05-07T00:00:00Z");
    // The browser forgets it with that page, and asks without it from then on.
    let gone = answer.header("set-cookie");
    assert!(gone.starts_with("once=;") && gone.contains("Max-Age=0"), "{gone}");
    assert!(gone.contains("Path=/settings/developer"), "{gone}");
    let again = world.get("/settings/developer").session(&session).send().await;
    assert!(again.text.contains("my-agent") && tokens_in(&again.text).is_empty());
    assert_eq!(again.header("set-cookie"), "");
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
async fn an_error_stands_beside_its_field_and_names_its_label() {
    let world = World::new().await;
    let session = world.browser().await;
    for (form, says) in [
        ("pat_name=&scope=mcp", "Name is empty."),
        ("pat_name=n", "Choose at least one permission."),
        ("pat_name=n&scope_more=+", "Choose at least one permission."),
        ("pat_name=n&scope=admin", "Permissions: `admin` is not a known scope."),
        ("pat_name=n&scope=mcp&expires_in_days=0", "Expires after must be a whole number from 1 to 365."),
        ("pat_name=n&scope=mcp&allowed_networks=office", "Allowed IP ranges: the value is not an IP range."),
        ("pat_name=n&scope=mcp&requests_per_minute=0", "Requests per minute must be a whole number"),
        (
            "pat_name=n&scope=mcp&expires_if_unused_days=x",
            "Revoke after days without use must be a whole number",
        ),
    ] {
        let answer = world.post("/settings/developer").session(&session).form(form).send().await;
        let (_, beside) = answer.text.split_once("<span class=\"problem\"").expect(form);
        assert!(beside.split_once("</span>").expect(form).0.contains(says), "{form}: {beside}");
        assert_eq!(answer.text.matches("role=\"alert\"").count(), 1, "{form}");
    }
}

#[tokio::test]
async fn the_snippets_name_the_host_that_was_asked() {
    let world = World::new().await;
    let session = world.browser().await;
    let call = world.post("/settings/developer").host("relay.example:8080").session(&session);
    let made = call.form("pat_name=n&scope=mcp").send().await;
    let (once, _) = made.header("set-cookie").split_once(';').expect("a cookie");
    for (host, shown) in [("relay.example:8080", true), ("\"><script>alert(1)</script>", false)] {
        let page = world.get("/settings/developer").host(host).session(&session).header("cookie", once);
        let page = page.send().await;
        assert!(page.text.contains("id=\"new-token\"") && !page.text.contains("<script>alert"));
        assert_eq!(page.text.contains("http://relay.example:8080/mcp"), shown);
    }
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

#[tokio::test]
async fn what_a_form_has_made_is_handed_to_nobody_else() {
    let world = World::with(Setting { secure_cookies: true, ..Setting::default() }).await;
    let session = world.browser().await;
    let form = "pat_name=my-agent&scope=mcp";
    let made = world.post("/settings/developer").session(&session).form(form).send().await;
    let cookie = made.header("set-cookie").to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/settings/developer", "Max-Age=60"] {
        assert!(cookie.contains(attribute), "{attribute} in {cookie}");
    }
    let page = world.follow(&session, &made).await;
    let token = tokens_in(&page.text)[0];
    assert!(!cookie.contains(token), "on its way it is sealed");
    world.keep_secret(token);
    let (once, _) = cookie.split_once(';').expect("attributes");
    // Another session of the same person, another person, another page, another time: nothing is
    // shown, and nothing fails.
    let (other, eve) = (world.browser().await, world.browser_of(EVE).await);
    for (path, session) in
        [("/settings/developer", &other), ("/settings/developer", &eve), ("/settings/notices", &session)]
    {
        let page = world.get(path).session(session).header("cookie", once).send().await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(!page.text.contains("class=\"card fresh\""), "{path}: {page}");
        assert!(page.header("set-cookie").contains("Max-Age=0"), "what does not open goes, too");
    }
    world.clock.advance(Duration::from_secs(61));
    let late = world.get("/settings/developer").session(&session).header("cookie", once).send().await;
    assert!(late.status == StatusCode::OK && !late.text.contains("class=\"card fresh\""), "{late}");
}
