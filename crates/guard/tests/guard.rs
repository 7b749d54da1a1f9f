//! The guard in front of a service that repeats what it sees.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use trustrelay_guard::{GuardLayer, TOKEN_EXPIRATION};
use trustrelay_token::{Credential, Denied, Life, Principal, Token, Verification, Verifier};

struct Fixed(Result<Arc<Principal>, Denied>);

impl Verifier for Fixed {
    fn verify(&self, _: Token) -> Verification {
        Verification::Ready(self.0.clone())
    }
}

fn ada() -> Arc<Principal> {
    let time = "2027-04-07T00:00:00Z".parse().expect("a time");
    Arc::new(Principal {
        user_id: uuid::Uuid::nil(),
        email: "ada@example.org".into(),
        is_admin: false,
        scopes: "mcp".parse().expect("scopes"),
        credential: Credential::Pat {
            pat_id: uuid::Uuid::nil(),
            pat_name: "n".into(),
            pat_hint: "...abcd".into(),
            created_at: time,
            expires_at: time,
        },
        life: Life::default(),
    })
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
async fn what_cannot_be_judged_is_not_accepted() {
    let token = Token::generate().expect("random");
    let denied = Denied::Unavailable { retry_after: Duration::from_millis(10) };
    let response = ask(Err(denied), Some(&format!("Bearer {}", token.expose()))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&response, RETRY_AFTER), "1");
    assert_eq!(header(&response, WWW_AUTHENTICATE), "");
}
