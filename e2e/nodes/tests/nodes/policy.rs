//! What is decided at one node holds at all when it is answered.

use anyhow::Result;
use serde_json::{Value, json};
use trustrelay_e2e::api::Api;
use trustrelay_e2e_nodes::fleet::{Fleet, Setup};
use url::Url;

const PATH: &str = "/api/admin/policy";

/// A policy with nothing in it but this.
fn only(rule: &str, value: Value) -> Value {
    let mut policy = json!({
        "max_days": null, "default_days": null, "allowed_scopes": [], "unused_days": null, "allowed_networks": [],
    });
    policy[rule] = value;
    policy
}

/// What a node answers to a token: the status, and the error's code.
async fn answer(node: &Url, token: &str) -> Result<(u16, Value)> {
    let answer = reqwest::Client::new().get(node.join("/api/user")?).bearer_auth(token).send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.json::<Value>().await?["error"]["code"].take()))
}

#[tokio::test]
async fn a_policy_that_is_set_at_one_node_holds_at_each_as_soon_as_it_is_answered() -> Result<()> {
    let fleet = Fleet::start(Setup::with(&[])).await?;
    let (_, token) = fleet.token("api:read").await?;
    let nodes = fleet.bases();
    let api = Api::sign_in_at(&nodes[0]).await?;
    for node in &nodes {
        assert_eq!(answer(node, &token).await?.0, 200, "each has it in its index");
    }
    for decided_at in &nodes {
        let decider = api.at(decided_at);
        decider.put(PATH, &only("allowed_networks", json!(["10.0.0.0/8"]))).await?;
        for node in &nodes {
            assert_eq!(answer(node, &token).await?, (403, json!("network_not_allowed")), "{node}");
        }
        decider.put(PATH, &only("allowed_scopes", json!(["api:read"]))).await?;
        for node in &nodes {
            assert_eq!(answer(node, &token).await?.0, 200, "{node}");
            let refused = api.at(node).create("more", "api").await.expect_err("it is refused").to_string();
            assert!(refused.contains("403") && refused.contains("`api`"), "{node}: {refused}");
            let seen = api.at(node).get(PATH).await?;
            assert_eq!(seen["allowed_scopes"], json!(["api:read"]), "{node}");
        }
        decider.put(PATH, &only("max_days", json!(30))).await?;
        for node in &nodes {
            api.at(node).create("short", "api").await?;
            let long = json!({ "pat_name": "long", "pat_scope": "api", "expires_in_days": 31 });
            let refused = api.at(node).post("/api/user/personal-access-tokens", &long).await;
            assert!(refused.is_err_and(|error| error.to_string().contains("403")), "{node}");
        }
    }
    Ok(())
}
