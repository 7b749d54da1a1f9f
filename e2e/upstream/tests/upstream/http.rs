//! Over HTTP.

use anyhow::Result;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use trustrelay_e2e::process::Process;

use crate::{address, command, initialize, stateless};

/// A server, and a client of it.
struct Server {
    url: String,
    client: Client,
    _process: Process,
}

impl Server {
    async fn start(era: &str) -> Result<Self> {
        let mut process = Process::start("upstream", &mut command(&["http", "--era", era]))?;
        let url = address(&mut process).await?;
        process.drain();
        Ok(Self { url, client: Client::new(), _process: process })
    }

    /// Posts a message, with the headers of its era; answers the status and the last message that
    /// comes back.
    async fn post(&self, message: &Value) -> Result<(StatusCode, Value)> {
        let mut request =
            self.client.post(&self.url).json(message).header("accept", "application/json, text/event-stream");
        let version = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
        if let (Some(version), Some(method)) = (version.as_str(), message["method"].as_str()) {
            request = request.header("mcp-protocol-version", version).header("mcp-method", method);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let json =
            text.lines().rev().find_map(|line| line.strip_prefix("data: ").filter(|data| !data.is_empty()));
        Ok((status, serde_json::from_str(json.unwrap_or(&text))?))
    }
}

#[tokio::test]
async fn a_server_of_the_session_era_refuses_a_later_revision_as_one_that_it_does_not_know() -> Result<()> {
    let server = Server::start("session").await?;
    let (status, answer) = server.post(&stateless(1, "server/discover", "2026-07-28")).await?;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"]["code"], -32000);
    assert!(answer["error"]["message"].as_str().unwrap().contains("2025-11-25"), "{answer}");

    let (status, answer) = server.post(&initialize(2)).await?;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
    Ok(())
}

#[tokio::test]
async fn a_server_of_the_stateless_era_refuses_initialize_and_names_what_it_speaks() -> Result<()> {
    let server = Server::start("stateless").await?;
    let (status, answer) = server.post(&initialize(7)).await?;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(-32020)));
    assert!(answer["error"]["message"].as_str().unwrap().contains("2026-07-28"), "{answer}");

    let (status, answer) = server.post(&stateless(8, "tools/list", "2025-11-25")).await?;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"]["code"], -32022);
    assert_eq!(answer["error"]["data"], json!({ "supported": ["2026-07-28"], "requested": "2025-11-25" }));

    let (status, answer) = server.post(&stateless(9, "tools/list", "2026-07-28")).await?;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["result"]["resultType"], "complete");
    Ok(())
}

#[tokio::test]
async fn a_server_of_the_stateless_era_has_neither_streams_nor_sessions_to_get_or_delete() -> Result<()> {
    let (stateless, both) = (Server::start("stateless").await?, Server::start("both").await?);
    for method in [Method::GET, Method::DELETE] {
        let ask = |server: &Server| {
            server.client.request(method.clone(), &server.url).header("accept", "text/event-stream").send()
        };
        let refused = ask(&stateless).await?;
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.headers()["allow"], "POST");
        assert_ne!(ask(&both).await?.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    Ok(())
}

#[tokio::test]
async fn an_origin_that_is_not_its_own_is_refused() -> Result<()> {
    let server = Server::start("both").await?;
    let own = server.url.trim_end_matches("/mcp").to_owned();
    for (origin, expected) in
        [(own.as_str(), StatusCode::OK), ("http://evil.example.com", StatusCode::FORBIDDEN)]
    {
        let request = server.client.post(&server.url).json(&initialize(1)).header("origin", origin);
        let answer = request.header("accept", "application/json, text/event-stream").send().await?;
        assert_eq!(answer.status(), expected, "{origin}");
    }
    Ok(())
}
