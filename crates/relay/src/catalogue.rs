//! What each upstream offers: its lists, fetched once for all clients, believed for a short while.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use crate::envelope::{RawObject, raw};
use crate::upstream::{Fault, Link, Upstream};

/// An upstream, for pages and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// `unknown` (not asked yet), `up` or `down`.
    pub state: &'static str,
    /// How many tools it listed last; `None` if it was never asked.
    pub tools: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum List {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl List {
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// The member of the result that holds the list.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    /// The member of an element by which it is called.
    fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

/// An element of a list: by what it is called, and its raw JSON.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) raw: Box<RawValue>,
}

impl Item {
    /// The element under another name; all else raw.
    pub(crate) fn named(&self, name: &str) -> Box<RawValue> {
        let mut object = RawObject::parse(self.raw.get()).unwrap_or_default();
        object.set("name", raw(name));
        object.to_raw()
    }
}

type Items = Arc<Vec<Item>>;

#[derive(Default)]
pub(crate) struct Catalogue {
    lists: Mutex<HashMap<List, (Instant, Items)>>,
    /// The catalogue's own session; the lock makes many askers wait for one fetch.
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
}

impl Catalogue {
    pub(crate) fn known_tools(&self) -> Option<usize> {
        self.lists.lock().get(&List::Tools).map(|(_, items)| items.len())
    }

    /// A list changed: ask again when next asked.
    pub(crate) fn forget(&self, notification: &str) {
        let mut lists = self.lists.lock();
        match notification {
            "notifications/tools/list_changed" => drop(lists.remove(&List::Tools)),
            "notifications/prompts/list_changed" => drop(lists.remove(&List::Prompts)),
            "notifications/resources/list_changed" => {
                lists.remove(&List::Resources);
                lists.remove(&List::Templates);
            }
            _ => {}
        }
    }

    pub(crate) async fn close(&self) {
        let link = self.link.lock().await.take();
        if let Some(link) = link {
            link.close().await;
        }
    }
}

impl Upstream {
    /// One of its lists, fresh enough; bounded in time.
    pub(crate) async fn list(self: &Arc<Self>, list: List) -> Result<Items, Fault> {
        let cached = |upstream: &Self| {
            let lists = upstream.catalogue.lists.lock();
            let (at, items) = lists.get(&list)?;
            (at.elapsed() < upstream.limits.list_fresh).then(|| Arc::clone(items))
        };
        if let Some(items) = cached(self) {
            return Ok(items);
        }
        if self.is_resting() {
            return Err(Fault::Down);
        }
        let fetch = async {
            let mut link = self.catalogue.link.lock().await;
            // Someone else fetched it, or found it down, while we waited.
            if let Some(items) = cached(self) {
                return Ok(items);
            }
            if self.is_resting() {
                return Err(Fault::Down);
            }
            let mut fetched = self.fetch(&mut link, list).await;
            if fetched.as_ref().err() == Some(&Fault::SessionGone) {
                *link = None;
                fetched = self.fetch(&mut link, list).await;
            }
            let items = Arc::new(fetched?);
            self.catalogue.lists.lock().insert(list, (Instant::now(), Arc::clone(&items)));
            Ok(items)
        };
        let fetched = timeout(self.limits.list, fetch).await.unwrap_or(Err(Fault::Slow));
        if let Err(fault) = &fetched {
            self.note(Some(*fault));
            tracing::warn!(upstream = %self.name, list = list.method(), fault = fault.outcome(), "list failed");
        }
        fetched
    }

    async fn fetch(self: &Arc<Self>, slot: &mut Option<Arc<Link>>, list: List) -> Result<Vec<Item>, Fault> {
        let link = match slot {
            Some(link) => Arc::clone(link),
            None => {
                let params = RawObject::parse(OWN_INITIALIZE).unwrap_or_default();
                let link = Link::open(self, &params).await?;
                *slot = Some(Arc::clone(&link));
                link
            }
        };
        let mut items = Vec::new();
        if !link.can(list.capability()) {
            return Ok(items);
        }
        let mut cursor: Option<String> = None;
        for _ in 0..self.limits.pages {
            let params = cursor.as_ref().map_or("{}".to_owned(), |c| format!(r#"{{"cursor":{}}}"#, raw(c)));
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":"trustrelay-list","method":"{}","params":{params}}}"#,
                list.method()
            );
            let mut answer = link.post(body, self.limits.list).await?;
            if !answer.status.is_success() {
                return Err(Fault::Refused(answer.status));
            }
            let response = answer.response().await?;
            // Templates, for one, are not offered by all who offer resources.
            let Some(result) = response.get("result") else { return Ok(items) };
            let result = RawObject::parse(result.get()).map_err(|_| Fault::Garbage)?;
            let page = result.get(list.member()).ok_or(Fault::Garbage)?;
            let page: Vec<Box<RawValue>> = serde_json::from_str(page.get()).map_err(|_| Fault::Garbage)?;
            for raw in page {
                let object = RawObject::parse(raw.get()).map_err(|_| Fault::Garbage)?;
                let key = object.str(list.key()).ok_or(Fault::Garbage)?;
                items.push(Item { key, raw });
            }
            cursor = result.str("nextCursor");
            if cursor.is_none() {
                break;
            }
        }
        Ok(items)
    }
}

const OWN_INITIALIZE: &str = concat!(
    r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"trustrelay","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}}"#
);

/// Whether a URI fits a template (RFC 6570), as far as routing needs: its literal parts occur in order.
pub(crate) fn fits(template: &str, uri: &str) -> bool {
    let mut rest = uri;
    let mut first = true;
    let mut last = "";
    for part in template.split('{') {
        let literal = if first { part } else { part.split_once('}').map_or("", |(_, literal)| literal) };
        if first {
            match rest.strip_prefix(literal) {
                Some(after) => rest = after,
                None => return false,
            }
        } else {
            match rest.find(literal) {
                Some(at) => rest = &rest[at + literal.len()..],
                None => return false,
            }
        }
        first = false;
        last = literal;
    }
    uri.ends_with(last) && (template.contains('{') || rest.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uri_fits_its_template_and_no_other() {
        assert!(super::fits("test://template/{id}/data", "test://template/7/data"));
        assert!(super::fits("test://x", "test://x"));
        assert!(!super::fits("test://x", "test://xy"));
        assert!(!super::fits("test://template/{id}/data", "test://template/7/other"));
        assert!(!super::fits("a://{id}", "b://7"));
    }
}
