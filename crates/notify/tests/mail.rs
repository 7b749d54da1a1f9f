//! Mail delivery to well-behaved and to faulty servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod peers;

use std::time::Duration;

use peers::{Peer, Smtp, smtp, tls};
use tokio::time::timeout;
use trustrelay_notify::{Failure, Mail, MailTimes, Mailer, SmtpUrl};
use uuid::Uuid;

const SOON: MailTimes = MailTimes { connect: Duration::from_millis(300), whole: Duration::from_millis(300) };
/// Outer limit that fails a test whose delivery does not end by its own time limits.
const BOUND: Duration = Duration::from_secs(10);
const AMPLE: MailTimes = MailTimes { connect: Duration::from_secs(20), whole: Duration::from_secs(60) };

fn mail() -> Mail<'static> {
    Mail {
        id: Uuid::from_u128(7),
        to: "ada@example.org",
        subject: "Your token \"ci\" expires in 7 days",
        body: "The first line.\n.\nThe last line.\n",
        at: "2026-04-07T12:00:00Z".parse().expect("a time"),
    }
}

fn mailer(url: &str, times: MailTimes) -> Mailer {
    let url: SmtpUrl = url.parse().expect("a URL");
    Mailer::new(url, "TrustRelay <relay@example.com>").expect("a sender").within(times)
}

async fn send_to(peer: &Peer, times: MailTimes) -> Result<(), Failure> {
    mailer(&format!("smtp://{}", peer.address), times).send(&mail()).await
}

