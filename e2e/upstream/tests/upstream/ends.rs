//! It is started for a test and does not outlive it.

use std::process::Stdio;

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use trustrelay_e2e::process::{Process, raw_output};
use trustrelay_e2e::{PATIENCE, until};

use crate::{address, command, initialize};

/// The host and port of an address.
fn host(address: &str) -> String {
    address.trim_start_matches("http://").trim_end_matches("/mcp").to_owned()
}

#[tokio::test]
async fn it_ends_when_whoever_started_it_has_ended() -> Result<()> {
    // A shell starts it, and ends when it is told to; the shell's end does not touch it.
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" http & read -r told", env!("CARGO_BIN_EXE_trustrelay-e2e-upstream")]);
    let mut shell = Process::start("sh", &mut shell)?;
    let host = host(&address(&mut shell).await?);
    TcpStream::connect(&host).await?;

    shell.input()?.write_all(b"end\n").await?;
    until("it to end", || async { TcpStream::connect(&host).await.err() }).await?;
    Ok(())
}

#[tokio::test]
async fn it_ends_well_when_it_is_told_to_terminate_with_a_stream_open() -> Result<()> {
    let mut child = command(&["http"]).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.next_line().await?.expect("an address");
    let url = line.trim_start_matches("listening on ").to_owned();
    let client = reqwest::Client::new();
    let accept = ("accept", "application/json, text/event-stream");
    let opened = client.post(&url).json(&initialize(1)).header(accept.0, accept.1).send().await?;
    let session = opened.headers()["mcp-session-id"].clone();
    let stream = client.get(&url).header(accept.0, accept.1).header("mcp-session-id", session).send().await?;
    assert!(stream.status().is_success());

    let pid = Pid::from_raw(child.id().expect("running").cast_signed()).expect("a pid");
    kill_process(pid, Signal::TERM)?;
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await??;
    assert!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test]
async fn it_ends_well_with_its_input_also_while_a_call_waits() -> Result<()> {
    let wait = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "test_wait", "_meta": { "progressToken": "begun" },
    } });
    for messages in [vec![], vec![initialize(1), wait]] {
        let mut child =
            command(&["stdio"]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut input = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        for message in messages {
            input.write_all(format!("{message}\n").as_bytes()).await?;
            assert!(lines.next_line().await?.is_some());
        }
        drop(input);
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await??;
        assert!(ended.success(), "{ended}");
    }
    Ok(())
}

#[tokio::test]
async fn it_listens_on_loopback_only() -> Result<()> {
    let refused = raw_output("upstream", &mut command(&["http", "--listen", "0.0.0.0:0"])).await?;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr)?;
    assert!(said.contains("0.0.0.0:0 is no loopback address"), "{said}");
    Ok(())
}
