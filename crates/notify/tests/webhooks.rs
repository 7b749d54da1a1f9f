//! Webhook delivery to well-behaved and to faulty receivers, and to addresses that are not allowed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod peers;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use peers::{Http, http, tls};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use trustrelay_authority::WebhookSecret;
use trustrelay_notify::{Failure, Hook, Resolve, WebhookTimes, Webhooks};
use zeroize::Zeroizing;

const SOON: WebhookTimes =
    WebhookTimes { connect: Duration::from_millis(300), whole: Duration::from_millis(300) };
/// Outer limit that fails a test whose delivery does not end by its own time limits.
const BOUND: Duration = Duration::from_secs(10);
const AMPLE: WebhookTimes = WebhookTimes { connect: Duration::from_secs(20), whole: Duration::from_secs(60) };
const KEY: [u8; 32] = [7; 32];
const TAKEN: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A resolver that gives these answers in order and then repeats the last.
struct Names {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Resolve for Names {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.answers[asked.min(self.answers.len() - 1)].clone())
    }
}

fn names(answers: &[&[&str]]) -> Arc<Names> {
    let parse = |texts: &&[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect();
    Arc::new(Names { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
}

async fn send(webhooks: &Webhooks, url: &str) -> Result<(), Failure> {
    let secret = WebhookSecret::new(Zeroizing::new(KEY));
    let at = "2026-04-07T12:00:00Z".parse().expect("a time");
    webhooks.send(&Hook { id: "msg_1", url, body: r#"{"type":"test"}"#, secret: &secret, at }).await
}

fn at(address: SocketAddr) -> String {
    format!("http://{address}/hooks/tokens?key=1")
}

/// HMAC-SHA-256 from its definition (RFC 2104), so that an independent implementation checks the
/// signature.
fn hmac(key: [u8; 32], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([&pad(0x36), message].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

#[tokio::test]
async fn a_receiver_gets_a_message_that_it_can_verify() {
    let mut peer = http(Http::Answers(TAKEN), None).await;
    send(&Webhooks::new(true).within(AMPLE), &at(peer.address)).await.expect("taken");
    let request = peer.heard.recv().await.expect("a request");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /hooks/tokens?key=1 HTTP/1.1"));
    let header = |name: &str| {
        let mut values = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = values.next().unwrap_or_else(|| panic!("{name} in {head}"));
        assert_eq!(values.next(), None, "{name}");
        value.to_owned()
    };
    assert_eq!(header("host"), peer.address.to_string());
    assert_eq!(header("content-type"), "application/json");
    assert!(header("user-agent").starts_with("TrustRelay/"));
    let (id, at, signature) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    assert_eq!((id.as_str(), at.as_str()), ("msg_1", "1775563200"));
    let expected = hmac(KEY, format!("{id}.{at}.{body}").as_bytes());
    assert_eq!(signature, format!("v1,{}", BASE64_STANDARD.encode(expected)));
    assert_eq!(body, r#"{"type":"test"}"#);
}

#[tokio::test]
async fn the_status_says_whether_to_try_again() {
    for (answer, says) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", None),
        ("HTTP/1.1 202 Accepted\r\n\r\n", None),
        ("HTTP/1.0 299 Odd\r\n\r\n", None),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", None),
        ("HTTP/1.1 410 Gone\r\n\r\n", Some("wants no more")),
        ("HTTP/1.1 404 Not Found\r\n\r\n", Some("answered 404")),
        ("HTTP/1.1 429 Slow Down\r\n\r\n", Some("answered 429")),
        ("HTTP/1.1 500 Broken\r\n\r\n", Some("answered 500")),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", Some("answered 304")),
        ("SMTP 220 hello\r\n", Some("not valid HTTP")),
    ] {
        let peer = http(Http::Answers(answer), None).await;
        let sent = send(&Webhooks::new(true).within(AMPLE), &at(peer.address)).await;
        match says {
            None => sent.unwrap_or_else(|failure| panic!("{answer}: {failure}")),
            Some(says) => {
                let failure = sent.expect_err(answer);
                assert!(failure.to_string().contains(says), "{answer}: {failure}");
                assert_eq!(matches!(failure, Failure::Permanent(_)), answer.contains("410"), "{failure:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut elsewhere = http(Http::Answers(TAKEN), None).await;
    let answer =
        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{}/\r\n\r\n", elsewhere.address);
    let peer = http(Http::Answers(answer.leak()), None).await;
    let failure = send(&Webhooks::new(true).within(AMPLE), &at(peer.address)).await.expect_err("a redirect");
    assert!(
        matches!(&failure, Failure::Later(text) if text.contains("redirects are not followed")),
        "{failure:?}"
    );
    assert!(elsewhere.heard_so_far().is_empty());
}

#[tokio::test]
async fn a_receiver_that_hangs_or_never_stops_costs_a_bounded_time_and_little_memory() {
    for behaviour in [
        Http::Deaf,
        Http::Silent,
        Http::Cuts,
        Http::Repeats("", "x"),
        Http::Repeats("HTTP/1.1 200 OK\r\n", "x: y\r\n"),
        Http::Repeats("HTTP/1.1 200 OK\r\nx: ", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"),
        Http::Repeats("", "HTTP/1.1 102 Processing\r\n\r\n"),
    ] {
        let peer = http(behaviour, None).await;
        let webhooks = Webhooks::new(true).within(SOON);
        let sent = timeout(BOUND, send(&webhooks, &at(peer.address))).await.expect("it ends by itself");
        let failure = sent.expect_err("no answer");
        assert!(matches!(failure, Failure::Later(_)), "{failure:?}");
    }
    let address = http(Http::Silent, None).await.address;
    let failure = send(&Webhooks::new(true).within(AMPLE), &at(address)).await.expect_err("nobody is there");
    assert!(matches!(&failure, Failure::Later(text) if text.contains("could not be reached")), "{failure:?}");
}

#[tokio::test]
async fn a_body_without_end_is_not_read() {
    let peer = http(Http::Repeats("HTTP/1.1 200 OK\r\n\r\n", "more and more"), None).await;
    send(&Webhooks::new(true).within(AMPLE), &at(peer.address)).await.expect("its status is all that counts");
}

#[tokio::test]
async fn no_address_of_a_private_network_is_called_unless_that_is_allowed() {
    for address in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "::1",
        "fd12::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
    ] {
        let webhooks = Webhooks::new(false).within(SOON).resolving(names(&[&[address]]));
        let failure = send(&webhooks, "https://hooks.example.org/").await.expect_err(address);
        assert!(
            matches!(&failure, Failure::Permanent(text) if text.contains("--webhook-private-networks")),
            "{address}: {failure:?}"
        );
    }
    for address in
        ["169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "fe80::1", "2002:7f00:1::"]
    {
        for private_networks in [false, true] {
            let webhooks = Webhooks::new(private_networks).within(SOON).resolving(names(&[&[address]]));
            let failure = send(&webhooks, "https://hooks.example.org/").await.expect_err(address);
            assert!(
                matches!(&failure, Failure::Permanent(text) if text.contains("cannot receive notices")),
                "{address}: {failure:?}"
            );
        }
    }
}

#[tokio::test]
async fn one_address_that_is_not_fit_spoils_the_others() {
    let mut peer = http(Http::Answers(TAKEN), None).await;
    let resolver = names(&[&["127.0.0.1", "169.254.169.254"]]);
    let webhooks = Webhooks::new(true).within(AMPLE).resolving(resolver);
    let url = format!("http://hooks.example.org:{}/", peer.address.port());
    let failure = send(&webhooks, &url).await.expect_err("one is link-local");
    assert!(matches!(failure, Failure::Permanent(_)), "{failure:?}");
    assert!(peer.heard_so_far().is_empty());
}

#[tokio::test]
async fn a_name_is_looked_up_once_so_that_it_cannot_answer_otherwise_when_it_matters() {
    let mut peer = http(Http::Answers(TAKEN), None).await;
    let resolver = names(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let webhooks = Webhooks::new(true).within(AMPLE).resolving(resolver.clone());
    let url = format!("http://hooks.example.org:{}/", peer.address.port());
    send(&webhooks, &url).await.expect("what was looked at is what is called");
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 1);
    let request = peer.heard.recv().await.expect("a request");
    assert!(request.contains(&format!("host: hooks.example.org:{}\r\n", peer.address.port())), "{request}");
    // The next message resolves the name again and is refused.
    assert!(matches!(send(&webhooks, &url).await, Err(Failure::Permanent(_))));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let mut peer = http(Http::Answers(TAKEN), None).await;
    // The receiver listens on IPv4 only.
    let webhooks = Webhooks::new(true).within(AMPLE).resolving(names(&[&["::1", "127.0.0.1"]]));
    send(&webhooks, &format!("http://hooks.example.org:{}/", peer.address.port())).await.expect("taken");
    peer.heard.recv().await.expect("a request");
    let nowhere = Webhooks::new(true).within(AMPLE).resolving(names(&[&[]]));
    let failure = send(&nowhere, "http://hooks.example.org/").await.expect_err("no address");
    assert!(matches!(&failure, Failure::Later(text) if text.contains("does not resolve")), "{failure:?}");
}

#[tokio::test]
async fn into_the_internet_it_goes_over_https_only() {
    let webhooks = Webhooks::new(true).within(SOON).resolving(names(&[&["1.1.1.1"]]));
    let failure = send(&webhooks, "http://hooks.example.org/").await.expect_err("in the clear");
    assert!(matches!(&failure, Failure::Permanent(text) if text.contains("https:// only")), "{failure:?}");
    let failure = send(&webhooks, "http://1.1.1.1/").await.expect_err("in the clear");
    assert!(matches!(&failure, Failure::Permanent(text) if text.contains("https:// only")), "{failure:?}");
}

#[tokio::test]
async fn a_receiver_on_https_is_who_its_certificate_says() {
    let (authority, config) = tls();
    let mut peer = http(Http::Answers(TAKEN), Some(config)).await;
    let port = peer.address.port();
    let trusting =
        Webhooks::new(true).within(AMPLE).trusting(vec![authority]).resolving(names(&[&["127.0.0.1"]]));
    send(&trusting, &format!("https://localhost:{port}/")).await.expect("taken");
    send(&trusting, &format!("https://127.0.0.1:{port}/")).await.expect("taken");
    assert_eq!(peer.heard_so_far().len(), 2);
    for (webhooks, url) in [
        (&trusting, format!("https://other.example.org:{port}/")),
        (&Webhooks::new(true).within(AMPLE), format!("https://localhost:{port}/")),
    ] {
        let failure = send(webhooks, &url).await.expect_err("a certificate that does not fit");
        assert!(matches!(&failure, Failure::Later(text) if text.starts_with("TLS")), "{failure:?}");
    }
    assert!(peer.heard_so_far().is_empty());
}
