//! A token's end is told, by mail and by a webhook, once: over a real mail server, a real receiver
//! and restarts.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;
use trustrelay_e2e::api::Api;
use trustrelay_e2e::process::output;
use trustrelay_e2e::receivers::{Receivers, verified};
use trustrelay_e2e::server::{EMAIL, Server};
use trustrelay_e2e::{tools, until};

/// A token that was made two days ago and has less than a day left: one that was made to live no
/// longer has no notice.
async fn made_before(server: &Server, name: &str) -> Result<()> {
    const AGE: &str = "import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=20) as db:
    changed = db.execute('UPDATE pats SET created_at = created_at - 2 * 86400 * 1000000 WHERE name = ?', sys.argv[2:])
    assert changed.rowcount == 1";
    server.token(name, "mcp", "1d").await?;
    let database = server.data().join("trustrelay.db");
    let mut python = Command::new(tools::python()?);
    output("python", python.args(["-c", AGE]).arg(database).arg(name)).await?;
    Ok(())
}

/// The notices of the log, each with how its deliveries stand and how often they were tried.
async fn log(api: &Api) -> Result<Vec<Value>> {
    let notices = api.get("/api/user/notices").await?;
    let notices = notices.as_array().context("no list")?.iter().map(|notice| {
        let ways = notice["deliveries"].as_array().into_iter().flatten();
        let ways: Vec<_> = ways.map(|way| json!([way["channel"], way["state"], way["attempts"]])).collect();
        json!([notice["kind"], notice["facts"]["pat_name"], ways])
    });
    Ok(notices.collect())
}

#[tokio::test]
async fn a_token_s_end_is_told_once_by_mail_and_by_webhook_over_restarts() -> Result<()> {
    let mut receivers = Receivers::start().await?;
    let smtp = format!("smtp://127.0.0.1:{}", receivers.smtp);
    let flags = ["--smtp-url", &smtp, "--mail-from", "relay@example.org", "--webhook-private-networks"];
    let server = Server::start_with(&flags).await?;
    let hook = json!({ "url": format!("http://127.0.0.1:{}/hooks", receivers.http) });
    let hook = Api::sign_in(&server).await?.post("/api/user/webhooks", &hook).await?;
    let secret = hook["secret"].as_str().context("no secret")?;

    // The server looks when it starts.
    made_before(&server, "first").await?;
    let server = server.restart(&flags).await?;
    let (mail, webhook) = receivers.one_of_each().await?;
    assert_eq!((&mail["to"], &mail["from"]), (&json!([EMAIL]), &json!("relay@example.org")));
    let (subject, body) = (mail["subject"].as_str().unwrap_or(""), mail["body"].as_str().unwrap_or(""));
    assert!(subject.contains("\"first\" expires"), "{subject}");
    assert!(body.contains("/settings/notices"), "{body}");
    let told = verified(&webhook, secret)?;
    assert_eq!(told["type"], "token.expiring");
    assert_eq!((&told["data"]["kind"], &told["data"]["pat_name"]), (&json!("expiring_1d"), &json!("first")));
    assert_eq!(told["data"]["notice_id"], webhook["headers"]["webhook-id"]);
    let mut forged = webhook.clone();
    forged["body"] = json!(webhook["body"].as_str().unwrap_or("").replace("first", "other"));
    assert!(verified(&forged, secret).is_err(), "what was changed on the way is not believed");

    let api = Api::sign_in(&server).await?;
    let first = json!(["expiring_1d", "first", [["mail", "done", 1], ["webhook", "done", 1]]]);
    until("both to be written down", || async { (log(&api).await.ok()? == [first.clone()]).then_some(()) })
        .await?;

    // Started again, it has something else to tell, and tells nothing of the first: that would have
    // gone before.
    made_before(&server, "second").await?;
    let server = server.restart(&flags).await?;
    let (mail, webhook) = receivers.one_of_each().await?;
    assert!(mail["subject"].as_str().is_some_and(|text| text.contains("\"second\"")), "{mail}");
    assert_eq!(verified(&webhook, secret)?["data"]["pat_name"], "second");
    let api = Api::sign_in(&server).await?;
    let second = json!(["expiring_1d", "second", [["mail", "done", 1], ["webhook", "done", 1]]]);
    until("the others to be written down", || async {
        (log(&api).await.ok()? == [second.clone(), first.clone()]).then_some(())
    })
    .await?;
    Ok(())
}
