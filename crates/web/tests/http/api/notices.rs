//! `/api/user/webhooks`, `/api/user/notices`, and the same for all under `/api/admin`.

use serde_json::{Value, json};

use crate::support::{DAY, EVE, World};

const HOOKS: &str = "/api/user/webhooks";
const NOTICES: &str = "/api/user/notices";

async fn added(world: &World, session: &str, url: &str) -> Value {
    let answer = world.post(HOOKS).session(session).json(json!({ "url": url })).send().await;
    assert_eq!(answer.status, 201, "{answer}");
    world.keep_secret(answer.value()["secret"].as_str().expect("a secret"));
    answer.value()
}

fn test_of(webhook: &Value) -> String {
    format!("{HOOKS}/{}/test", webhook["webhook_id"].as_str().expect("an id"))
}

#[tokio::test]
async fn a_webhook_s_secret_is_shown_once_and_never_again() {
    let world = World::new().await;
    let session = world.browser().await;
    let url = json!({ "url": "https://hooks.example.org/tokens?key=1" });
    let answer = world.post(HOOKS).session(&session).json(url).send().await;
    assert_eq!(answer.status, 201, "{answer}");
    assert_eq!(answer.header("cache-control"), "no-store");
    // The path and the query are secrets as well: no answer has them, not even this one.
    assert!(!answer.text.contains("key=1") && !answer.text.contains("/tokens"), "{answer}");
    let webhook = answer.value();
    let secret = webhook["secret"].as_str().expect("a secret");
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    world.keep_secret(secret);

    let list = world.get(HOOKS).session(&session).send().await;
    let expected = json!([{
        "webhook_id": webhook["webhook_id"],
        "origin": "https://hooks.example.org",
        "created_at": "2126-04-07T00:00:00Z",
    }]);
    assert_eq!(list.value(), expected);
    assert_eq!(world.get(HOOKS).session(&world.browser_of(EVE).await).send().await.value(), json!([]));
}

/// The notices and the audit log, of the account and of everybody, with a token that may only look.
#[tokio::test]
async fn a_token_without_tokens_is_not_shown_what_identifies_others() {
    let world = World::new().await;
    let session = world.browser().await;
    let new = json!({ "pat_name": "the-secret-project", "pat_scope": "mcp" });
    let made = world.post("/api/user/personal-access-tokens").session(&session).json(new).send().await;
    let (leaked, hint) = (made.new_token().expect("a token"), made.value()["pat_hint"].clone());
    let rotate = format!(
        "/api/user/personal-access-tokens/{}/rotate",
        made.value()["pat_id"].as_str().expect("an id")
    );
    let url = "https://github.example/ada/private-repository";
    world.post(&rotate).session(&session).json(json!({ "overlap_seconds": 600 })).send().await;
    let candidates = json!({ "candidates": [{ "token": leaked, "url": url }] });
    assert_eq!(world.post("/api/leaks").json(candidates).send().await.status, 200);
    let (reads, manages) = (world.token("api:read").await, world.token("api:read tokens").await);
    let hint = hint.as_str().expect("a hint");
    for path in [
        "/api/user/notices",
        "/api/admin/notices",
        "/api/admin/audit",
        "/api/admin/audit/export",
        "/api/user/audit",
    ] {
        let whole = world.get(path).bearer(&manages).send().await;
        assert!(whole.text.contains("the-secret-project") && whole.text.contains(url), "{path}: {whole}");
        let filtered = world.get(path).bearer(&reads).send().await;
        assert_eq!(filtered.status, 200, "{path}");
        for secret in ["the-secret-project", hint, "private-repository"] {
            assert!(!filtered.text.contains(secret), "{path} shows {secret}: {filtered}");
        }
    }
    let export = world.get("/api/admin/audit/export").bearer(&reads).send().await;
    assert!(export.text.contains("\"redacted\":true"), "a line says what it is: {export}");
}

#[tokio::test]
async fn a_test_says_whether_it_arrived_and_the_log_keeps_it() {
    let world = World::new().await;
    let session = world.browser().await;
    let (works, down) = (
        added(&world, &session, "https://hooks.example.org/tokens").await,
        added(&world, &session, "https://down.example/tokens").await,
    );
    let tested = world.post(&test_of(&works)).session(&session).send().await;
    assert_eq!(tested.value()["delivered"], true);
    assert_eq!(tested.value()["error"], Value::Null);
    let tested = world.post(&test_of(&down)).session(&session).send().await;
    assert_eq!(tested.value()["delivered"], false);
    assert_eq!(tested.value()["error"], "the receiver answered 500");
    let again = world.post(&test_of(&down)).session(&session).send().await;
    assert_eq!(again.status, 429, "{again}");
    assert_eq!(again.header("retry-after"), "5");

    let log = world.get(NOTICES).session(&session).send().await;
    let log_value = log.value();
    let [newest, oldest] = log_value.as_array().expect("a list").as_slice() else { panic!("two: {log}") };
    assert_eq!(newest["notice_id"], tested.value()["notice_id"]);
    let ways: Vec<_> = [newest, oldest]
        .map(|one| {
            let way = &one["deliveries"][0];
            assert_eq!(
                (&one["kind"], &way["channel"], &way["attempts"]),
                (&json!("test"), &json!("webhook"), &json!(1))
            );
            (way["target"].clone(), way["state"].clone(), way["error"].clone(), way["next_at"].is_null())
        })
        .into();
    assert_eq!(
        ways,
        [
            (json!("https://down.example"), json!("pending"), json!("the receiver answered 500"), false),
            (json!("https://hooks.example.org"), json!("done"), json!(null), true),
        ]
    );
}

