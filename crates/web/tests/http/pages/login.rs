//! `/login`, `/logout`

use http::StatusCode;

use crate::support::{ADA, World};

const GOOD: &str = "email=ada%40example.org&password=correct+horse+battery";

#[tokio::test]
async fn signing_in_leads_to_where_one_came_from() {
    let world = World::new().await;
    let answer = world.post("/login").form(&format!("{GOOD}&next=%2Fsettings%2Fprofile")).send().await;
    insta::assert_snapshot!(answer, @r#"
    303 See Other
    location: /settings/profile
    set-cookie: session=[session]; HttpOnly; SameSite=Lax; Path=/; Max-Age=604800
    "#);
    let page = world.get("/settings/profile").session(&answer.cookie()).send().await;
    assert!(page.text.contains(ADA));
}

#[tokio::test]
async fn it_leads_nowhere_else_and_into_no_header() {
    let world = World::new().await;
    for next in [
        "",
        "https%3A%2F%2Fevil.example",
        "%2F%2Fevil.example",
        "%2F%5Cevil.example",
        "%2Fsettings%2F%5Cevil.example",
        "%2Fsettings%2F%0d%0aset-cookie%3A+a%3Db",
        "%2Fsettings%2F%01",
        "%2Fsettings%2F%7f",
        "%2Fsettings%2F+x",
        "%2Fsettings%2F%c3%a9",
        "javascript%3Aalert(1)",
    ] {
        let answer = world.post("/login").form(&format!("{GOOD}&next={next}")).send().await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{next}");
        assert_eq!(answer.header("location"), "/settings/developer", "{next}");
        assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 1);
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_account_see_the_same_page() {
    let world = World::new().await;
    let wrong = world.post("/login").form("email=someone%40example.org&password=wrong").send().await;
    let unknown = world.post("/login").form("email=ada%40example.org&password=wrong").send().await;
    assert_eq!((wrong.status, unknown.status), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    assert_eq!(wrong.text.replace("someone@", ""), unknown.text.replace("ada@", ""));
    assert!(wrong.text.contains("role=\"alert\""));
}

#[tokio::test]
async fn guessing_is_slowed_down_here_too() {
    let world = World::new().await;
    for _ in 0..5 {
        world.post("/login").form("email=ada%40example.org&password=wrong").send().await;
    }
    let answer = world.post("/login").form(GOOD).send().await;
    assert_eq!((answer.status, answer.kind()), (StatusCode::TOO_MANY_REQUESTS, "text/html"));
    assert_eq!(answer.header("retry-after"), "900");
    assert!(answer.text.contains("Too many attempts. Try again in 15 minutes."), "{answer}");
}

#[tokio::test]
async fn signing_out_ends_the_session() {
    let world = World::new().await;
    let session = world.browser().await;
    let answer = world.post("/logout").session(&session).send().await;
    insta::assert_snapshot!(answer, @r#"
    303 See Other
    location: /login
    set-cookie: session=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0
    "#);
    assert_eq!(world.get("/api/user").session(&session).send().await.status, StatusCode::UNAUTHORIZED);
}
