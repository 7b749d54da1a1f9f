//! A token made with a token is its child.

use http::StatusCode;
use serde_json::{Value, json};
use trustrelay_authority::{Expiry, Issued, NewPat};

use super::TOKENS;
use crate::support::{ADA, Answer, DAY, World, path_of};

async fn make(world: &World, parent: &Issued, body: Value) -> Answer {
    world.post(TOKENS).bearer(parent).json(body).send().await
}

/// A parent of 30 days with the scopes `mcp:github tokens`.
async fn parent(world: &World) -> Issued {
    let new = NewPat {
        name: "parent".into(),
        scope: "mcp:github tokens".into(),
        expiry: Expiry::Days(30),
        ..NewPat::default()
    };
    let parent = world.authority.issue_for(ADA, new).await.expect("issued");
    world.keep_secret(parent.token.expose());
    parent
}

#[tokio::test]
async fn a_child_opens_no_more_than_its_parent() {
    let world = World::new().await;
    let parent = parent(&world).await;
    for (scope, missing) in [
        ("mcp:github/search", None),
        ("mcp:github", None),
        ("tokens", None),
        ("mcp", Some("mcp")),
        ("mcp:gitlab", Some("mcp:gitlab")),
        ("api:read mcp:github", Some("api:read")),
        ("api", Some("api")),
    ] {
        let answer = make(&world, &parent, json!({ "pat_name": "child", "pat_scope": scope })).await;
        match missing {
            None => assert_eq!(answer.status, StatusCode::CREATED, "{scope}"),
            Some(missing) => {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{scope}");
                let challenge = answer.header("www-authenticate");
                assert!(challenge.ends_with(&format!("scope=\"{missing}\"")), "{challenge}");
            }
        }
    }
    insta::assert_snapshot!(make(&world, &parent, json!({ "pat_name": "child", "pat_scope": "mcp" })).await, @r#"
    403 Forbidden
    trustrelay-token-expiration: 2126-05-07T00:00:00Z
    www-authenticate: Bearer realm="trustrelay", error="insufficient_scope", error_description="the token does not have the scope `mcp`", scope="mcp"
    {
      "error": {
        "code": "insufficient_scope",
        "message": "the token does not have the scope `mcp`"
      }
    }
    "#);
}

#[tokio::test]
async fn a_child_does_not_outlive_its_parent() {
    let world = World::new().await;
    let parent = parent(&world).await;
    let child = |life: Value| {
        let mut body = json!({ "pat_name": "child", "pat_scope": "mcp:github" });
        body.as_object_mut().expect("an object").extend(life.as_object().expect("an object").clone());
        body
    };
    let created = make(&world, &parent, child(json!({}))).await;
    assert_eq!(created.value()["expires_at"], "2126-05-07T00:00:00Z", "its parent's, if nothing is said");
    let created = make(&world, &parent, child(json!({ "expires_in_days": 30 }))).await;
    assert_eq!(created.status, StatusCode::CREATED);
    insta::assert_snapshot!(make(&world, &parent, child(json!({ "expires_in_days": 31 }))).await, @r#"
    400 Bad Request
    trustrelay-token-expiration: 2126-05-07T00:00:00Z
    {
      "error": {
        "code": "invalid_request",
        "message": "`expires_in_days`: a token cannot outlive the token it was created with; the latest possible time is 2126-05-07T00:00:00Z"
      }
    }
    "#);
    let refused = make(&world, &parent, child(json!({ "expires_at": "2126-05-07T00:00:01Z" }))).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_child_is_revoked_with_its_parent_and_so_is_the_child_s_child() {
    let world = World::new().await;
    let (parent, session) = (parent(&world).await, world.browser().await);
    let body = json!({ "pat_name": "child", "pat_scope": "tokens mcp:github" });
    let child = make(&world, &parent, body.clone()).await.new_token().expect("a token");
    let grandchild = world.post(TOKENS).authorization(&format!("Bearer {child}")).json(&body).send().await;
    let grandchild = grandchild.new_token().expect("a token");
    let other = world.token("mcp").await;
    for token in [&child, &grandchild] {
        let answer = world.get("/api/user").authorization(&format!("Bearer {token}")).send().await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert_eq!(world.delete(&path_of(&parent)).session(&session).send().await.status, StatusCode::OK);
    for token in [&child, &grandchild] {
        let answer = world.get("/api/user").authorization(&format!("Bearer {token}")).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.header("www-authenticate").contains("revoked"));
    }
    assert_eq!(
        world.get("/api/user").bearer(&other).send().await.status,
        StatusCode::OK,
        "no other was touched"
    );
}

#[tokio::test]
async fn a_child_s_end_is_not_its_parent_s() {
    let world = World::new().await;
    let parent = parent(&world).await;
    let body = json!({ "pat_name": "child", "pat_scope": "mcp:github", "expires_in_days": 1 });
    let child = make(&world, &parent, body).await.new_token().expect("a token");
    let itself = format!("{TOKENS}/self");
    let revoked = world.delete(&itself).authorization(&format!("Bearer {child}")).send().await;
    assert_eq!(revoked.status, StatusCode::OK, "it may always revoke itself");
    assert_eq!(world.get("/api/user").bearer(&parent).send().await.status, StatusCode::OK);
    world.clock.advance(2 * DAY);
    assert_eq!(world.get("/api/user").bearer(&parent).send().await.status, StatusCode::OK);
}
