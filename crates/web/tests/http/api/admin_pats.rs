//! `/api/admin/personal-access-tokens`

use http::StatusCode;
use serde_json::{Value, json};
use trustrelay_authority::{ActorKind, Issued};

use crate::support::{ADA, Answer, DAY, EVE, World};

const TOKENS: &str = "/api/admin/personal-access-tokens";

async fn list(world: &World, session: &str, query: &str) -> Value {
    let answer = world.get(&format!("{TOKENS}{query}")).session(session).send().await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {answer}");
    answer.json()
}

async fn revoke(world: &World, session: &str, asked: Value) -> Answer {
    world.post(&format!("{TOKENS}/revoke")).session(session).json(asked).send().await
}

async fn stands(world: &World, token: &Issued) -> bool {
    world.get("/api/user").bearer(token).send().await.status == StatusCode::OK
}

fn owners(page: &Value) -> Vec<&str> {
    let tokens = page["value"].as_array().expect("a list").iter();
    tokens.map(|token| token["email"].as_str().expect("an address")).collect()
}

/// The kinds of what Eve was told.
async fn told(world: &World) -> Vec<(String, Value)> {
    let notices = world.get("/api/user/notices").session(&world.browser_of(EVE).await).send().await.value();
    let notices = notices.as_array().expect("a list").iter();
    notices.map(|told| (told["kind"].as_str().expect("text").to_owned(), told["pat_id"].clone())).collect()
}

#[tokio::test]
async fn everybody_s_tokens_are_listed_page_by_page_with_their_owners_and_their_number() {
    let world = World::new().await;
    let session = world.browser().await;
    let mut made = Vec::new();
    for email in [EVE, ADA, EVE] {
        made.push(world.token_of(email, "mcp").await.record.pat_id.to_string());
        world.clock.advance(DAY);
    }
    let first = list(&world, &session, "?limit=2").await;
    assert_eq!((owners(&first), &first["count"]), (vec![EVE, ADA], &json!(3)));
    let next = first["next"].as_str().expect("another page");
    let second = list(&world, &session, &format!("?limit=2&after={next}")).await;
    assert_eq!((owners(&second), &second["next"], &second["count"]), (vec![EVE], &Value::Null, &json!(3)));
    let token = &second["value"][0];
    assert_eq!((&token["pat_id"], &token["user_id"]), (&json!(made[0]), &json!(world.id_of(EVE).await)));
    assert_eq!((&token["revoked_at"], token.get("pat_token")), (&Value::Null, None));
    let one = world.get(&format!("{TOKENS}/{}", made[0])).session(&session).send().await.value();
    assert_eq!(&one, token);
}