#[tokio::test]
async fn a_webhook_is_removed_once() {
    let world = World::new().await;
    let session = world.browser().await;
    let webhook = added(&world, &session, "https://hooks.example.org/tokens").await;
    let path = format!("{HOOKS}/{}", webhook["webhook_id"].as_str().expect("an id"));
    assert_eq!(world.delete(&path).session(&world.browser_of(EVE).await).send().await.status, 404);
    let removed = world.delete(&path).session(&session).send().await;
    assert_eq!(removed.value(), json!({ "webhook_id": webhook["webhook_id"] }));
    for gone in [path.as_str(), "/api/user/webhooks/no-id"] {
        assert_eq!(world.delete(gone).session(&session).send().await.status, 404, "{gone}");
    }
    assert_eq!(world.get(HOOKS).session(&session).send().await.value(), json!([]));
}

#[tokio::test]
async fn a_token_cannot_silence_its_owner_s_notices() {
    let world = World::new().await;
    let session = world.browser().await;
    let webhook = added(&world, &session, "https://hooks.example.org/tokens").await;
    let token = world.token("mcp api tokens").await;
    let path = format!("{HOOKS}/{}", webhook["webhook_id"].as_str().expect("an id"));
    insta::assert_snapshot!(world.delete(&path).bearer(&token).send().await, @r#"
    403 Forbidden
    trustrelay-token-expiration: 2127-04-07T00:00:00Z
    {
      "error": {
        "code": "session_required",
        "message": "webhooks cannot be managed with a token, so that a stolen token cannot silence its owner's notices; sign in with a browser instead"
      }
    }
    "#);
    assert_eq!(world.get(HOOKS).bearer(&token).send().await.value().as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_url_or_a_query_is_said() {
    let world = World::new().await;
    let session = world.browser().await;
    for (body, says) in [
        (json!({ "url": "http://hooks.example.org" }), "must begin with https://"),
        (json!({}), "`url`"),
        (json!({ "url": "https://hooks.example.org", "secret": "mine" }), "`secret`"),
    ] {
        let answer = world.post(HOOKS).session(&session).json(body).send().await;
        assert_eq!(answer.status, 400, "{answer}");
        assert!(
            answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains(says)),
            "{answer}"
        );
    }
    for (query, says) in
        [("limit=0", "`limit`"), ("limit=101", "`limit`"), ("after=x", "`after`"), ("page=2", "page")]
    {
        let answer = world.get(&format!("{NOTICES}?{query}")).session(&session).send().await;
        assert_eq!(answer.status, 400, "{query}: {answer}");
        assert!(
            answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains(says)),
            "{query}: {answer}"
        );
    }
    for n in 0..10 {
        added(&world, &session, &format!("https://hooks.example.org/{n}")).await;
    }
    let eleventh = json!({ "url": "https://hooks.example.org/11" });
    assert_eq!(world.post(HOOKS).session(&session).json(eleventh).send().await.status, 409);
}

#[tokio::test]
async fn notices_of_a_token_s_end_are_listed_page_by_page() {
    let world = World::new().await;
    for _ in 0..3 {
        world.token_of(EVE, "mcp").await;
    }
    world.clock.advance(336 * DAY);
    world.authority.sweep_notices().await.expect("sweeps");
    let (eve, ada) = (world.browser_of(EVE).await, world.browser().await);
    let first = world.get(&format!("{NOTICES}?limit=2")).session(&eve).send().await;
    let next = first.json()["next"].as_str().expect("there is more").to_owned();
    let rest = world.get(&format!("{NOTICES}?limit=2&after={next}")).session(&eve).send().await;
    assert_eq!(
        (first.value().as_array().map(Vec::len), rest.value().as_array().map(Vec::len)),
        (Some(2), Some(1))
    );
    assert_eq!(rest.json()["next"], Value::Null);
    let notice = rest.value()[0].clone();
    assert_eq!((&notice["kind"], &notice["email"]), (&json!("expiring_30d"), &json!(EVE)));
    assert_eq!(notice["facts"]["pat_name"], "ci-pipeline");
    assert_eq!(world.get(NOTICES).session(&ada).send().await.value(), json!([]));
    let all = world.get("/api/admin/notices").session(&ada).send().await;
    assert_eq!(all.value().as_array().map(Vec::len), Some(3));
}
