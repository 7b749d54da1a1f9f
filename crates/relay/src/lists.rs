//! The merged lists of `/mcp`: the built-in tools, then the elements of each upstream in its own
//! order. They depend only on the principal and the catalogue.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use trustrelay_token::Reach;

use crate::builtin;
use crate::catalogue::List;
use crate::context::Context;
use crate::envelope::{INVALID_PARAMS, Malformed, Message, RawObject, raw};

/// Returns one page. Leaves out an upstream that fails, or that is slow to send its first list.
pub(crate) async fn list(context: &Context, list: List, message: &Message) -> Result<RawObject, Malformed> {
    let from = match message.param_str("cursor") {
        Some(cursor) => offset(&cursor)
            .ok_or(Malformed { code: INVALID_PARAMS, why: "`params.cursor` is not valid for this list" })?,
        None => 0,
    };
    let merged = merged(context, list).await;
    let page = context.relay.0.limits.page;
    if from > merged.len() {
        return Err(Malformed {
            code: INVALID_PARAMS,
            why: "`params.cursor` is past the end; the list has changed",
        });
    }
    let end = from.saturating_add(page).min(merged.len());
    let mut result = RawObject::default();
    result.set(list.member(), raw(&merged[from..end]));
    if end < merged.len() {
        result.set("nextCursor", raw(&URL_SAFE_NO_PAD.encode(format!("from {end}"))));
    }
    Ok(result)
}

fn offset(cursor: &str) -> Option<usize> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    text.strip_prefix("from ")?.parse().ok()
}

async fn merged(context: &Context, list: List) -> Vec<Box<RawValue>> {
    let scopes = &context.principal.scopes;
    let upstreams = match list {
        List::Tools => context.touched(),
        _ => context.readable(),
    };
    let fetched = futures_util::future::join_all(upstreams.iter().map(|upstream| upstream.list(list))).await;
    let mut merged: Vec<Box<RawValue>> = Vec::new();
    if list == List::Tools {
        merged.extend(builtin::tools().iter().map(raw));
    }
    for (upstream, items) in upstreams.iter().zip(fetched) {
        let name = upstream.name.as_str();
        let Ok(items) = items else { continue };
        for item in items.iter() {
            let reach = if list == List::Tools { scopes.reach(name, &item.key) } else { Reach::Whole };
            let allowed = match reach {
                Reach::Whole => true,
                Reach::ReadOnly => item.reads_only,
                Reach::Nothing => false,
            };
            if allowed {
                merged.push(match list {
                    List::Tools | List::Prompts => item.named(&format!("{name}__{}", item.key)),
                    List::Resources | List::Templates => item.raw.clone(),
                });
            }
        }
    }
    merged
}
