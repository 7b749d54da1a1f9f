//! `POST /api/leaks`

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trustrelay_authority::{ActorKind, AuditEntry, Issued};
use trustrelay_token::Token;
use trustrelay_web::GithubKeys;

use crate::support::{Answer, Setting, World};

const IDENTIFIER: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";

/// One who signs as GitHub does.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("random"))
    }

    /// As GitHub serves it.
    fn keys(&self) -> Arc<GithubKeys> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().expect("DER");
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        let document = json!({ "public_keys": [{ "key_identifier": "k1", "key": pem, "is_current": true }] });
        Arc::new(GithubKeys::parse(&document.to_string()).expect("keys"))
    }

    fn sign(&self, body: &str) -> String {
        STANDARD.encode(self.0.sign(&SystemRandom::new(), body.as_bytes()).expect("signs"))
    }

    async fn report(&self, world: &World, body: &Value) -> Answer {
        let body = body.to_string();
        let signature = self.sign(&body);
        world
            .post("/api/leaks")
            .json(&body)
            .header(IDENTIFIER, "k1")
            .header(SIGNATURE, &signature)
            .send()
            .await
    }
}

async fn with_github() -> (World, Signer) {
    let signer = Signer::new();
    let setting = Setting { github_keys: Some(signer.keys()), ..Setting::default() };
    (World::with(setting).await, signer)
}

async fn report(world: &World, body: &Value) -> Answer {
    world.post("/api/leaks").json(body).send().await
}

async fn stands(world: &World, issued: &Issued) -> bool {
    world.get("/api/user").bearer(issued).send().await.status == StatusCode::OK
}

fn unknown() -> Token {
    Token::generate().expect("random")
}

async fn audit(world: &World, action: &str) -> Vec<AuditEntry> {
    world.authority.flush_refusals(true).await;
    world.audit().await.into_iter().filter(|entry| entry.action == action).collect()
}

#[tokio::test]
async fn anybody_reports_tokens_and_the_real_ones_are_revoked() {
    let world = World::new().await;
    let (one, other, stays) = (world.token("mcp").await, world.token("api").await, world.token("mcp").await);
    let url = format!("https://example.org/?q={}", one.token.expose());
    let body = json!({ "candidates": [
        { "token": one.token.expose(), "url": url, "source": "content" },
        { "token": unknown().expose(), "url": null },
        { "token": "nonsense" },
        { "token": other.token.expose() },
    ] });
    let answer = report(&world, &body).await;
    assert_eq!((answer.status, answer.value()), (StatusCode::OK, json!({ "received": 4 })));
    assert!(!stands(&world, &one).await && !stands(&world, &other).await);
    assert!(stands(&world, &stays).await);
    let told = audit(&world, "token.leaked").await;
    assert_eq!(told.len(), 2);
    let first = told.iter().find(|entry| entry.pat_id == Some(one.record.pat_id)).expect("told");
    assert_eq!(first.details.get("url").map(String::as_str), Some("https://example.org/?q=tr_pat_…"));
    assert_eq!(first.actor.address, Some("192.0.2.7".parse().expect("an address")));
}

#[tokio::test]
async fn whoever_has_no_signature_is_told_how_many_came_and_not_what_they_are() {
    let (world, _) = with_github().await;
    let issued = world.token("mcp").await;
    let real = json!({ "candidates": [{ "token": issued.token.expose() }] });
    let first = report(&world, &real).await.to_string();
    for token in [issued.token.expose(), unknown().expose(), "x"] {
        assert_eq!(report(&world, &json!({ "candidates": [{ "token": token }] })).await.to_string(), first);
    }
    assert_eq!(report(&world, &json!({ "candidates": [] })).await.value(), json!({ "received": 0 }));
}

