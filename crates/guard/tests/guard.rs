//! The guard in front of a service that repeats what it sees.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use trustrelay_guard::{BadAuthorization, GuardLayer, Refusal, TOKEN_EXPIRATION};
use trustrelay_token::{Account, Denied, Pat, Principal, Token, Verification, Verifier};

struct Fixed(Result<Arc<Principal>, Denied>);

impl Verifier for Fixed {
    fn verify(&self, _: Token) -> Verification {
        Verification::Ready(self.0.clone())
    }
}

fn ada() -> Arc<Principal> {
    let time = "2027-04-07T00:00:00Z".parse().expect("a time");
    let account = Arc::new(Account { email: "ada@example.org".into(), ..Account::default() });
    let scopes = Arc::new("mcp".parse().expect("scopes"));
    let pat = Pat::new(uuid::Uuid::nil(), "n", "...abcd");
    Arc::new(Principal::with_pat(account, pat, scopes, time))
}

async fn ask(answer: Result<Arc<Principal>, Denied>, authorization: Option<&str>) -> Response<String> {
    let inner = service_fn(|request: Request<()>| async move {
        let principal = request.extensions().get::<Arc<Principal>>().expect("a principal");
        let forwardable = request.headers().contains_key(AUTHORIZATION);
        Ok::<_, Infallible>(Response::new(format!("{} {forwardable}", principal.email)))
    });
    let mut request = Request::new(());
    if let Some(value) = authorization {
        request.headers_mut().insert(AUTHORIZATION, value.parse().expect("a header value"));
    }
    GuardLayer::new(Arc::new(Fixed(answer))).layer(inner).oneshot(request).await.expect("infallible")
}

fn header(response: &Response<String>, name: http::HeaderName) -> &str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn a_good_token_passes_and_goes_no_further() {
    let token = Token::generate().expect("random");
    let response = ask(Ok(ada()), Some(&format!("Bearer {}", token.expose()))).await;
    assert_eq!(response.body(), "ada@example.org false");
    assert_eq!(header(&response, TOKEN_EXPIRATION), "2027-04-07T00:00:00Z");
}

#[tokio::test]
async fn no_credential_is_challenged_without_an_error() {
    let response = ask(Ok(ada()), None).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(header(&response, WWW_AUTHENTICATE), "Bearer realm=\"trustrelay\"");
}

#[tokio::test]
async fn a_bad_token_is_told_why_and_never_repeated() {
    let token = Token::generate().expect("random");
    let at = "2026-04-07T00:00:00Z".parse().expect("a time");
    for (denied, says) in [
        (Denied::Unknown, "not known"),
        (Denied::Revoked(at), "revoked at 2026-04-07T00:00:00Z"),
        (Denied::Expired(at), "expired at 2026-04-07T00:00:00Z"),
        (Denied::OwnerDisabled, "disabled"),
    ] {
        let response = ask(Err(denied), Some(&format!("Bearer {}", token.expose()))).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let challenge = header(&response, WWW_AUTHENTICATE);
        assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains(says), "{challenge}");
        assert!(!challenge.contains(token.expose()) && !response.body().contains(token.expose()));
    }
    let response = ask(Ok(ada()), Some("Bearer tr_pat_x")).await;
    assert!(header(&response, WWW_AUTHENTICATE).contains("45 characters"));
}

#[tokio::test]
async fn several_authorization_headers_are_refused_though_each_is_good() {
    let token = Token::generate().expect("random");
    let inner = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let mut request = Request::new(());
    for _ in 0..2 {
        request
            .headers_mut()
            .append(AUTHORIZATION, format!("Bearer {}", token.expose()).parse().expect("a value"));
    }
    let response =
        GuardLayer::new(Arc::new(Fixed(Ok(ada())))).layer(inner).oneshot(request).await.expect("answers");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(header(&response, WWW_AUTHENTICATE).contains("more than one Authorization header"));
}

#[tokio::test]
async fn another_realm_is_named_in_the_challenge() {
    let inner = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let guard = GuardLayer::new(Arc::new(Fixed(Ok(ada())))).realm("ours").layer(inner);
    let response = guard.oneshot(Request::new(())).await.expect("answers");
    assert_eq!(header(&response, WWW_AUTHENTICATE), "Bearer realm=\"ours\"");
}

