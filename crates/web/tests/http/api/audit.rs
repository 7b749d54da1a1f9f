//! `GET /api/user/audit`, `GET /api/admin/audit`, `GET /api/admin/audit/export`; and what the log
//! has of refusals.

use http::StatusCode;
use serde_json::Value;

use crate::support::{ADA, EVE, World, path_of};

const OWN: &str = "/api/user/audit";
const ALL: &str = "/api/admin/audit";
const EXPORT: &str = "/api/admin/audit/export";

fn actions(page: &Value) -> Vec<&str> {
    let entries = page["value"].as_array().expect("a list").iter();
    entries.map(|entry| entry["action"].as_str().expect("an action")).collect()
}

async fn asked(world: &World, path: &str, session: &str) -> Value {
    let answer = world.get(path).session(session).send().await;
    assert_eq!(answer.status, StatusCode::OK, "{answer}");
    answer.json()
}

/// What was refused, and written down.
async fn refusals(world: &World) -> Vec<Value> {
    world.authority.flush_refusals(true).await;
    let session = world.browser().await;
    let page = asked(world, &format!("{ALL}?action=refused"), &session).await;
    page["value"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn everybody_sees_what_concerns_their_own_account() {
    let world = World::new().await;
    let (ada, eve) = (world.browser().await, world.browser_of(EVE).await);
    let token = world.token("mcp").await;
    world.delete(&path_of(&token)).session(&ada).send().await;
    let page = asked(&world, OWN, &ada).await;
    assert_eq!(actions(&page), ["token.revoked", "token.created", "session.began", "account.added"]);
    let revoked = &page["value"][0];
    assert_eq!(revoked["actor"]["kind"], "user");
    assert_eq!(revoked["actor"]["email"], ADA);
    assert_eq!(revoked["actor"]["address"], "192.0.2.7");
    assert_eq!(revoked["details"]["name"], "ci-pipeline");
    assert_eq!(revoked["pat_id"], token.record.pat_id.to_string());
    assert_eq!(page["next"], Value::Null);
    assert_eq!(actions(&asked(&world, OWN, &eve).await), ["session.began", "account.added"]);
}

#[tokio::test]
async fn an_administrator_sees_everybody_and_may_ask_for_one() {
    let world = World::new().await;
    let (ada, _) = (world.browser().await, world.browser_of(EVE).await);
    world.token_of(EVE, "mcp").await;
    let all = asked(&world, ALL, &ada).await;
    assert_eq!(actions(&all).len(), 5);
    let of_eve = asked(&world, &format!("{ALL}?user={EVE}"), &ada).await;
    assert_eq!(actions(&of_eve), ["token.created", "session.began", "account.added"]);
    let id = of_eve["value"][0]["user_id"].as_str().expect("an id");
    assert_eq!(asked(&world, &format!("{ALL}?user={id}"), &ada).await, of_eve);
    let by_eve = asked(&world, &format!("{ALL}?actor={EVE}"), &ada).await;
    assert_eq!(actions(&by_eve), ["session.began"], "the rest the operator did");
    let subject = asked(&world, &format!("{ALL}?action=account"), &ada).await;
    assert_eq!(actions(&subject), ["account.added", "account.added"]);
    let one = asked(
        &world,
        &format!(
            "{ALL}?action=token.created&token={}",
            of_eve["value"][0]["pat_id"].as_str().expect("an id")
        ),
        &ada,
    )
    .await;
    assert_eq!(actions(&one), ["token.created"]);
    // A day is the whole day.
    assert_eq!(actions(&asked(&world, &format!("{ALL}?from=2126-04-07&to=2126-04-07"), &ada).await).len(), 5);
    assert_eq!(actions(&asked(&world, &format!("{ALL}?to=2126-04-06"), &ada).await).len(), 0);
    assert_eq!(actions(&asked(&world, &format!("{ALL}?to=2126-04-07T00:00:00Z"), &ada).await).len(), 0);
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let world = World::new().await;
    let ada = world.browser().await;
    for _ in 0..5 {
        world.token("mcp").await;
    }
    let (mut path, mut seqs, mut pages) = (format!("{ALL}?limit=3"), Vec::new(), 0);
    loop {
        let page = asked(&world, &path, &ada).await;
        pages += 1;
        seqs.extend(
            page["value"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|entry| entry["seq"].as_u64().expect("a number")),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{ALL}?limit=3&after={next}");
    }
    assert_eq!((seqs, pages), (vec![8, 7, 6, 5, 4, 3, 2, 1], 3));
}

#[tokio::test]
async fn a_query_that_is_wrong_is_refused_with_the_field_s_name() {
    let world = World::new().await;
    let ada = world.browser().await;
    for (query, names) in [
        ("limit=0", "`limit`"),
        ("limit=201", "`limit`"),
        ("limit=many", "`limit`"),
        ("after=here", "`after`"),
        ("from=yesterday", "`from`"),
        ("to=2126-13-01", "`to`"),
        ("token=mine", "`token`"),
        ("user=nobody@example.org", "`user`"),
        ("actor=nobody@example.org", "`actor`"),
        ("owner=ada", "`owner`"),
        ("limit=1&limit=2", "`limit`"),
    ] {
        let answer = world.get(&format!("{ALL}?{query}")).session(&ada).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(answer.text.contains(names), "{query}: {answer}");
    }
    for query in ["user=eve@example.org", "actor=eve@example.org"] {
        let answer = world.get(&format!("{OWN}?{query}")).session(&ada).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "nobody asks for another's: {answer}");
    }
    for query in ["limit=5", "after=AAAA"] {
        let answer = world.get(&format!("{EXPORT}?{query}")).session(&ada).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "an export has no pages: {answer}");
    }
    // A token that somebody pastes in the wrong place is not repeated.
    let token = world.token("mcp").await;
    let answer = world.get(&format!("{ALL}?{}=1", token.token.expose())).session(&ada).send().await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn who_is_no_administrator_learns_nothing_of_others() {
    let world = World::new().await;
    let eve = world.browser_of(EVE).await;
    for path in [ALL, EXPORT, &format!("{ALL}?user={ADA}"), &format!("{ALL}?user=nobody@example.org")] {
        let answer = world.get(path).session(&eve).send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {answer}");
    }
}

#[tokio::test]
async fn an_export_has_a_line_for_each_entry_that_fits() {
    let world = World::new().await;
    let ada = world.browser().await;
    world.token("mcp").await;
    let answer = world.get(EXPORT).session(&ada).send().await;
    assert_eq!((answer.status, answer.kind()), (StatusCode::OK, "application/jsonl"));
    assert!(answer.header("content-disposition").contains("trustrelay-audit.jsonl"));
    let lines: Vec<Value> =
        answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        lines.iter().map(|line| line["seq"].as_u64()).collect::<Vec<_>>(),
        [Some(1), Some(2), Some(3), Some(4)]
    );
    assert_eq!(lines[3]["entry"]["action"], "token.created");
    let fitting = world.get(&format!("{EXPORT}?user={EVE}&action=account.added")).session(&ada).send().await;
    assert_eq!(fitting.text.lines().count(), 1);
    let none = world.get(&format!("{EXPORT}?to=2000-01-01")).session(&ada).send().await;
    assert_eq!((none.status, &*none.text), (StatusCode::OK, ""));
}

#[tokio::test]
async fn what_is_refused_is_told_with_who_asked_and_from_where() {
    let world = World::new().await;
    let narrow = world.token("mcp").await;
    let eve = world.browser_of(EVE).await;
    world.get("/api/admin/nodes").session(&eve).send().await;
    world.get("/api/user/personal-access-tokens").bearer(&narrow).send().await;
    world.get("/admin/audit").session(&eve).send().await;
    world.post("/api/auth/logout").session(&eve).header("sec-fetch-site", "cross-site").send().await;
    let told = refusals(&world).await;
    let mut actions: Vec<_> = told.iter().map(|entry| entry["action"].as_str().expect("an action")).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["refused.admin", "refused.cross_origin", "refused.scope"]);
    let of = |action: &str| told.iter().find(|entry| entry["action"] == action).expect("told");
    assert_eq!(
        (of("refused.admin")["actor"]["email"].as_str(), of("refused.admin")["details"]["count"].as_str()),
        (Some(EVE), Some("2"))
    );
    let scope = of("refused.scope");
    assert_eq!(
        (scope["details"]["scope"].as_str(), scope["details"]["path"].as_str()),
        (Some("tokens"), Some("/api/user/personal-access-tokens"))
    );
    assert_eq!(scope["pat_id"], narrow.record.pat_id.to_string());
    assert!(told.iter().all(|entry| entry["actor"]["address"] == "192.0.2.7"), "{told:?}");
    // What is good is not refused, and what is not there is no refusal.
    world.get("/api/user").bearer(&narrow).send().await;
    world.get("/api/nothing").bearer(&narrow).send().await;
    assert_eq!(refusals(&world).await.len(), 3);
}

#[tokio::test]
async fn the_mcp_endpoint_tells_of_what_it_refuses() {
    let world = World::new().await;
    let (api, good) = (world.token("api").await, world.token("mcp").await);
    world.post("/mcp").bearer(&api).json("{}").send().await;
    world.post("/mcp").bearer(&good).header("origin", "https://evil.example").json("{}").send().await;
    world.delete(&path_of(&good)).session(&world.browser().await).send().await;
    world.post("/mcp").bearer(&good).json("{}").send().await;
    let mut told: Vec<_> = refusals(&world).await;
    told.sort_by_key(|entry| entry["action"].to_string());
    let actions: Vec<_> = told.iter().map(|entry| entry["action"].as_str().expect("an action")).collect();
    assert_eq!(actions, ["refused.cross_origin", "refused.scope", "refused.token"]);
    assert_eq!(told[1]["details"]["scope"], "mcp");
    assert_eq!(told[1]["pat_id"], api.record.pat_id.to_string());
    assert_eq!(told[2]["details"]["reason"], "revoked");
    assert_eq!(told[2]["pat_id"], good.record.pat_id.to_string());
    assert_eq!(told[2]["actor"]["address"], "192.0.2.7");
}