#[tokio::test]
async fn a_report_that_is_wrong_is_refused_whole_and_says_where() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let token = issued.token.expose();
    for (body, says) in [
        (json!({}), "missing field `candidates`"),
        (json!([{ "token": token, "type": "t" }]), "must be a JSON object"),
        (json!({ "candidates": [{ "token": token }, {}] }), "candidates[1]"),
        (json!({ "candidates": [{ "token": token }, { "token": 5 }] }), "candidates[1].token"),
        (json!({ "candidates": [{ "token": token, "where": "x" }] }), "unknown field `where`"),
        (json!({ "candidates": vec![json!({ "token": token }); 1001] }), "at most 1000"),
    ] {
        let answer = world.post("/api/leaks").json(&body).coming_from("198.51.100.1").send().await;
        let message = answer.json()["error"]["message"].as_str().expect("a message").to_owned();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{message}");
        assert!(message.contains(says), "{message}");
        assert!(!message.contains(token), "{message}");
    }
    assert!(stands(&world, &issued).await, "nothing was done");
    let large = json!({ "candidates": [{ "token": token, "url": "x".repeat(1024 * 1024) }] });
    assert_eq!(report(&world, &large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let fits = json!({ "candidates": [{ "token": token, "url": "x".repeat(1000 * 1024) }] });
    assert_eq!(report(&world, &fits).await.status, StatusCode::OK);
    assert!(!stands(&world, &issued).await);
}

#[tokio::test]
async fn one_address_may_not_report_without_end() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    for _ in 0..10 {
        assert_eq!(report(&world, &json!({ "candidates": [] })).await.status, StatusCode::OK);
    }
    let body = json!({ "candidates": [{ "token": issued.token.expose() }] });
    let refused = report(&world, &body).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "60"));
    assert!(stands(&world, &issued).await);
    let elsewhere = world.post("/api/leaks").json(&body).coming_from("198.51.100.1").send().await;
    assert_eq!(elsewhere.status, StatusCode::OK);
}

#[tokio::test]
async fn github_is_told_which_are_real_by_their_hashes() {
    let (world, signer) = with_github().await;
    let issued = world.token("mcp").await;
    let unknown = unknown();
    let url = "https://github.com/o/r/blob/8f14e45fceea167a5a36dedd4bea2543a1b2c3d4/a.txt";
    let body = json!([
        { "token": issued.token.expose(), "type": "trustrelay_token", "url": url, "source": "content" },
        { "token": unknown.expose(), "type": "trustrelay_token", "url": "", "source": "commit" },
        { "token": "nonsense", "type": "other", "added_one_day": true },
    ]);
    let hash = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected = json!([
        { "token_hash": hash(issued.token.expose()), "token_type": "trustrelay_token", "label": "true_positive" },
        { "token_hash": hash(unknown.expose()), "token_type": "trustrelay_token", "label": "false_positive" },
        { "token_hash": hash("nonsense"), "token_type": "other", "label": "false_positive" },
    ]);
    let answer = signer.report(&world, &body).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, expected.clone()));
    assert!(!stands(&world, &issued).await);
    let told = audit(&world, "token.leaked").await;
    let detail = |name: &str| told[0].details.get(name).map(String::as_str);
    assert_eq!((told.len(), detail("url"), detail("reporter")), (1, Some(url), Some("github")));
    // It is not throttled, and what it reports again is as real as before.
    for _ in 0..15 {
        assert_eq!(signer.report(&world, &body).await.json(), expected);
    }
    assert_eq!(audit(&world, "token.leaked").await.len(), 1);
}