#[tokio::test]
async fn tokens_are_found_by_owner_name_state_end_and_use() {
    let world = World::new().await;
    let session = world.browser().await;
    let (ada, eve) = (world.token("mcp api").await, world.token_of(EVE, "mcp").await);
    world.authority.revoke_any(eve.record.pat_id).await.expect("revoked");
    world.clock.advance(DAY);
    assert!(stands(&world, &ada).await, "it is used on the second day");
    let count = async |query: &str| {
        let found = list(&world, &session, query).await;
        assert_eq!(found["count"], json!(owners(&found).len()), "{query}");
        found["count"].as_u64().expect("a number")
    };
    let eves = format!("?owner={}", world.id_of(EVE).await);
    let hint = format!("?hint={}", ada.record.hint);
    let letters = hint.replace("...", "");
    for (query, fit) in [
        ("?owner=eve@&name=CI&state=revoked", 1),
        (eves.as_str(), 1),
        ("?owner=example", 0),
        ("?name=pipeline", 0),
        ("?state=active", 1),
        ("?state=expired", 0),
        ("?expires_before=2126-04-07T00:00:00Z", 0),
        ("?expires_before=2226-04-07", 1),
        ("?expires_before=2226-04-07&state=revoked", 1),
        ("?unused_since=2126-04-08", 0),
        ("?unused_since=2126-04-08&state=revoked", 1),
        (hint.as_str(), 1),
        (letters.as_str(), 1),
        ("?hint=0000&state=revoked", 0),
        ("?unused_since=2126-04-08&state=active", 0),
        ("?unused_since=2126-04-09&state=active", 1),
        ("?owner=&name=&state=&expires_before=&unused_since=&hint=&after=", 2),
    ] {
        assert_eq!(count(query).await, fit, "{query}");
    }
    for wrong in [
        "?limit=0",
        "?limit=101",
        "?after=x",
        "?state=dead",
        "?hint=...",
        "?hint=AbC",
        "?hint=...AbC%25",
        "?expires_before=soon",
        "?unused_since=1",
        "?onwer=eve",
    ] {
        let answer = world.get(&format!("{TOKENS}{wrong}")).session(&session).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn a_token_that_an_administrator_revokes_is_refused_at_once_and_its_owner_is_told_once() {
    let world = World::new().await;
    let session = world.browser().await;
    let (token, other) = (world.token_of(EVE, "mcp").await, world.token_of(EVE, "mcp").await);
    let path = format!("{TOKENS}/{}", token.record.pat_id);
    let first = world.delete(&path).session(&session).send().await.value();
    assert_eq!(first["revoked_at"], json!("2126-04-07T00:00:00Z"));
    assert!(!stands(&world, &token).await && stands(&world, &other).await);
    world.clock.advance(DAY);
    let again = world.delete(&path).session(&session).send().await.value();
    assert_eq!(again, first, "the first outcome");
    let shown = world.get(&path).session(&session).send().await.value();
    assert_eq!(shown["revoked_at"], first["revoked_at"]);

    assert_eq!(told(&world).await, [("revoked_by_admin".to_owned(), json!(token.record.pat_id))]);
    let log = world.audit().await;
    let entries: Vec<_> = log.iter().filter(|entry| entry.action == "token.revoked").collect();
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((entry.actor.kind, entry.actor.email.as_deref()), (ActorKind::User, Some(ADA)));
    assert_eq!(entry.pat_id, Some(token.record.pat_id));
    for nobody in ["x", "self", "0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11"] {
        for call in [world.get(&format!("{TOKENS}/{nobody}")), world.delete(&format!("{TOKENS}/{nobody}"))] {
            assert_eq!(call.session(&session).send().await.status, StatusCode::NOT_FOUND, "{nobody}");
        }
    }
}

#[tokio::test]
async fn all_that_a_filter_fits_are_revoked_if_they_are_as_many_as_expected() {
    let world = World::new().await;
    let session = world.browser().await;
    let (ada, eves) = (
        world.token("mcp").await,
        [
            world.token_of(EVE, "mcp").await,
            world.token_of(EVE, "mcp").await,
            world.token_of(EVE, "mcp").await,
        ],
    );
    world.authority.revoke_any(eves[2].record.pat_id).await.expect("revoked");
    for expected in [0, 1, 3, 1000] {
        let refused = revoke(&world, &session, json!({ "owner": EVE, "expected": expected })).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{refused}");
        assert!(refused.text.contains("matches 2 tokens"), "{refused}");
    }
    assert!(stands(&world, &eves[0]).await && stands(&world, &eves[1]).await, "nothing was revoked");
    assert_eq!(told(&world).await, []);

    let done = revoke(&world, &session, json!({ "owner": EVE, "expected": 2 })).await.value();
    assert_eq!(done, json!({ "revoked": 2, "sessions_terminated": 0 }));
    assert!(!stands(&world, &eves[0]).await && !stands(&world, &eves[1]).await);
    assert!(stands(&world, &ada).await, "the filter does not fit it");
    assert_eq!(told(&world).await.len(), 2, "of the one that was revoked before nothing is said");
    let log = world.audit().await;
    let by_ada = log.iter().filter(|entry| entry.action == "token.revoked" && entry.actor.email.is_some());
    assert_eq!(by_ada.count(), 2);
    let none = revoke(&world, &session, json!({ "owner": EVE, "expected": 0 })).await.value();
    assert_eq!(none["revoked"], json!(0));
}

#[tokio::test]
async fn more_than_a_thousand_at_once_or_what_cannot_be_meant_is_refused() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    for wrong in [
        json!({}),
        json!({ "owner": ADA }),
        json!({ "expected": 1001 }),
        json!({ "expected": -1 }),
        json!({ "expected": 1, "state": "revoked" }),
        json!({ "expected": 1, "state": "dead" }),
        json!({ "expected": 1, "unused_since": "yesterday" }),
        json!({ "expected": 1, "onwer": EVE }),
    ] {
        let answer = revoke(&world, &session, wrong.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}: {answer}");
    }
    assert!(stands(&world, &token).await);
}

#[tokio::test]
async fn everybody_s_are_not_revoked_at_once_also_if_their_number_is_right() {
    let world = World::new().await;
    let session = world.browser().await;
    let tokens = [world.token("mcp").await, world.token_of(EVE, "mcp").await];
    insta::assert_snapshot!(revoke(&world, &session, json!({ "expected": 2 })).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid_request",
        "message": "this would revoke all tokens; filter by `owner`, `name`, `hint`, `expires_before` or `unused_since`"
      }
    }
    "#);
    for open in [
        json!({ "expected": 2, "state": "active" }),
        json!({ "expected": 2, "owner": "", "name": "", "hint": "", "expires_before": "", "unused_since": "" }),
        json!({ "expected": 2, "owner": " " }),
        json!({ "expected": 0, "state": "expired" }),
    ] {
        let answer = revoke(&world, &session, open.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{open}: {answer}");
    }
    assert!(stands(&world, &tokens[0]).await && stands(&world, &tokens[1]).await);
    for (narrow, token) in [
        (json!({ "expected": 1, "hint": tokens[0].record.hint }), &tokens[0]),
        (json!({ "expected": 1, "expires_before": "2226-04-07" }), &tokens[1]),
    ] {
        let done = revoke(&world, &session, narrow.clone()).await.value();
        assert_eq!(done["revoked"], json!(1), "{narrow}");
        assert!(!stands(&world, token).await, "{narrow}");
    }
}
