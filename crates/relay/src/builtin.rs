//! The relay's built-in tools: the identity of the caller, and the state of the upstreams.

use serde_json::{Value, json};
use trustrelay_token::{Pat, Principal, Reach};

use crate::catalogue::{List, UpstreamStatus};
use crate::clock;
use crate::names::BUILTIN;
use crate::relay::Relay;

pub(crate) fn tools() -> [Value; 2] {
    let tool = |name: &str, description: &str| {
        json!({
            "name": format!("{BUILTIN}__{name}"), "description": description,
            "inputSchema": {"type": "object", "properties": {}, "additionalProperties": false},
            "annotations": {"readOnlyHint": true, "openWorldHint": false},
        })
    };
    [
        tool("whoami", "The owner, the permissions and the expiry of this token"),
        tool("upstreams", "The MCP servers that this token can reach through TrustRelay, and their state"),
    ]
}

/// Calls a built-in tool. Returns `None` if there is no such tool.
pub(crate) async fn call(relay: &Relay, principal: &Principal, tool: &str) -> Option<Value> {
    let content = match tool {
        "whoami" => whoami(principal),
        "upstreams" => upstreams(relay, principal).await,
        _ => return None,
    };
    Some(json!({
        "content": [{"type": "text", "text": content.to_string()}],
        "structuredContent": content, "isError": false,
    }))
}

fn whoami(principal: &Principal) -> Value {
    let expires_at = principal.expires_at();
    let seconds = expires_at.as_second().saturating_sub(clock::now().as_second()).max(0);
    let pat = principal.pat();
    json!({
        "user": principal.email, "token_name": pat.map(Pat::name), "token_hint": pat.map(Pat::hint),
        "scopes": principal.scopes.to_string(), "expires_at": expires_at.to_string(),
        "days_left": seconds / 86_400,
    })
}

async fn upstreams(relay: &Relay, principal: &Principal) -> Value {
    let visible = relay.touched(principal);
    let lists = futures_util::future::join_all(visible.iter().map(|u| u.list(List::Tools))).await;
    let rows: Vec<Value> = visible
        .iter()
        .zip(lists)
        .map(|(upstream, list)| {
            let name = upstream.name.as_str();
            let tools = list.map(|items| {
                items
                    .iter()
                    .filter(|item| match principal.scopes.reach(name, &item.key) {
                        Reach::Whole => true,
                        Reach::ReadOnly => item.reads_only,
                        Reach::Nothing => false,
                    })
                    .map(|item| item.key.clone())
                    .collect::<Vec<_>>()
            });
            let problems = problems(upstream.status(), principal);
            json!({
                "name": name, "state": upstream.state(), "tools": tools.unwrap_or_default(),
                "problems": problems,
            })
        })
        .collect();
    json!({ "upstreams": rows })
}

/// Returns the problems of an upstream's lists, as far as the token may see the elements that they
/// concern.
fn problems(status: UpstreamStatus, principal: &Principal) -> Vec<String> {
    let name = status.name.as_str();
    let failures = status.failures.into_iter().map(|failure| {
        let served = match failure.served_from {
            Some(at) => format!("the list of {at} is served"),
            None => "there is no list to serve".to_owned(),
        };
        format!("{} since {}: {}; {served}", failure.list, failure.since, failure.reason)
    });
    let flaws = status.flaws.into_iter().filter_map(|flaw| {
        let is_visible = match (&flaw.key, flaw.list == List::Tools.method()) {
            (Some(tool), true) => principal.scopes.reach(name, tool) != Reach::Nothing,
            (None, true) => true,
            (_, false) => principal.scopes.reads_upstream(name),
        };
        let key = flaw.key.as_ref().map_or_else(|| "an element".to_owned(), |key| format!("`{key}`"));
        let done = if flaw.is_left_out { "left out" } else { "corrected" };
        is_visible.then(|| format!("{}: {key} was {done}: {}", flaw.list, flaw.mistake))
    });
    failures.chain(flaws).collect()
}