#[tokio::test]
async fn a_wrong_signature_is_refused_before_anything_is_done() {
    let (world, signer) = with_github().await;
    let issued = world.token("mcp").await;
    let body =
        json!([{ "token": issued.token.expose(), "type": "t", "url": "u", "source": "s" }]).to_string();
    let good = signer.sign(&body);
    let other = Signer::new().sign(&body);
    let call = |body: &str| world.post("/api/leaks").json(body);
    let answer = call(&body).header(IDENTIFIER, "k1").header(SIGNATURE, &other).send().await;
    insta::assert_snapshot!(answer, @r#"
    403 Forbidden
    {
      "error": {
        "code": "bad_signature",
        "message": "the signature is not valid: it does not match the body, or its key is not in the server's --github-keys"
      }
    }
    "#);
    for (case, call) in [
        ("another key's name", call(&body).header(IDENTIFIER, "k2").header(SIGNATURE, &good)),
        ("another body", call(&format!("{body} ")).header(IDENTIFIER, "k1").header(SIGNATURE, &good)),
        ("no signature", call(&body).header(IDENTIFIER, "k1")),
        ("no name", call(&body).header(SIGNATURE, &good)),
        (
            "two signatures",
            call(&body).header(IDENTIFIER, "k1").header(SIGNATURE, &good).header(SIGNATURE, &good),
        ),
        ("no base64", call(&body).header(IDENTIFIER, "k1").header(SIGNATURE, "!")),
        (
            "no JSON, so that it was not read",
            call("nonsense").header(IDENTIFIER, "k1").header(SIGNATURE, &good),
        ),
    ] {
        assert_eq!(call.send().await.status, StatusCode::FORBIDDEN, "{case}");
    }
    assert!(stands(&world, &issued).await, "nothing was done");
    let refused = audit(&world, "refused.leak_signature").await;
    assert_eq!((refused.len(), refused[0].actor.kind), (1, ActorKind::Anonymous));
    assert_eq!(refused[0].details.get("count").map(String::as_str), Some("8"));

    // Whoever signs wrongly has so many tries a minute.
    let forged = async || call(&body).header(IDENTIFIER, "k1").header(SIGNATURE, &other).send().await.status;
    assert_eq!((forged().await, forged().await), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
    assert_eq!(forged().await, StatusCode::TOO_MANY_REQUESTS);
    let answer = call(&body).header(IDENTIFIER, "k1").header(SIGNATURE, &good).send().await;
    assert_eq!(answer.status, StatusCode::OK, "GitHub is not held up by that");
    assert!(!stands(&world, &issued).await);
}

#[tokio::test]
async fn a_signed_report_is_refused_where_no_keys_are_known() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let body = json!([{ "token": issued.token.expose(), "type": "t", "url": "u", "source": "s" }]);
    assert_eq!(Signer::new().report(&world, &body).await.status, StatusCode::FORBIDDEN);
    assert!(stands(&world, &issued).await);
}

#[tokio::test]
async fn a_signed_report_that_is_no_array_is_refused() {
    let (world, signer) = with_github().await;
    for (body, says) in [
        (json!({ "candidates": [] }), "must be a JSON array"),
        (json!([{ "token": "x" }]), "missing field `type`"),
        (json!(vec![json!({ "token": "x", "type": "t" }); 1001]), "at most 1000"),
    ] {
        let answer = signer.report(&world, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let message = answer.json()["error"]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(says), "{message}");
    }
}

/// A body of which nothing ever comes, as a client sends it that wants to be waited for.
fn silent() -> axum::body::Body {
    axum::body::Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>())
}

#[tokio::test]
async fn unknown_key_is_refused_before_the_body_is_read() {
    for world in [World::new().await, with_github().await.0] {
        let call = world.post("/api/leaks").body("application/json", silent());
        let answer = call.header(IDENTIFIER, "k2").header(SIGNATURE, "AAAA").send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn only_so_many_large_bodies_are_read_at_a_time() {
    let world = World::new().await;
    let large = vec![b' '; 65 * 1024];
    let mut held: Vec<_> = (0..16)
        .map(|n| {
            let begun =
                futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(large.clone()))]);
            let body = axum::body::Body::from_stream(begun.chain(futures_util::stream::pending()));
            let call = world.post("/api/leaks").coming_from(&format!("192.0.2.{n}"));
            Box::pin(call.body("application/json", body).send())
        })
        .collect();
    for call in &mut held {
        let is_pending = std::future::poll_fn(|context| {
            std::task::Poll::Ready(Future::poll(call.as_mut(), context).is_pending())
        });
        assert!(is_pending.await);
    }
    let report = |padding: usize| format!("{{\"candidates\":[]}}{}", " ".repeat(padding));
    let refused = world.post("/api/leaks").json(report(65 * 1024)).send().await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let usual = world.post("/api/leaks").json(report(0)).send().await;
    assert_eq!(usual.status, StatusCode::OK, "reports of the usual size are not in the way of each other");
    drop(held);
    let answer = world.post("/api/leaks").json(report(65 * 1024)).send().await;
    assert_eq!(answer.status, StatusCode::OK);
}