#[tokio::test]
async fn what_the_service_behind_it_answers_is_left_alone_but_for_the_expiry() {
    let token = Token::generate().expect("random");
    let inner = service_fn(|_: Request<()>| async {
        let answer = Response::builder().status(StatusCode::IM_A_TEAPOT).header("x-own", "kept");
        Ok::<_, Infallible>(answer.body("short and stout".to_owned()).expect("an answer"))
    });
    let request = Request::builder().header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    let request = request.header("cookie", "session=x").body(()).expect("a request");
    let response =
        GuardLayer::new(Arc::new(Fixed(Ok(ada())))).layer(inner).oneshot(request).await.expect("answers");
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers()["x-own"], "kept");
    assert_eq!(header(&response, TOKEN_EXPIRATION), "2027-04-07T00:00:00Z");
    assert_eq!(response.body(), "short and stout");
}

#[test]
fn each_refusal_is_a_whole_answer() {
    let at = "2026-04-07T00:00:00Z".parse().expect("a time");
    let mut answers = String::new();
    for refusal in [
        Refusal::Missing,
        Refusal::Bad(BadAuthorization::Scheme),
        Refusal::Denied(Denied::Expired(at)),
        Refusal::InsufficientScope("mcp:github/search".into()),
        Refusal::Denied(Denied::Unavailable { retry_after: Duration::from_secs(3) }),
    ] {
        let answer = refusal.response::<String>("trustrelay");
        answers += &format!("{}\n", answer.status());
        for name in [WWW_AUTHENTICATE, RETRY_AFTER] {
            if answer.headers().contains_key(&name) {
                answers += &format!("  {name}: {}\n", header(&answer, name.clone()));
            }
        }
        answers += &format!("  {}\n", answer.body());
    }
    insta::assert_snapshot!(answers, @r#"
    401 Unauthorized
      www-authenticate: Bearer realm="trustrelay"
      {"error":{"code":"unauthenticated","message":"this needs a personal access token: send `Authorization: Bearer tr_pat_…`"}}
    401 Unauthorized
      www-authenticate: Bearer realm="trustrelay", error="invalid_token", error_description="the Authorization header must be `Bearer tr_pat_...`"
      {"error":{"code":"invalid_token","message":"the Authorization header must be `Bearer tr_pat_…`"}}
    401 Unauthorized
      www-authenticate: Bearer realm="trustrelay", error="invalid_token", error_description="the token expired at 2026-04-07T00:00:00Z"
      {"error":{"code":"invalid_token","message":"the token expired at 2026-04-07T00:00:00Z"}}
    403 Forbidden
      www-authenticate: Bearer realm="trustrelay", error="insufficient_scope", error_description="the token does not have the scope `mcp:github/search`", scope="mcp:github/search"
      {"error":{"code":"insufficient_scope","message":"the token does not have the scope `mcp:github/search`"}}
    503 Service Unavailable
      retry-after: 3
      {"error":{"code":"unavailable","message":"tokens cannot be verified right now; try again in 3 s"}}
    "#);
}

#[test]
fn a_scope_that_no_header_and_no_json_can_carry_breaks_out_of_neither() {
    let refusal = Refusal::InsufficientScope("a\"b\\c\r\nx-own: d\u{7f}é".into());
    let answer = refusal.response::<String>("trustrelay");
    let challenge = header(&answer, WWW_AUTHENTICATE);
    assert!(challenge.ends_with("scope=\"a'b'c??x-own: d??\""), "{challenge}");
    assert!(answer.body().ends_with("`a\\\"b\\\\c\\u000d\\u000ax-own: d\\u007fé`\"}}"), "{}", answer.body());
}

#[tokio::test]
async fn what_cannot_be_judged_is_not_accepted() {
    let token = Token::generate().expect("random");
    let denied = Denied::Unavailable { retry_after: Duration::from_millis(10) };
    let response = ask(Err(denied), Some(&format!("Bearer {}", token.expose()))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&response, RETRY_AFTER), "1");
    assert_eq!(header(&response, WWW_AUTHENTICATE), "");
}
