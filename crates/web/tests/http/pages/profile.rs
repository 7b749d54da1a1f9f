//! `/settings/profile`

use http::StatusCode;

use crate::support::{ADA, World};

#[tokio::test]
async fn changing_the_password_signs_the_other_browsers_out() {
    let world = World::new().await;
    let (session, other) = (world.browser().await, world.browser().await);
    let form = "current_password=correct+horse+battery&new_password=battery+horse+correct";
    let answer = world.post("/settings/profile/password").session(&session).form(form).send().await;
    let page = world.follow(&session, &answer).await;
    assert!(page.text.contains("The password is changed."), "{page}");
    assert_eq!(world.get("/api/user").session(&session).send().await.status, StatusCode::OK);
    assert_eq!(world.get("/api/user").session(&other).send().await.status, StatusCode::UNAUTHORIZED);
    world.authority.login(ADA, "battery horse correct".into(), None).await.expect("the new one is good");
}

#[tokio::test]
async fn a_wrong_current_and_a_short_new_password_change_nothing() {
    let world = World::new().await;
    let session = world.browser().await;
    for form in [
        "current_password=wrong&new_password=battery+horse+correct",
        "current_password=correct+horse+battery&new_password=short",
    ] {
        let answer = world.post("/settings/profile/password").session(&session).form(form).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{form}");
    }
    world.browser().await;
}

#[tokio::test]
async fn signing_out_everywhere_leaves_this_browser_and_the_tokens() {
    let world = World::new().await;
    let (session, other, token) = (world.browser().await, world.browser().await, world.token("mcp").await);
    let answer = world.post("/settings/profile/sign-out-everywhere").session(&session).send().await;
    let page = world.follow(&session, &answer).await;
    assert!(page.text.contains("Signed out of 1 other browser."), "{page}");
    assert_eq!(world.get("/api/user").session(&session).send().await.status, StatusCode::OK);
    assert_eq!(world.get("/api/user").session(&other).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
}
