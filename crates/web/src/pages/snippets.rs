//! What to paste into each client. Where a client can take the token from the environment or ask
//! for it, the snippet does so, and the secret stays out of the file.

use serde_json::json;

/// A client and what to paste for it.
pub(crate) struct Snippet {
    pub(crate) client: &'static str,
    pub(crate) hint: &'static str,
    pub(crate) text: String,
}

const PYTHON: &str = r#"import asyncio, os
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

async def main():
    headers = {"Authorization": f"Bearer {os.environ['TRUSTRELAY_TOKEN']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=300) as http:
        async with Client(streamable_http_client("{mcp}", http_client=http)) as client:
            for tool in (await client.list_tools()).tools:
                print(tool.name)

asyncio.run(main())"#;

const TYPESCRIPT: &str = r#"import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const transport = new StreamableHTTPClientTransport(new URL("{mcp}"), {
  requestInit: { headers: { Authorization: `Bearer ${process.env.TRUSTRELAY_TOKEN}` } },
});
const client = new Client({ name: "my-agent", version: "1.0.0" });
await client.connect(transport);
for (const tool of (await client.listTools()).tools) console.log(tool.name);
await client.close();"#;

/// The snippets for a token, with the MCP endpoint's and the API's address in them.
pub(crate) fn snippets(base: &str, token: &str) -> Vec<Snippet> {
    let mcp = format!("{base}/mcp");
    let bearer = format!("Bearer {token}");
    vec![
        Snippet {
            client: "Claude Code",
            hint: "Run in a terminal.",
            text: format!(
                "claude mcp add --transport http trustrelay {mcp} --header \"Authorization: {bearer}\""
            ),
        },
        Snippet {
            client: "Claude Desktop",
            hint: "Add to claude_desktop_config.json.",
            text: pretty(&json!({ "mcpServers": { "trustrelay": {
                "command": "npx",
                "args": ["-y", "mcp-remote", mcp, "--header", "Authorization:${AUTH}", "--transport", "http-only"],
                "env": { "AUTH": bearer },
            } } })),
        },
        Snippet {
            client: "Cursor",
            hint: "Add to ~/.cursor/mcp.json, and set the environment variable TRUSTRELAY_TOKEN to the token.",
            text: pretty(&json!({ "mcpServers": { "trustrelay": {
                "url": mcp,
                "headers": { "Authorization": "Bearer ${env:TRUSTRELAY_TOKEN}" },
            } } })),
        },
        Snippet {
            client: "VS Code",
            hint: "Add to .vscode/mcp.json. VS Code asks for the token once and stores it.",
            text: pretty(&json!({
                "inputs": [{ "type": "promptString", "id": "trustrelay-token", "description": "TrustRelay token", "password": true }],
                "servers": { "trustrelay": {
                    "type": "http",
                    "url": mcp,
                    "headers": { "Authorization": "Bearer ${input:trustrelay-token}" },
                } },
            })),
        },
        Snippet {
            client: "Codex",
            hint: "Run in a terminal.",
            text: format!(
                "export TRUSTRELAY_TOKEN={token}\ncodex mcp add trustrelay --url {mcp} --bearer-token-env-var TRUSTRELAY_TOKEN"
            ),
        },
        Snippet {
            client: "curl",
            hint: "Shows who the token belongs to.",
            text: format!(
                "export TRUSTRELAY_TOKEN={token}\ncurl -H \"Authorization: Bearer $TRUSTRELAY_TOKEN\" {base}/api/user"
            ),
        },
        Snippet {
            client: "Python",
            hint: "pip install \"mcp>=2\". The code reads the token from TRUSTRELAY_TOKEN.",
            text: PYTHON.replace("{mcp}", &mcp),
        },
        Snippet {
            client: "TypeScript",
            hint: "npm install @modelcontextprotocol/client. The code reads the token from TRUSTRELAY_TOKEN.",
            text: TYPESCRIPT.replace("{mcp}", &mcp),
        },
    ]
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_snippet_names_the_address_and_the_json_ones_parse() {
        let snippets = snippets("https://relay.example.org", "tr_pat_x");
        assert_eq!(snippets.len(), 8);
        for snippet in &snippets {
            assert!(snippet.text.contains("https://relay.example.org/"), "{}", snippet.client);
            if snippet.text.starts_with('{') {
                serde_json::from_str::<serde_json::Value>(&snippet.text).expect(snippet.client);
            }
        }
    }

    #[test]
    fn where_a_client_can_ask_for_the_token_it_is_not_in_the_file() {
        for snippet in snippets("https://relay.example.org", "tr_pat_x") {
            let asks = ["Cursor", "VS Code", "Python", "TypeScript"].contains(&snippet.client);
            assert_eq!(snippet.text.contains("tr_pat_x"), !asks, "{}", snippet.client);
        }
    }
}
