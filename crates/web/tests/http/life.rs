//! One token's whole life, from its creation to the last entry that tells of it.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::mcp::{call_in_session, initialize};
use crate::support::{Answer, World};

const TOKENS: &str = "/api/user/personal-access-tokens";

/// Somebody with a token, as a client is.
struct Holder<'w> {
    world: &'w World,
    token: String,
}

impl<'w> Holder<'w> {
    /// Whoever is given the token in an answer.
    fn of(world: &'w World, answer: &Answer) -> Self {
        assert!(answer.status.is_success(), "{answer}");
        Self { world, token: answer.new_token().expect("a token") }
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    async fn asks(&self) -> Answer {
        self.world.get("/api/user").authorization(&self.authorization()).send().await
    }

    async fn posts(&self, path: &str, body: Value) -> Answer {
        self.world.post(path).authorization(&self.authorization()).json(body).send().await
    }
}

fn actions(log: &Value) -> Vec<String> {
    let entries = log.as_array().expect("a list").iter();
    entries.map(|entry| entry["action"].as_str().expect("an action").to_owned()).collect()
}

#[tokio::test]
async fn a_token_is_made_used_rotated_delegated_leaked_and_told_of() {
    let world = World::new().await;
    let ada = world.browser().await;

    // Made in the browser, for an agent that may hand on a part of what it may do.
    let new =
        json!({ "pat_name": "my-mcp-agent", "pat_scope": "mcp api:read tokens", "expires_in_days": 90 });
    let made = world.post(TOKENS).session(&ada).json(new).send().await;
    let pat_id = made.value()["pat_id"].clone();
    let agent = Holder::of(&world, &made);
    assert_eq!(agent.asks().await.status, StatusCode::OK);
    let opened = initialize(world.post("/mcp").authorization(&agent.authorization())).send().await;
    let session = opened.header("mcp-session-id").to_owned();

    // Two months on it rotates itself; its sessions go on under the new secret.
    world.clock.advance(Duration::from_secs(60 * 24 * 3600));
    let ada = world.browser().await;
    let rotated = agent.posts(&format!("{TOKENS}/self/rotate"), json!({ "until_first_use": true })).await;
    assert_eq!(rotated.value()["pat_id"], pat_id);
    let renewed = Holder::of(&world, &rotated);
    assert_eq!(agent.asks().await.status, StatusCode::OK, "nobody has used the new one yet");
    let called = call_in_session(&world, "/mcp", &renewed.authorization(), &session).await;
    assert_eq!(called.status, StatusCode::OK, "{called}");
    assert_eq!(agent.asks().await.status, StatusCode::UNAUTHORIZED, "now somebody has");

    // It makes a narrower one for a job.
    let job = json!({ "pat_name": "nightly-job", "pat_scope": "api:read", "expires_in_days": 1 });
    let delegated = renewed.posts(TOKENS, job).await;
    let job = Holder::of(&world, &delegated);
    let shown = world.get(TOKENS).session(&ada).send().await;
    assert_eq!(shown.value()[0]["pat_parent_id"], pat_id, "the newest is the child: {shown}");
    let wider = renewed.posts(TOKENS, json!({ "pat_name": "wider", "pat_scope": "api" })).await;
    assert_eq!(wider.status, StatusCode::FORBIDDEN);

    // Somebody finds the job's token in a log, and says so.
    let seen = json!({ "candidates": [
        { "token": job.token, "url": "https://ci.example/log/7" }, { "token": "tr_pat_mistyped" },
    ] });
    let reported = world.post("/api/leaks").coming_from("198.51.100.9").json(seen).send().await;
    assert_eq!(reported.status, StatusCode::OK, "{reported}");
    assert_eq!(job.asks().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(renewed.asks().await.status, StatusCode::OK, "the one above it stands");
    let told = world.get("/api/user/notices").session(&ada).send().await;
    assert!(
        told.to_string().contains("leaked") && told.to_string().contains("https://ci.example/log/7"),
        "{told}"
    );

    // And then it is over.
    let path = format!("{TOKENS}/{}", pat_id.as_str().expect("an id"));
    let revoked = world.delete(&path).session(&ada).send().await;
    assert_eq!(revoked.status, StatusCode::OK);
    assert_eq!(renewed.asks().await.status, StatusCode::UNAUTHORIZED);

    // Its owner reads all of it, newest first, and in it no secret (which is looked for in every
    // answer).
    world.authority.flush_refusals(true).await;
    let log = world.get("/api/user/audit").session(&ada).send().await;
    let told = actions(&log.value());
    let story: Vec<_> = told.iter().rev().filter(|action| action.starts_with("token.")).collect();
    let expected = [
        "token.created",
        "token.rotated",
        "token.secret_retired",
        "token.created",
        "token.leaked",
        "token.revoked",
    ];
    assert_eq!(story, expected, "{log}");
    for refused in ["refused.retired_secret", "refused.scope", "refused.token"] {
        assert!(told.iter().any(|action| action == refused), "{refused} is missing: {told:?}");
    }
}
