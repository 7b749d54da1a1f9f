//! `GET /api/admin/nodes`

use crate::support::{EVE, World};

#[tokio::test]
async fn an_administrator_sees_the_nodes() {
    let world = World::new().await;
    let session = world.browser().await;
    let token = world.token("mcp").await;
    world
        .delete(&format!("/api/user/personal-access-tokens/{}", token.record.pat_id))
        .session(&session)
        .send()
        .await;
    let answer = world.get("/api/admin/nodes").session(&session).send().await;
    let value = answer.value();
    assert_eq!(value["log_head"], 1);
    let [node] = value["nodes"].as_array().expect("a list").as_slice() else { panic!("one node: {value}") };
    assert_eq!((&node["is_this"], &node["applied_seq"]), (&true.into(), &1.into()));
    assert!(node["lease_left_ms"].as_u64().is_some_and(|left| left > 0), "{node}");
}

#[tokio::test]
async fn nobody_else_does() {
    let world = World::new().await;
    let session = world.browser_of(EVE).await;
    insta::assert_snapshot!(world.get("/api/admin/nodes").session(&session).send().await, @r#"
    403 Forbidden
    {
      "error": {
        "code": "forbidden",
        "message": "only administrators can do this; ask an administrator"
      }
    }
    "#);
    let token = world.token("mcp api:read").await;
    let narrow = world.token("mcp").await;
    assert_eq!(world.get("/api/admin/nodes").bearer(&token).send().await.status, 200);
    assert_eq!(world.get("/api/admin/nodes").bearer(&narrow).send().await.status, 403);
}
