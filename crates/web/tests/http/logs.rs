//! What is logged, and what never is.

use serde_json::json;
use trustrelay_token::Token;

use crate::support::{ADA, Logs, PASSWORD, World, path_of};

#[tokio::test]
async fn no_secret_is_logged_wherever_a_client_puts_it() {
    let logs = Logs::keep();
    let world = World::new().await;
    let session = world.browser().await;
    let token = world.token("api tokens mcp").await;
    let unknown = Token::generate().expect("random");
    for secret in [token.token.expose(), unknown.expose()] {
        world.get("/api/user").authorization(&format!("Bearer {secret}")).send().await;
        world.get("/api/user").authorization(&format!("Basic {secret}")).send().await;
        world.get("/api/user").session(secret).send().await;
        world.get(&format!("/api/x/{secret}")).send().await;
        world.get(&format!("/{secret}")).send().await;
        world.get(&format!("/api/user/personal-access-tokens/{secret}")).session(&session).send().await;
        world.get(&format!("/mcp/{secret}")).bearer(&token).send().await;
        world.get(&format!("/settings/developer/{secret}/revoke")).session(&session).send().await;
        world.get(&format!("/assets/{secret}")).send().await;
        world.get(&format!("/api/user?access_token={secret}")).send().await;
        world.get("/api/user").header("x-request-id", secret).send().await;
        world.get("/mcp").header("x-request-id", &format!("x-{secret}")).send().await;
        world.post("/api/auth/login").json(json!({ "email": secret, "password": secret })).send().await;
        world.post("/login").form(&format!("email=a@b&password={secret}")).send().await;
        world.post("/setup").form(&format!("token={secret}&email=a@b&password={secret}")).send().await;
    }
    world.get(&format!("/{}", token.token.expose().replace('_', "%5f"))).send().await;
    let body = json!({ "email": ADA, "password": PASSWORD });
    let cookie = world.post("/api/auth/login").json(body).send().await.cookie();
    let body = json!({ "pat_name": "n", "pat_scope": "mcp" });
    let made = world.post("/api/user/personal-access-tokens").session(&cookie).json(body).send().await;
    world.delete(&path_of(&token)).session(&session).send().await;

    let text = logs.text();
    assert!(text.contains("answered") && text.contains("issued a token"), "{text}");
    let made = made.new_token().expect("a token");
    for secret in [token.token.expose(), unknown.expose(), &made, &session, &cookie, PASSWORD] {
        // Also no larger part of one.
        let part = if secret.starts_with("tr_pat_") { &secret[7..23] } else { &secret[..16] };
        assert!(!text.contains(part), "a secret was logged: {text}");
    }
}

#[tokio::test]
async fn a_request_is_logged_with_its_id_method_path_and_status() {
    let logs = Logs::keep();
    let world = World::new().await;
    world.get("/api/user?a=b").header("x-request-id", "0197-abc").send().await;
    let text = logs.text();
    let line = text.lines().find(|line| line.contains("answered")).expect("a line");
    for part in ["request{id=\"0197-abc\"}", "method=GET", "path=\"/api/user\"", "status=401"] {
        assert!(line.contains(part), "{line}");
    }
}
