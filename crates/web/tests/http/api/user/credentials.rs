//! Credentials that are missing, malformed, unknown, expired, revoked, or several.

use http::StatusCode;
use trustrelay_token::Token;

use crate::support::{ADA, DAY, World, path_of};

#[tokio::test]
async fn no_credential_is_challenged_without_an_error() {
    let world = World::new().await;
    insta::assert_snapshot!(world.get("/api/user").send().await, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trustrelay"
    {
      "error": {
        "code": "unauthenticated",
        "message": "this needs a personal access token: send `Authorization: Bearer tr_pat_…`"
      }
    }
    "#);
}

#[tokio::test]
async fn what_is_no_token_is_told_so() {
    let world = World::new().await;
    let token = world.token("api").await;
    let good = token.token.expose();
    let last = if good.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("Bearer {}{last}", &good[..44]);
    let mut refusals = String::new();
    for (what, header) in [
        ("another scheme", "Basic YWRhOnNlY3JldA=="),
        ("nothing", ""),
        ("a scheme alone", "Bearer"),
        ("another prefix", "Bearer ghp_0123456789"),
        ("cut off", "Bearer tr_pat_abc"),
        ("a quoted token", "Bearer \"tr_pat_abc\""),
        ("two tokens", &format!("Bearer {good}, Bearer {good}")),
        ("an odd character", &format!("Bearer {}-{}", &good[..20], &good[21..])),
        ("mistyped", &mistyped),
    ] {
        let answer = world.get("/api/user").authorization(header).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
        assert_eq!(answer.json()["error"]["code"], "invalid_token", "{what}");
        refusals += &format!("{what}\n  {}\n", answer.header("www-authenticate"));
    }
    insta::assert_snapshot!(refusals, @r#"
    another scheme
      Bearer realm="trustrelay", error="invalid_token", error_description="the Authorization header must be `Bearer tr_pat_...`"
    nothing
      Bearer realm="trustrelay", error="invalid_token", error_description="the Authorization header must be `Bearer tr_pat_...`"
    a scheme alone
      Bearer realm="trustrelay", error="invalid_token", error_description="the Authorization header must be `Bearer tr_pat_...`"
    another prefix
      Bearer realm="trustrelay", error="invalid_token", error_description="a token starts with `tr_pat_`"
    cut off
      Bearer realm="trustrelay", error="invalid_token", error_description="a token has 45 characters, but this has 10; make sure that it is complete and has no spaces"
    a quoted token
      Bearer realm="trustrelay", error="invalid_token", error_description="a token starts with `tr_pat_`"
    two tokens
      Bearer realm="trustrelay", error="invalid_token", error_description="a token has 45 characters, but this has 99; make sure that it is complete and has no spaces"
    an odd character
      Bearer realm="trustrelay", error="invalid_token", error_description="a token has only letters and digits after `tr_pat_`; character 20 is neither"
    mistyped
      Bearer realm="trustrelay", error="invalid_token", error_description="the token's checksum does not match: it was mistyped or altered"
    "#);
}

#[tokio::test]
async fn a_header_that_is_no_text_is_refused() {
    let world = World::new().await;
    let answer = world.get("/api/user").authorization("Bearer tr_pat_é").send().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn several_authorization_headers_are_refused_even_if_each_is_good() {
    let world = World::new().await;
    let token = world.token("api").await;
    insta::assert_snapshot!(world.get("/api/user").bearer(&token).bearer(&token).send().await, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trustrelay", error="invalid_token", error_description="there is more than one Authorization header; send one"
    {
      "error": {
        "code": "invalid_token",
        "message": "there is more than one Authorization header; send one"
      }
    }
    "#);
}

#[tokio::test]
async fn an_unknown_token_is_told_so() {
    let world = World::new().await;
    let unknown = Token::generate().expect("random");
    world.keep_secret(unknown.expose());
    let answer = world.get("/api/user").authorization(&format!("Bearer {}", unknown.expose())).send().await;
    insta::assert_snapshot!(answer, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trustrelay", error="invalid_token", error_description="the token is not known to this server"
    {
      "error": {
        "code": "invalid_token",
        "message": "the token is not known to this server"
      }
    }
    "#);
}

#[tokio::test]
async fn an_expired_token_is_told_when_it_expired() {
    let world = World::new().await;
    let token = world.token("api").await;
    world.clock.advance(365 * DAY - std::time::Duration::from_secs(1));
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    world.clock.advance(std::time::Duration::from_secs(1));
    insta::assert_snapshot!(world.get("/api/user").bearer(&token).send().await, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trustrelay", error="invalid_token", error_description="the token expired at 2127-04-07T00:00:00Z"
    {
      "error": {
        "code": "invalid_token",
        "message": "the token expired at 2127-04-07T00:00:00Z"
      }
    }
    "#);
}

#[tokio::test]
async fn a_revoked_token_is_told_when_it_was_revoked() {
    let world = World::new().await;
    let (token, session) = (world.token("api").await, world.browser().await);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    assert_eq!(world.delete(&path_of(&token)).session(&session).send().await.status, StatusCode::OK);
    insta::assert_snapshot!(world.get("/api/user").bearer(&token).send().await, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trustrelay", error="invalid_token", error_description="the token was revoked at 2126-04-07T00:00:00Z"
    {
      "error": {
        "code": "invalid_token",
        "message": "the token was revoked at 2126-04-07T00:00:00Z"
      }
    }
    "#);
}

#[tokio::test]
async fn the_token_of_a_disabled_account_is_refused_until_it_is_enabled() {
    let world = World::new().await;
    let token = world.token("api").await;
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    world.authority.set_admin("eve@example.org", true).await.expect("somebody else has to administer");
    world.authority.set_disabled(ADA, true).await.expect("disabled");
    insta::assert_snapshot!(world.get("/api/user").bearer(&token).send().await, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trustrelay", error="invalid_token", error_description="the account this token belongs to is disabled"
    {
      "error": {
        "code": "invalid_token",
        "message": "the account this token belongs to is disabled"
      }
    }
    "#);
    world.authority.set_disabled(ADA, false).await.expect("enabled");
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn beside_an_authorization_header_the_cookie_is_not_looked_at() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    for bad in ["Bearer tr_pat_x", "Basic YTpi", ""] {
        let answer = world.get("/api/user").session(&session).authorization(bad).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{bad}");
    }
    let answer = world.get("/api/user").session(&session).bearer(&token).send().await;
    assert_eq!(answer.value()["credential"]["kind"], "pat");
    let tokens = "/api/user/personal-access-tokens";
    assert_eq!(world.get(tokens).session(&session).send().await.status, StatusCode::OK);
    let answer = world.get(tokens).session(&session).bearer(&token).send().await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "the cookie lends the token nothing");
}

#[tokio::test]
async fn a_token_in_the_query_or_in_a_cookie_is_no_credential() {
    let world = World::new().await;
    let token = world.token("api").await;
    let query = format!("/api/user?access_token={}", token.token.expose());
    assert_eq!(world.get(&query).send().await.status, StatusCode::UNAUTHORIZED);
    let answer = world.get("/api/user").session(token.token.expose()).send().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_query_that_nobody_asked_for_changes_nothing() {
    let world = World::new().await;
    let token = world.token("api").await;
    for query in ["?a=1&a=2", "?%ff", "?", "?pat_id=x&pat_id"] {
        let answer = world.get(&format!("/api/user{query}")).bearer(&token).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{query}");
    }
}

#[tokio::test]
async fn cookies_that_are_no_session_are_no_credential() {
    let world = World::new().await;
    let long = "x".repeat(20_000);
    for cookie in
        ["session=", "session", "session=x", "sessions=x", "other=1; =; ;;", &format!("session={long}")]
    {
        let answer = world.get("/api/user").header("cookie", cookie).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", &cookie[..cookie.len().min(40)]);
    }
}

#[tokio::test]
async fn of_several_different_sessions_none_is_taken() {
    let world = World::new().await;
    let (mine, planted) = (world.browser().await, world.browser_of("eve@example.org").await);
    let both = format!("session={planted}; session={mine}");
    insta::assert_snapshot!(world.get("/api/user").header("cookie", &both).send().await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid_request",
        "message": "there are several different `session` cookies; delete the cookies of this site and sign in again"
      }
    }
    "#);
    let answer = world.get("/api/user").session(&mine).session(&planted).send().await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "in two headers as in one");
    let answer = world.get("/api/user").session(&mine).session(&mine).send().await;
    assert_eq!(answer.status, StatusCode::OK, "twice the same is one");
}

#[tokio::test]
async fn errors_after_the_token_was_accepted_say_as_well_when_it_expires() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    let tokens = "/api/user/personal-access-tokens";
    for (answer, status) in [
        (world.get(tokens).bearer(&token).send().await, 403),
        (world.get("/api/user/personal-access-tokens/%ff").bearer(&token).send().await, 400),
        (world.post("/api/auth/logout").bearer(&token).send().await, 400),
        (world.post(tokens).bearer(&token).json("{").send().await, 400),
    ] {
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("trustrelay-token-expiration"), "2127-04-07T00:00:00Z");
    }
    let refused = world.get("/api/user").authorization("Bearer tr_pat_x").send().await;
    assert_eq!(refused.header("trustrelay-token-expiration"), "");
}

#[tokio::test]
async fn without_a_lease_tokens_are_still_judged_by_the_store() {
    let world = World::new().await;
    let (token, session) = (world.token("api").await, world.browser().await);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    world.clock.advance(DAY);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    assert_eq!(world.delete(&path_of(&token)).session(&session).send().await.status, StatusCode::OK);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::UNAUTHORIZED);
}
