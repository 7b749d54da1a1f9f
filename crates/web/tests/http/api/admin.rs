//! `/api/admin/users` and `/api/admin/invites`

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ADA, Answer, DAY, EVE, PASSWORD, World};

/// What Ada's browser changes about an account.
async fn change(world: &World, session: &str, email: &str, change: Value) -> Answer {
    let path = format!("/api/admin/users/{}", world.id_of(email).await);
    world.patch(&path).session(session).json(change).send().await
}

/// The secret in a link.
fn secret(url: &str) -> &str {
    url.split_once("/invite?token=").expect("a link").1
}

#[tokio::test]
async fn whoever_is_invited_sets_a_password_and_is_there() {
    let world = World::new().await;
    let session = world.browser().await;
    let asked = json!({ "email": " Bob@Example.org", "is_admin": true });
    let invited = world.post("/api/admin/users").session(&session).json(asked).send().await;
    assert_eq!((invited.status, invited.header("cache-control")), (StatusCode::CREATED, "no-store"));
    let invited = invited.value();
    assert_eq!((&invited["email"], &invited["is_admin"]), (&json!("bob@example.org"), &json!(true)));
    let url = invited["invite_url"].as_str().expect("a link");
    assert!(url.starts_with("http://relay.example/invite?token="), "{url}");

    let open = world.get("/api/admin/invites").session(&session).send().await;
    let open = open.value();
    assert_eq!((open.as_array().map(Vec::len), &open[0]["invite_id"]), (Some(1), &invited["invite_id"]));
    assert!(!open.to_string().contains(secret(url)), "the link is shown once");

    let page = world.get(&format!("/invite?token={}", secret(url))).send().await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("bob@example.org"), "{page}");
    let form = format!("token={}&password=another+good+password", secret(url));
    let made = world.post("/invite").form(&form).send().await;
    assert_eq!((made.status, made.header("location")), (StatusCode::SEE_OTHER, "/settings/developer"));
    let who = world.get("/api/user").session(&made.cookie()).send().await.value();
    assert_eq!((&who["user"]["email"], &who["user"]["is_admin"]), (&json!("bob@example.org"), &json!(true)));

    let again = world.post("/invite").form(&form).send().await;
    assert_eq!(again.status, StatusCode::NOT_FOUND, "it works once");
    let open = world.get("/api/admin/invites").session(&session).send().await;
    assert_eq!(open.value(), json!([]));
}

#[tokio::test]
async fn a_link_that_is_old_taken_back_or_followed_by_another_makes_nobody() {
    let world = World::new().await;
    let session = world.browser().await;
    let invite = async || {
        let asked = json!({ "email": "bob@example.org" });
        world.post("/api/admin/users").session(&session).json(asked).send().await.value()
    };
    let opens = async |invited: &Value| {
        let url = invited["invite_url"].as_str().expect("a link");
        world.get(&format!("/invite?token={}", secret(url))).send().await.status == StatusCode::OK
    };
    let (first, second) = (invite().await, invite().await);
    assert!(!opens(&first).await && opens(&second).await);
    let path = format!("/api/admin/invites/{}", second["invite_id"].as_str().expect("an id"));
    assert_eq!(world.delete(&path).session(&session).send().await.status, StatusCode::OK);
    assert_eq!(world.delete(&path).session(&session).send().await.status, StatusCode::NOT_FOUND);
    assert!(!opens(&second).await);
    let third = invite().await;
    world.clock.advance(6 * DAY);
    assert!(opens(&third).await);
    world.clock.advance(DAY);
    assert!(!opens(&third).await, "seven days are over");
    for token in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let page = world.get(&format!("/invite?token={token}")).send().await;
        assert_eq!((page.status, page.kind()), (StatusCode::NOT_FOUND, "text/html"), "{token}");
    }
}

