//! `/settings/developer/{pat_id}/rotate`

use http::StatusCode;
use trustrelay_authority::Issued;

use crate::support::{Answer, EVE, World};

fn path(token: &Issued) -> String {
    format!("/settings/developer/{}", token.record.pat_id)
}

/// What is between a mark and the next character of a kind.
fn behind<'a>(page: &'a Answer, mark: &str, end: char) -> Option<&'a str> {
    let (_, rest) = page.text.split_once(mark)?;
    rest.split_once(end).map(|(found, _)| found)
}

/// The key of the form that a page asks with.
async fn key(world: &World, session: &str, token: &Issued) -> String {
    let question = world.get(&format!("{}/rotate", path(token))).session(session).send().await;
    behind(&question, "name=\"idempotency_key\" value=\"", '"').expect("a key").to_owned()
}

async fn submit(world: &World, session: &str, token: &Issued, form: &str) -> Answer {
    world.post(&format!("{}/rotate", path(token))).session(session).form(form).send().await
}

/// The new secret on the page that a form leads to.
async fn secret(world: &World, session: &str, answer: &Answer) -> String {
    let page = world.follow(session, answer).await;
    behind(&page, "id=\"new-token\">", '<').expect("a secret").to_owned()
}

async fn status(world: &World, secret: &str) -> StatusCode {
    world.get("/api/user").authorization(&format!("Bearer {secret}")).send().await.status
}

#[tokio::test]
async fn the_new_secret_is_on_the_token_s_page_once() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("api:read").await);
    let form = format!("overlap=none&idempotency_key={}", key(&world, &session, &token).await);
    let rotated = submit(&world, &session, &token, &form).await;
    assert_eq!(rotated.header("location"), path(&token));
    let page = world.follow(&session, &rotated).await;
    assert!(page.text.contains("The old secret no longer works."), "{page}");
    let new = behind(&page, "id=\"new-token\">", '<').expect("a secret");
    assert_eq!(status(&world, new).await, StatusCode::OK);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::UNAUTHORIZED);
    world.keep_secret(new);
    let again = world.get(&path(&token)).session(&session).send().await;
    assert!(again.status == StatusCode::OK && !again.text.contains("new-token"), "{again}");
}

#[tokio::test]
async fn the_same_form_sent_again_rotates_once_and_ends_no_secret_more() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("api:read").await);
    let form = format!("overlap=day&idempotency_key={}", key(&world, &session, &token).await);
    let first = submit(&world, &session, &token, &form).await;
    let again = submit(&world, &session, &token, &form).await;
    let new = secret(&world, &session, &first).await;
    assert_eq!(secret(&world, &session, &again).await, new, "a lost answer comes again");
    // Had it rotated twice, the secret that is in use would have ended at once.
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    assert_eq!(status(&world, &new).await, StatusCode::OK);
    let told = world.audit().await.into_iter().filter(|entry| entry.action == "token.rotated").count();
    assert_eq!(told, 1);

    // Another form is another rotation.
    let other = format!("overlap=day&idempotency_key={}", key(&world, &session, &token).await);
    let third = secret(&world, &session, &submit(&world, &session, &token, &other).await).await;
    assert_ne!(third, new);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_form_that_is_refused_asks_again_with_another_key() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("api:read").await);
    let used = key(&world, &session, &token).await;
    submit(&world, &session, &token, &format!("overlap=day&idempotency_key={used}")).await;
    for (form, status) in [
        (format!("overlap=none&idempotency_key={used}"), StatusCode::UNPROCESSABLE_ENTITY),
        ("overlap=for-ever&idempotency_key=k".to_owned(), StatusCode::BAD_REQUEST),
        ("overlap=day&idempotency_key=".to_owned(), StatusCode::BAD_REQUEST),
    ] {
        let refused = submit(&world, &session, &token, &form).await;
        assert_eq!(refused.status, status, "{form}");
        assert!(refused.text.contains("role=\"alert\""), "{refused}");
        let offered = behind(&refused, "name=\"idempotency_key\" value=\"", '"').expect("a key");
        assert_ne!(offered, used);
    }
    let stands = world.get("/api/user").bearer(&token).send().await;
    assert_eq!(stands.status, StatusCode::OK, "what was refused has ended nothing");
}

#[tokio::test]
async fn another_s_token_is_not_rotated() {
    let world = World::new().await;
    let (session, hers) = (world.browser().await, world.token_of(EVE, "mcp").await);
    let answers = [
        world.get(&format!("{}/rotate", path(&hers))).session(&session).send().await,
        submit(&world, &session, &hers, "overlap=none&idempotency_key=k").await,
    ];
    for answer in answers {
        assert_eq!((answer.status, answer.kind()), (StatusCode::NOT_FOUND, "text/html"));
    }
    assert_eq!(world.get("/api/user").bearer(&hers).send().await.status, StatusCode::OK);
}