#[tokio::test]
async fn a_mail_is_handed_in_whole() {
    let mut peer = smtp(Smtp::Good, None, false).await;
    send_to(&peer, AMPLE).await.expect("taken");
    assert_eq!(peer.hear("EHLO").await, "EHLO example.com");
    assert_eq!(peer.hear("MAIL").await, "MAIL FROM:<relay@example.com>");
    assert_eq!(peer.hear("RCPT").await, "RCPT TO:<ada@example.org>");
    peer.hear("DATA").await;
    let mut lines = Vec::new();
    loop {
        let line = peer.heard.recv().await.expect("it goes on");
        if line == "." {
            break;
        }
        lines.push(line);
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let end_of_head = lines.iter().position(String::is_empty).expect("a head");
    let (head, body) = lines.split_at(end_of_head);
    for expected in [
        "From: TrustRelay <relay@example.com>",
        "To: ada@example.org",
        "Subject: Your token \"ci\" expires in 7 days",
        "Date: Tue, 07 Apr 2026 12:00:00 +0000",
        "Message-ID: <00000000-0000-0000-0000-000000000007@example.com>",
        "Auto-Submitted: auto-generated",
        "Content-Type: text/plain; charset=utf-8",
    ] {
        assert!(head.iter().any(|line| line == expected), "{expected} in {head:#?}");
    }
    // A line that is a single dot does not end the mail.
    assert_eq!(body, ["", "The first line.", "..", "The last line."]);
}

#[tokio::test]
async fn what_users_chose_cannot_become_a_header_or_a_recipient() {
    let mut peer = smtp(Smtp::Good, None, false).await;
    let mailer = mailer(&format!("smtp://{}", peer.address), AMPLE);
    let subject = format!("x\r\nBcc: eve@example.org\r\n\r\n{}", "Ünïcode ".repeat(100));
    let evil = Mail { subject: &subject, body: "ok\r\n.\r\nMAIL FROM:<eve@example.org>\r\n", ..mail() };
    mailer.send(&evil).await.expect("taken");
    peer.hear("DATA").await;
    let mut head_is_over = false;
    loop {
        let line = peer.heard.recv().await.expect("it goes on");
        if line == "QUIT" {
            break;
        }
        head_is_over |= line.is_empty();
        assert!(line.len() < 998, "{line}");
        assert!(!line.starts_with("Bcc:"), "{line}");
        // Continuation lines begin with a space, so only known headers begin a line.
        if !head_is_over && !line.starts_with(' ') {
            let known =
                ["From:", "To:", "Subject:", "Date:", "Message-ID:", "Auto-Submitted:", "Content-", "MIME-"];
            assert!(known.iter().any(|name| line.starts_with(name)), "{line}");
            assert!(line.is_ascii(), "{line}");
        }
    }
    assert!(head_is_over);
    for to in
        ["ada@example.org>\r\nRCPT TO:<eve@example.org", "ada@example.org, eve@example.org", "nobody", ""]
    {
        let refused = mailer.send(&Mail { to, ..mail() }).await;
        assert!(matches!(refused, Err(Failure::Permanent(_))), "{to:?}: {refused:?}");
    }
    assert_eq!(peer.heard_so_far(), [""; 0], "nothing was said of those");
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_tried_again_and_what_is_not_is() {
    for (step, answer, is_permanent) in [
        ("", "421 too busy", false),
        ("", "554 no service here", false),
        ("EHLO", "550 not with that name", false),
        ("MAIL", "451 later", false),
        ("MAIL", "550 not from there", true),
        ("RCPT", "450 mailbox busy", false),
        ("RCPT", "550 5.1.1 no such user", true),
        ("DATA", "421 going down", false),
        ("DATA", "554 no", true),
        (".", "452 no room", false),
        (".", "554 5.7.1 looks like spam", true),
        ("RCPT", "this is no SMTP", false),
        ("RCPT", "999 nor is this", false),
    ] {
        let peer = smtp(Smtp::Answers(step, answer), None, false).await;
        let failure = send_to(&peer, AMPLE).await.expect_err(answer);
        assert_eq!(matches!(failure, Failure::Permanent(_)), is_permanent, "{step} {answer}: {failure:?}");
        if is_permanent || answer.starts_with("42") || answer.starts_with("45") {
            assert!(failure.to_string().contains(&answer[..3]), "{answer}: {failure}");
        }
    }
    let peer = smtp(Smtp::Answers("RCPT", "550 5.1.1 no such user"), None, false).await;
    let failure = send_to(&peer, AMPLE).await.expect_err("refused");
    assert_eq!(failure.to_string(), "the mail server answered 550 5.1.1 no such user");
}

#[tokio::test]
async fn a_server_that_hangs_or_goes_away_costs_a_bounded_time() {
    for fault in [
        Smtp::SilentAt(""),
        Smtp::SilentAt("EHLO"),
        Smtp::SilentAt("RCPT"),
        Smtp::SilentAt("."),
        Smtp::DripsAt("EHLO"),
        Smtp::CutsAt(""),
        Smtp::CutsAt("MAIL"),
        Smtp::CutsAt("."),
    ] {
        let peer = smtp(fault, None, false).await;
        let sent = timeout(BOUND, send_to(&peer, SOON)).await.expect("it ends by itself");
        let failure = sent.expect_err("no mail was taken");
        assert!(matches!(failure, Failure::Later(_)), "{failure:?}");
    }
    // The server is gone, so the connection is refused.
    let address = smtp(Smtp::Good, None, false).await.address;
    let failure = mailer(&format!("smtp://{address}"), AMPLE).send(&mail()).await.expect_err("refused");
    assert!(
        matches!(failure, Failure::Later(_)) && failure.to_string().contains("could not be reached"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_mail_that_was_taken_is_sent_whatever_follows() {
    for fault in [Smtp::SilentAt("QUIT"), Smtp::CutsAt("QUIT"), Smtp::Answers("QUIT", "500 what")] {
        let peer = smtp(fault, None, false).await;
        send_to(&peer, AMPLE).await.expect("taken");
    }
}

#[tokio::test]
async fn tls_is_used_where_it_is_offered() {
    let (authority, config) = tls();
    for (scheme, wrapped) in [("smtp", false), ("smtps", true)] {
        let mut peer = smtp(Smtp::Good, Some(config.clone()), wrapped).await;
        let mailer = mailer(&format!("{scheme}://localhost:{}", peer.address.port()), AMPLE);
        let untrusted = mailer.send(&mail()).await.expect_err("a certificate that nobody knows");
        assert!(matches!(&untrusted, Failure::Later(text) if !text.is_empty()), "{untrusted:?}");
        assert!(!peer.heard_so_far().iter().any(|line| line.starts_with("MAIL")));
        mailer.trusting(vec![authority.clone()]).send(&mail()).await.expect("taken");
        if !wrapped {
            peer.hear("STARTTLS").await;
        }
        peer.hear("MAIL").await;
    }
}

#[tokio::test]
async fn a_password_goes_over_tls_or_not_at_all() {
    let (authority, config) = tls();
    let url = |peer: &Peer| format!("smtp://ada%40example.org:s3cret@127.0.0.1:{}", peer.address.port());

    let mut peer = smtp(Smtp::Good, Some(config.clone()), false).await;
    mailer(&url(&peer), AMPLE).trusting(vec![authority.clone()]).send(&mail()).await.expect("taken");
    // AUTH PLAIN: NUL, the user, NUL, the password (RFC 4616).
    peer.hear("STARTTLS").await;
    assert_eq!(peer.hear("AUTH").await, "AUTH PLAIN AGFkYUBleGFtcGxlLm9yZwBzM2NyZXQ=");

    // A server, or an attacker in between, that does not offer STARTTLS.
    let mut peer = smtp(Smtp::Good, None, false).await;
    let failure = mailer(&url(&peer), AMPLE).send(&mail()).await.expect_err("not in the clear");
    assert!(failure.to_string().contains("STARTTLS"), "{failure}");
    let heard = peer.heard_so_far();
    assert!(!heard.iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")), "{heard:?}");

    // The operator can fix a wrong password. It says nothing about the recipient.
    let wrong = Smtp::Answers("AUTH", "535 5.7.8 wrong password");
    let peer = smtp(wrong, Some(config), false).await;
    let failure =
        mailer(&url(&peer), AMPLE).trusting(vec![authority]).send(&mail()).await.expect_err("not let in");
    assert!(matches!(&failure, Failure::Later(text) if text.contains("535")), "{failure:?}");
    assert!(!format!("{failure:?}").contains("s3cret"));
}

#[test]
fn a_sender_that_is_no_address_is_refused() {
    let url: SmtpUrl = "smtp://localhost".parse().expect("a URL");
    for good in
        ["relay@example.org", "TrustRelay <relay@example.org>", "\"Token, Relay\" <relay@example.org>"]
    {
        assert!(Mailer::new(url.clone(), good).is_ok(), "{good}");
    }
    for bad in
        ["", "relay", "relay@", "a@example.org, b@example.org", "relay@example.org\r\nBcc: eve@example.org"]
    {
        let error = Mailer::new(url.clone(), bad).expect_err(bad).to_string();
        assert!(error.contains("not a valid sender address") && !error.contains('\n'), "{error}");
    }
}