#[tokio::test]
async fn a_password_that_is_too_short_leaves_the_invitation_open() {
    let world = World::new().await;
    let invited = world.authority.invite_for("bob@example.org", false).await.expect("invited");
    let form = |password: &str| format!("token={}&password={password}", &*invited.secret);
    let short = world.post("/invite").form(&form("short")).send().await;
    assert_eq!((short.status, short.kind()), (StatusCode::BAD_REQUEST, "text/html"));
    assert!(short.text.contains("role=\"alert\""), "{short}");
    assert_eq!(
        world.post("/invite").form(&form("long+enough+now")).send().await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn what_cannot_be_invited_is_refused_with_a_reason() {
    let world = World::new().await;
    let session = world.browser().await;
    for (asked, status) in [
        (json!({ "email": ADA }), StatusCode::CONFLICT),
        (json!({ "email": "nobody" }), StatusCode::BAD_REQUEST),
        (json!({}), StatusCode::BAD_REQUEST),
        (json!({ "email": "bob@example.org", "role": "admin" }), StatusCode::BAD_REQUEST),
    ] {
        let answer = world.post("/api/admin/users").session(&session).json(&asked).send().await;
        assert_eq!(answer.status, status, "{asked}");
    }
    assert_eq!(world.get("/api/admin/invites").session(&session).send().await.value(), json!([]));
}

#[tokio::test]
async fn people_are_listed_page_by_page_and_found_by_address() {
    let world = World::new().await;
    let session = world.browser().await;
    world.token_of(EVE, "mcp").await;
    let list = async |query: &str| {
        world.get(&format!("/api/admin/users{query}")).session(&session).send().await.json()
    };
    let emails = |page: &Value| {
        let people = page["value"].as_array().expect("a list").iter();
        people.map(|person| person["email"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let first = list("?limit=1").await;
    let next = first["next"].as_str().expect("another page");
    let second = list(&format!("?limit=1&after={next}")).await;
    assert_eq!(second["next"], Value::Null);
    let mut all = [emails(&first), emails(&second)].concat();
    all.sort();
    assert_eq!(all, [ADA, EVE]);
    let eve = list("?email=EVE&is_admin=false&is_disabled=false").await;
    assert_eq!((emails(&eve), &eve["value"][0]["active_tokens"]), (vec![EVE.to_owned()], &json!(1)));
    assert_eq!(emails(&list("?is_admin=true").await), [ADA]);
    assert_eq!(emails(&list("?is_disabled=true").await), [] as [&str; 0]);
    for wrong in ["?limit=0", "?limit=201", "?limit=x", "?after=x", "?is_admin=maybe"] {
        let answer = world.get(&format!("/api/admin/users{wrong}")).session(&session).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn an_account_that_an_administrator_disables_is_refused_at_once_and_not_for_ever() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token_of(EVE, "api").await);
    let disabled = change(&world, &session, EVE, json!({ "is_disabled": true })).await;
    assert_eq!(disabled.value()["disabled_at"], json!("2126-04-07T00:00:00Z"));
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::UNAUTHORIZED);
    let enabled = change(&world, &session, EVE, json!({ "is_disabled": false })).await;
    assert_eq!(enabled.value()["disabled_at"], Value::Null);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_role_that_is_given_or_taken_holds_for_the_tokens_that_are_in_use() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token_of(EVE, "api").await);
    let looks = async || world.get("/api/admin/users").bearer(&token).send().await.status;
    assert_eq!(looks().await, StatusCode::FORBIDDEN);
    change(&world, &session, EVE, json!({ "is_admin": true })).await.value();
    assert_eq!(looks().await, StatusCode::OK);
    let who = world.get("/api/user").bearer(&token).send().await.value();
    assert_eq!(who["user"]["is_admin"], json!(true));
    change(&world, &session, EVE, json!({ "is_admin": false })).await.value();
    assert_eq!(looks().await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_last_administrator_is_refused_to_go_until_there_is_another() {
    let world = World::new().await;
    let session = world.browser().await;
    for gone in [json!({ "is_admin": false }), json!({ "is_disabled": true })] {
        let refused = change(&world, &session, ADA, gone).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{refused}");
        assert!(refused.text.contains("the last enabled administrator"), "{refused}");
    }
    change(&world, &session, EVE, json!({ "is_admin": true })).await.value();
    let withdrawn = change(&world, &session, ADA, json!({ "is_admin": false })).await;
    assert_eq!(withdrawn.value()["is_admin"], json!(false));
    assert_eq!(world.get("/api/admin/users").session(&session).send().await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_change_names_one_thing_and_a_known_one() {
    let world = World::new().await;
    let session = world.browser().await;
    for wrong in [
        json!({}),
        json!({ "is_admin": true, "is_disabled": false }),
        json!({ "is_admin": "yes" }),
        json!({ "password": PASSWORD.len() }),
        json!({ "upstreams": ["Not A Name"] }),
        json!({ "upstreams": "github" }),
        json!({ "upstreams": vec!["a"; 101] }),
    ] {
        let answer = change(&world, &session, EVE, wrong.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}: {answer}");
    }
    let nobody = "/api/admin/users/0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11";
    let answer = world.patch(nobody).session(&session).json(json!({ "is_admin": true })).send().await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/api/admin/users/x").session(&session).send().await.status, StatusCode::NOT_FOUND);
    let deleted =
        world.delete(&format!("/api/admin/users/{}", world.id_of(EVE).await)).session(&session).send().await;
    assert_eq!(
        (deleted.status, deleted.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, PATCH")
    );
}

#[tokio::test]
async fn to_an_account_that_is_held_to_some_upstreams_the_others_are_not_there() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token_of(EVE, "mcp").await);
    let asks = async |path: &str| crate::mcp::initialize(world.post(path)).bearer(&token).send().await.status;
    assert_eq!(asks("/mcp/github").await, StatusCode::OK);
    let held = change(&world, &session, EVE, json!({ "upstreams": ["wiki", "docs", "wiki"] })).await;
    assert_eq!(held.value()["upstreams"], json!(["docs", "wiki"]));
    assert_eq!(asks("/mcp/github").await, StatusCode::NOT_FOUND, "as one that is not there");
    assert_eq!(asks("/mcp/nothing").await, StatusCode::NOT_FOUND);
    assert_eq!(asks("/mcp").await, StatusCode::OK);
    let all = change(&world, &session, EVE, json!({ "upstreams": null })).await;
    assert_eq!(all.value()["upstreams"], Value::Null);
    assert_eq!(asks("/mcp/github").await, StatusCode::OK);
}
