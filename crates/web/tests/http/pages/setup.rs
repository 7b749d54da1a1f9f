//! `/setup`

use http::StatusCode;

use crate::support::{Setting, World};

#[tokio::test]
async fn the_link_makes_the_first_account_and_works_once() {
    let world = World::with(Setting { accounts: &[], ..Setting::default() }).await;
    let secret = world.authority.open_setup().expect("random");
    let page = world.get(&format!("/setup?token={secret}")).send().await;
    assert_eq!(page.status, StatusCode::OK);
    let form = format!("token={secret}&email=First%40example.org&password=correct+horse+battery");
    let made = world.post("/setup").form(&form).send().await;
    assert_eq!((made.status, made.header("location")), (StatusCode::SEE_OTHER, "/settings/developer"));
    let who = world.get("/api/user").session(&made.cookie()).send().await;
    assert_eq!(who.value()["user"]["email"], "first@example.org");
    assert_eq!(who.value()["user"]["is_admin"], true);

    assert_eq!(world.get(&format!("/setup?token={secret}")).send().await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.post("/setup").form(&form).send().await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn another_link_and_none_make_nothing() {
    let world = World::with(Setting { accounts: &[], ..Setting::default() }).await;
    world.authority.open_setup().expect("random");
    for path in ["/setup", "/setup?token=", "/setup?token=x"] {
        assert_eq!(world.get(path).send().await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let form = "token=x&email=a%40example.org&password=correct+horse+battery";
    assert_eq!(world.post("/setup").form(form).send().await.status, StatusCode::NOT_FOUND);
    assert!(!world.authority.has_accounts().await.expect("asks"));
}

#[tokio::test]
async fn a_wrong_field_is_refused_and_the_link_still_works() {
    let world = World::with(Setting { accounts: &[], ..Setting::default() }).await;
    let secret = world.authority.open_setup().expect("random");
    for form in ["email=a%40example.org&password=short", "email=nobody&password=correct+horse+battery"] {
        let answer = world.post("/setup").form(&format!("token={secret}&{form}")).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{form}");
        assert!(answer.text.contains("role=\"alert\""), "{form}");
    }
    assert_eq!(world.get(&format!("/setup?token={secret}")).send().await.status, StatusCode::OK);
}
