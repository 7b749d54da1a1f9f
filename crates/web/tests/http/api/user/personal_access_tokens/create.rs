//! `POST /api/user/personal-access-tokens`

use http::StatusCode;
use serde_json::{Value, json};

use super::TOKENS;
use crate::support::World;

#[tokio::test]
async fn a_browser_makes_a_token_and_sees_it_once() {
    let world = World::new().await;
    let session = world.browser().await;
    let body = json!({ "pat_name": "my-mcp-agent", "pat_scope": "mcp" });
    let created = world.post(TOKENS).session(&session).json(body).send().await;
    insta::assert_snapshot!(created, @r#"
    201 Created
    {
      "value": {
        "created_at": "2126-04-07T00:00:00Z",
        "expires_at": "2127-04-07T00:00:00Z",
        "pat_hint": "[hint]",
        "pat_id": "[id]",
        "pat_name": "my-mcp-agent",
        "pat_scope": "mcp",
        "pat_token": "[token]"
      }
    }
    "#);

    let token = created.new_token().expect("a token");
    let value = created.value();
    assert_eq!(value["pat_hint"], format!("...{}", &token[41..]));
    let bearer = format!("Bearer {token}");
    let who = world.get("/api/user").authorization(&bearer).send().await;
    assert_eq!(who.value()["credential"]["pat_id"], value["pat_id"]);
    // Each of these is searched for the token.
    let one = format!("{TOKENS}/{}", value["pat_id"].as_str().expect("an id"));
    for path in [TOKENS, &one, "/api/user", "/settings/developer", "/settings/profile", "/metrics"] {
        assert_eq!(world.get(path).session(&session).send().await.status, StatusCode::OK, "{path}");
    }
    let revoke_page = format!("/settings/developer/{}/revoke", value["pat_id"].as_str().expect("an id"));
    assert_eq!(world.get(&revoke_page).session(&session).send().await.status, StatusCode::OK);
    assert_eq!(world.delete(&one).session(&session).send().await.status, StatusCode::OK);
    let refused = world.get("/api/user").authorization(&bearer).send().await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_lives_as_long_as_was_asked_for() {
    let world = World::new().await;
    let session = world.browser().await;
    let mut lives = String::new();
    for (field, asked) in [
        ("nothing", Value::Null),
        ("expires_in_days", json!(1)),
        ("expires_in_days", json!(365)),
        ("expires_in_days", Value::Null),
        ("expires_at", json!("2126-05-01T12:00:00Z")),
        ("expires_at", json!("2126-05-01T12:00:00+02:00")),
        ("expires_at", json!("2126-04-07T00:00:01Z")),
        ("expires_at", json!("2127-04-07T00:00:00Z")),
    ] {
        let mut body = json!({ "pat_name": "n", "pat_scope": "mcp" });
        if field != "nothing" {
            body[field] = asked.clone();
        }
        let created = world.post(TOKENS).session(&session).json(body).send().await;
        assert_eq!(created.status, StatusCode::CREATED, "{created}");
        lives += &format!("{field} {asked}: {}\n", created.value()["expires_at"]);
    }
    insta::assert_snapshot!(lives, @r#"
    nothing null: "2127-04-07T00:00:00Z"
    expires_in_days 1: "2126-04-08T00:00:00Z"
    expires_in_days 365: "2127-04-07T00:00:00Z"
    expires_in_days null: "2127-04-07T00:00:00Z"
    expires_at "2126-05-01T12:00:00Z": "2126-05-01T12:00:00Z"
    expires_at "2126-05-01T12:00:00+02:00": "2126-05-01T10:00:00Z"
    expires_at "2126-04-07T00:00:01Z": "2126-04-07T00:00:01Z"
    expires_at "2127-04-07T00:00:00Z": "2127-04-07T00:00:00Z"
    "#);
}

#[tokio::test]
async fn scopes_are_put_in_order_and_names_trimmed() {
    let world = World::new().await;
    let session = world.browser().await;
    let body =
        json!({ "pat_name": "  my agent ☂ ", "pat_scope": " tokens  mcp:github/search mcp:github tokens" });
    let value = world.post(TOKENS).session(&session).json(body).send().await.value();
    assert_eq!(value["pat_name"], "my agent ☂");
    assert_eq!(value["pat_scope"], "mcp:github mcp:github/search tokens");
}

#[tokio::test]
async fn every_wrong_field_is_named_with_what_to_do() {
    let world = World::new().await;
    let session = world.browser().await;
    let long_name = "x".repeat(101);
    let many = (0..65).map(|n| format!("mcp:u{n}")).collect::<Vec<_>>().join(" ");
    let mut refusals = String::new();
    for (what, body) in [
        ("no name", json!({ "pat_scope": "mcp" })),
        ("no scope", json!({ "pat_name": "n" })),
        ("an empty name", json!({ "pat_name": "  ", "pat_scope": "mcp" })),
        ("a long name", json!({ "pat_name": long_name, "pat_scope": "mcp" })),
        ("a name of two lines", json!({ "pat_name": "a\nb", "pat_scope": "mcp" })),
        ("a name that is a number", json!({ "pat_name": 1, "pat_scope": "mcp" })),
        ("a name that is null", json!({ "pat_name": null, "pat_scope": "mcp" })),
        ("a scope that is a list", json!({ "pat_name": "n", "pat_scope": ["mcp"] })),
        ("an empty scope", json!({ "pat_name": "n", "pat_scope": "" })),
        ("an unknown scope", json!({ "pat_name": "n", "pat_scope": "mcp admin" })),
        ("a scope of another case", json!({ "pat_name": "n", "pat_scope": "MCP" })),
        ("an odd upstream", json!({ "pat_name": "n", "pat_scope": "mcp:Git_Hub" })),
        ("an odd tool", json!({ "pat_name": "n", "pat_scope": "mcp:github/\"" })),
        ("too many scopes", json!({ "pat_name": "n", "pat_scope": many })),
        ("no day", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_in_days": 0 })),
        ("a day too many", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_in_days": 366 })),
        ("days before today", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_in_days": -1 })),
        ("days without end", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_in_days": i64::MAX })),
        ("half a day", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_in_days": 0.5 })),
        ("days as text", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_in_days": "30" })),
        ("now", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_at": "2126-04-07T00:00:00Z" })),
        ("too far", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_at": "2127-04-07T00:00:01Z" })),
        ("a date", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_at": "2126-05-01" })),
        ("a number", json!({ "pat_name": "n", "pat_scope": "mcp", "expires_at": 4931000000u64 })),
        (
            "both expiries",
            json!({ "pat_name": "n", "pat_scope": "mcp", "expires_in_days": 1, "expires_at": "2126-05-01T00:00:00Z" }),
        ),
        ("an unknown field", json!({ "pat_name": "n", "pat_scope": "mcp", "pat_token": "x" })),
    ] {
        let answer = world.post(TOKENS).session(&session).json(body).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what}: {answer}");
        assert_eq!(answer.json()["error"]["code"], "invalid_request", "{what}");
        refusals +=
            &format!("{what}\n  {}\n", answer.json()["error"]["message"].as_str().expect("a message"));
    }
    insta::assert_snapshot!(refusals, @r#"
    no name
      missing field `pat_name` at line 1 column 19
    no scope
      missing field `pat_scope` at line 1 column 16
    an empty name
      `pat_name` is empty; name the token after what will use it, such as "ci-pipeline"
    a long name
      `pat_name` has 101 characters; at most 100 are allowed
    a name of two lines
      `pat_name` contains a control character, such as a line break or a tab; remove it
    a name that is a number
      `pat_name`: invalid type: integer `1`, expected a string at line 1 column 13
    a name that is null
      `pat_name`: invalid type: null, expected a string at line 1 column 16
    a scope that is a list
      `pat_scope`: invalid type: sequence, expected a string at line 1 column 28
    an empty scope
      `pat_scope`: a token needs at least one scope; known scopes are: mcp, mcp:read, mcp:<upstream>, mcp:<upstream>/<tool>, api, api:read, tokens, rotate
    an unknown scope
      `pat_scope`: `admin` is not a known scope; known scopes are: mcp, mcp:read, mcp:<upstream>, mcp:<upstream>/<tool>, api, api:read, tokens, rotate
    a scope of another case
      `pat_scope`: `MCP` is not a known scope; known scopes are: mcp, mcp:read, mcp:<upstream>, mcp:<upstream>/<tool>, api, api:read, tokens, rotate
    an odd upstream
      `pat_scope`: `Git_Hub` is not a valid upstream name; use 1 to 32 characters of a-z, 0-9 and `-`
    an odd tool
      `pat_scope`: `"` is not a valid tool name; use 1 to 128 printable ASCII characters without spaces, quotes and backslashes
    too many scopes
      `pat_scope`: a token can have at most 64 scopes, with 6464 characters in total
    no day
      `expires_in_days` must be a whole number from 1 to 365
    a day too many
      `expires_in_days` must be a whole number from 1 to 365
    days before today
      `expires_in_days` must be a whole number from 1 to 365
    days without end
      `expires_in_days` must be a whole number from 1 to 365
    half a day
      `expires_in_days`: invalid type: floating point `0.5`, expected a whole number at line 1 column 22
    days as text
      `expires_in_days`: invalid type: a string, expected a whole number at line 1 column 23
    now
      `expires_at` 2126-04-07T00:00:00Z is not in the future (it is 2126-04-07T00:00:00Z now)
    too far
      `expires_at` 2127-04-07T00:00:01Z is more than 365 days away; the latest possible time is 2127-04-07T00:00:00Z
    a date
      `expires_at` is not a time; write it as RFC 3339, such as 2027-01-31T00:00:00Z
    a number
      `expires_at`: invalid type: integer `4931000000`, expected a string at line 1 column 24
    both expiries
      use `expires_in_days` or `expires_at`, not both
    an unknown field
      unknown field `pat_token`, expected one of `pat_name`, `pat_scope`, `expires_in_days`, `expires_at`, `allowed_networks`, `requests_per_minute`, `expires_if_unused_days` at line 1 column 45
    "#);
    let listed = world.get(TOKENS).session(&session).send().await;
    assert_eq!(listed.value(), json!([]), "nothing was made");
}

#[tokio::test]
async fn a_token_that_was_pasted_into_the_wrong_field_is_not_repeated() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let secret = token.token.expose();
    let mut mistaken = json!({ "pat_name": "n", "pat_scope": "mcp" });
    mistaken[secret] = json!(1);
    for body in [
        json!({ "pat_name": secret, "pat_scope": "mcp" }),
        json!({ "pat_name": "n", "pat_scope": secret }),
        json!({ "pat_name": "n", "pat_scope": format!("mcp:{secret}") }),
        json!({ "pat_name": "n", "pat_scope": "mcp", "expires_in_days": secret }),
        json!({ "pat_name": "n", "pat_scope": "mcp", "expires_at": secret }),
        mistaken,
    ] {
        // Each answer is searched for the token.
        let answer = world.post(TOKENS).session(&session).json(body).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_token_makes_others_only_with_the_scope_tokens() {
    let world = World::new().await;
    let body = json!({ "pat_name": "n", "pat_scope": "mcp" });
    let api = world.token("api mcp").await;
    insta::assert_snapshot!(world.post(TOKENS).bearer(&api).json(&body).send().await, @r#"
    403 Forbidden
    trustrelay-token-expiration: 2127-04-07T00:00:00Z
    www-authenticate: Bearer realm="trustrelay", error="insufficient_scope", error_description="the token does not have the scope `tokens`", scope="tokens"
    {
      "error": {
        "code": "insufficient_scope",
        "message": "the token does not have the scope `tokens`"
      }
    }
    "#);
    let tokens = world.token("tokens mcp").await;
    let created = world.post(TOKENS).bearer(&tokens).json(&body).send().await;
    assert_eq!(created.status, StatusCode::CREATED);
}

#[tokio::test]
async fn an_account_has_at_most_a_thousand_tokens() {
    let world = World::new().await;
    let session = world.browser().await;
    let body = json!({ "pat_name": "n", "pat_scope": "mcp" });
    let made = (0..1000).map(|_| world.token("mcp"));
    futures_util::future::join_all(made).await;
    insta::assert_snapshot!(world.post(TOKENS).session(&session).json(&body).send().await, @r#"
    409 Conflict
    {
      "error": {
        "code": "conflict",
        "message": "this account has 1000 active tokens, which is the maximum; revoke tokens that are no longer used"
      }
    }
    "#);
}
