//! What each upstream offers: its lists, fetched once for all clients, kept fresh by the upstream's own word.
//!
//! A list that is known is answered at once, also when it is old: it is fetched anew behind it. Nobody waits for long for an upstream that
//! was never heard; its list follows with `list_changed`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, oneshot};
use tokio::time::{Instant, timeout};

use crate::envelope::{self, Message, RawObject, raw};
use crate::era::{self, Era};
use crate::upstream::{Fault, Link, Upstream};
use crate::watch::watch;

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
    pub(crate) fn of(method: &str) -> Option<Self> {
        [Self::Tools, Self::Prompts, Self::Resources, Self::Templates]
            .into_iter()
            .find(|list| list.method() == method)
    }

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

    /// What says that it has changed.
    pub(crate) fn notification(self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resources | Self::Templates => "notifications/resources/list_changed",
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

const ALL: [List; 4] = [List::Tools, List::Prompts, List::Resources, List::Templates];

/// An element of a list: by what it is called, and its raw JSON.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) raw: Box<RawValue>,
    /// Whether it declares `readOnlyHint`.
    pub(crate) reads_only: bool,
    /// Its parameters' schema, if some of them are wanted as headers.
    pub(crate) mirrored: Option<serde_json::Value>,
}

impl Item {
    fn read(list: List, raw: Box<RawValue>) -> Option<Self> {
        let object = RawObject::parse(raw.get()).ok()?;
        let key = object.str(list.key())?;
        let hint =
            object.object("annotations").and_then(|hints| Some(hints.get("readOnlyHint")?.get() == "true"));
        let schema = object.get("inputSchema").filter(|schema| schema.get().contains("x-mcp-header"));
        let mirrored = schema.and_then(|schema| serde_json::from_str(schema.get()).ok());
        Some(Self { key, raw, reads_only: hint.unwrap_or(false), mirrored })
    }

    /// The element under another name; all else raw.
    pub(crate) fn named(&self, name: &str) -> Box<RawValue> {
        let mut object = RawObject::parse(self.raw.get()).unwrap_or_default();
        object.set("name", raw(name));
        object.to_raw()
    }
}

pub(crate) type Items = Arc<Vec<Item>>;

/// A fetch on its way.
#[derive(Clone)]
struct Fetch {
    since: Instant,
    /// It follows one that failed: nobody waits for it.
    again: bool,
    /// The upstream has said meanwhile that the list is another one.
    overtaken: Arc<AtomicBool>,
    answer: Shared<oneshot::Receiver<Result<Items, Fault>>>,
}

struct Known {
    at: Instant,
    items: Items,
    /// The upstream has said that it is another one now.
    said_changed: bool,
}

/// How many changes are kept for a listener that is slow; it then takes all lists for changed.
const CHANGES: usize = 64;

pub(crate) struct Catalogue {
    lists: Mutex<HashMap<List, Known>>,
    fetches: Mutex<HashMap<List, Fetch>>,
    /// Lists that somebody asked for and did not get: they are told of when they are there.
    owed: Mutex<HashSet<List>>,
    /// Lists whose last fetch failed.
    failed: Mutex<HashSet<List>>,
    pub(crate) link: tokio::sync::Mutex<Option<Arc<Link>>>,
    changes: broadcast::Sender<List>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            lists: Mutex::default(),
            fetches: Mutex::default(),
            owed: Mutex::default(),
            failed: Mutex::default(),
            link: tokio::sync::Mutex::default(),
            changes: broadcast::channel(CHANGES).0,
        }
    }
}

impl Catalogue {
    pub(crate) fn known_tools(&self) -> Option<usize> {
        self.lists.lock().get(&List::Tools).map(|known| known.items.len())
    }

    /// Which lists change, from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<List> {
        self.changes.subscribe()
    }

    /// Whether it asks on this link.
    pub(crate) async fn uses(&self, link: &Arc<Link>) -> bool {
        self.link.lock().await.as_ref().is_some_and(|held| Arc::ptr_eq(held, link))
    }

    pub(crate) async fn close(&self) {
        let link = self.link.lock().await.take();
        if let Some(link) = link {
            link.close().await;
        }
    }
}

impl Upstream {
    /// One of its lists.
    pub(crate) async fn list(self: &Arc<Self>, list: List) -> Result<Items, Fault> {
        let found = self.found(list).await;
        if found.is_err() {
            self.catalogue.owed.lock().insert(list);
        }
        found
    }

    async fn found(self: &Arc<Self>, list: List) -> Result<Items, Fault> {
        let known = {
            let lists = self.catalogue.lists.lock();
            lists
                .get(&list)
                .map(|known| (known.at.elapsed() < self.limits.list_fresh, Arc::clone(&known.items)))
        };
        match known {
            Some((true, items)) => return Ok(items),
            _ if self.is_resting() => return Err(Fault::Down),
            Some((false, items)) => {
                drop(self.fetch(list));
                return Ok(items);
            }
            None => {}
        }
        let fetch = self.fetch(list);
        let patience = if fetch.again { Duration::ZERO } else { self.limits.list_patience };
        match timeout(patience.saturating_sub(fetch.since.elapsed()), fetch.answer).await {
            Ok(fetched) => fetched.unwrap_or(Err(Fault::Down)),
            // It goes on, and is told of when it is there.
            Err(_) => Err(Fault::Slow),
        }
    }

    /// One of its lists, no older than a list is believed, and none that it has said to be another one now: for what is decided by it.
    async fn fresh(self: &Arc<Self>, list: List) -> Result<Items, Fault> {
        let known = self.catalogue.lists.lock().get(&list).and_then(|known| {
            let fresh = !known.said_changed && known.at.elapsed() < self.limits.list_fresh;
            fresh.then(|| Arc::clone(&known.items))
        });
        match known {
            Some(items) => Ok(items),
            None if self.is_resting() => Err(Fault::Down),
            None => {
                let fetched = timeout(self.limits.list_patience, self.fetch(list).answer).await;
                fetched.map_or(Err(Fault::Slow), |fetched| fetched.unwrap_or(Err(Fault::Down)))
            }
        }
    }

    /// Whether a tool declares that it only reads; `None` if there is no such tool.
    pub(crate) async fn reads_only(self: &Arc<Self>, name: &str) -> Result<Option<bool>, Fault> {
        let items = self.fresh(List::Tools).await?;
        Ok(items.iter().find(|item| item.key == name).map(|item| item.reads_only))
    }

    /// A tool's schema, if some of its parameters are wanted as headers.
    pub(crate) async fn schema(self: &Arc<Self>, name: &str) -> Option<serde_json::Value> {
        let items = self.list(List::Tools).await.ok()?;
        items.iter().find(|item| item.key == name)?.mirrored.clone()
    }

    /// The same, only if the list is known already: a call does not wait for it.
    pub(crate) fn mirrored(&self, name: &str) -> Option<serde_json::Value> {
        let lists = self.catalogue.lists.lock();
        let known = lists.get(&List::Tools)?;
        known.items.iter().find(|item| item.key == name)?.mirrored.clone()
    }

    /// The upstream said that a list has changed, or a session of it passed that on. Clients are told when it is fetched, so that
    /// their next list has the change in it.
    pub(crate) fn heard(self: &Arc<Self>, notification: &str) {
        for list in ALL.into_iter().filter(|list| list.notification() == notification) {
            let known = self.catalogue.lists.lock().get_mut(&list).map(|known| known.said_changed = true);
            // What was never asked for needs no fetching; what is on its way may be from before.
            if let Some(fetch) = self.catalogue.fetches.lock().get_mut(&list) {
                fetch.overtaken.store(true, Ordering::Relaxed);
            } else if known.is_none() {
                continue;
            }
            drop(self.fetch(list));
        }
    }

    /// Fetches anew what is known.
    pub(crate) fn fetch_known(self: &Arc<Self>) {
        let known: Vec<List> = self.catalogue.lists.lock().keys().copied().collect();
        for list in known {
            drop(self.fetch(list));
        }
    }

    /// Fetches a list in a task of its own; who comes meanwhile waits for the same.
    fn fetch(self: &Arc<Self>, list: List) -> Fetch {
        let mut fetches = self.catalogue.fetches.lock();
        if let Some(fetch) = fetches.get(&list) {
            return fetch.clone();
        }
        let (answer, received) = oneshot::channel();
        let again = self.catalogue.failed.lock().contains(&list);
        let overtaken = Arc::<AtomicBool>::default();
        let fetch = Fetch {
            since: Instant::now(),
            again,
            overtaken: Arc::clone(&overtaken),
            answer: received.shared(),
        };
        fetches.insert(list, fetch.clone());
        let upstream = Arc::clone(self);
        tokio::spawn(async move {
            let wait = upstream.limits.list + upstream.limits.handshake(upstream.is_stdio());
            let fetched = timeout(wait, upstream.fetched(list)).await.unwrap_or(Err(Fault::Slow));
            upstream.catalogue.fetches.lock().remove(&list);
            let changed = upstream.keep(list, &fetched);
            if overtaken.load(Ordering::Relaxed) {
                if let Some(known) = upstream.catalogue.lists.lock().get_mut(&list) {
                    known.said_changed = true;
                }
                drop(upstream.fetch(list));
            }
            // Nobody may be waiting, or listening.
            let _ = answer.send(fetched);
            if changed {
                let _ = upstream.catalogue.changes.send(list);
            }
        });
        fetch
    }

    /// Whether the list is another one than was known.
    fn keep(&self, list: List, fetched: &Result<Items, Fault>) -> bool {
        let mut lists = self.catalogue.lists.lock();
        match fetched {
            Ok(items) => {
                self.catalogue.failed.lock().remove(&list);
                let known = Known { at: Instant::now(), items: Arc::clone(items), said_changed: false };
                let before = lists.insert(list, known);
                let same = |before: &Known| {
                    !before.said_changed
                        && before.items.len() == items.len()
                        && before.items.iter().zip(items.iter()).all(|(a, b)| a.raw.get() == b.raw.get())
                };
                let owed = self.catalogue.owed.lock().remove(&list);
                before.as_ref().map_or(owed, |before| !same(before))
            }
            Err(fault) => {
                self.note(Some(*fault));
                self.catalogue.failed.lock().insert(list);
                tracing::warn!(upstream = %self.name, list = list.method(), fault = fault.outcome(), "list failed");
                // Its tools cannot be called either.
                lists.remove(&list).is_some_and(|before| !before.items.is_empty())
            }
        }
    }

    async fn fetched(self: &Arc<Self>, list: List) -> Result<Items, Fault> {
        let link = self.catalogue_link().await?;
        match self.pages(&link, list).await {
            Err(Fault::SessionGone | Fault::Down) => {
                let mut slot = self.catalogue.link.lock().await;
                if slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, &link)) {
                    *slot = None;
                }
                drop(slot);
                let link = self.catalogue_link().await?;
                Ok(Arc::new(self.pages(&link, list).await?))
            }
            pages => Ok(Arc::new(pages?)),
        }
    }

    /// The catalogue's own link, opened when it is first needed and watched for what it says of its lists.
    async fn catalogue_link(self: &Arc<Self>) -> Result<Arc<Link>, Fault> {
        let mut slot = self.catalogue.link.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.is_alive()) {
            return Ok(Arc::clone(link));
        }
        let own = crate::upstream::own_initialize();
        // Most commands are of the session era, and asking one otherwise may cost a start of it.
        let link = if self.is_stdio() && !self.speaks_stateless() {
            match self.session(&own).await? {
                Some(link) => link,
                None => self.stateless().await?.ok_or(Fault::Garbage)?,
            }
        } else {
            match self.stateless().await? {
                Some(link) => link,
                None => self.session(&own).await?.ok_or(Fault::Garbage)?,
            }
        };
        *slot = Some(Arc::clone(&link));
        tokio::spawn(watch(Arc::downgrade(self), Arc::clone(&link)));
        Ok(link)
    }

    async fn pages(&self, link: &Arc<Link>, list: List) -> Result<Vec<Item>, Fault> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        if !link.can(list.capability()) {
            return Ok(items);
        }
        let mut cursor: Option<String> = None;
        for _ in 0..self.limits.pages {
            let mut params = RawObject::default();
            if let Some(cursor) = &cursor {
                params.set("cursor", raw(cursor));
            }
            let response = own(link, list.method(), params).await?;
            // Templates, for one, are not offered by all who offer resources.
            let Some(result) = response.result() else { return Ok(items) };
            let result = RawObject::parse(result).map_err(|_| Fault::Garbage)?;
            let page = result.get(list.member()).ok_or(Fault::Garbage)?;
            bytes += page.get().len();
            if bytes > self.limits.answer {
                return Err(Fault::TooLarge);
            }
            let page: Vec<Box<RawValue>> = serde_json::from_str(page.get()).map_err(|_| Fault::Garbage)?;
            for raw in page {
                items.push(Item::read(list, raw).ok_or(Fault::Garbage)?);
            }
            cursor = result.str("nextCursor");
            if cursor.is_none() {
                break;
            }
        }
        Ok(items)
    }
}

/// Asks something for the relay itself.
async fn own(link: &Link, method: &str, params: RawObject) -> Result<Message, Fault> {
    let (body, headers) = match link.era {
        Era::Session => {
            let id = link.fresh_id();
            (
                envelope::request(&format!("\"trustrelay-{id}\""), method, params.to_raw().get()),
                HeaderMap::new(),
            )
        }
        Era::Stateless => {
            let body = crate::upstream::own_request(method, params);
            let message = Message::parse(body).map_err(|_| Fault::Garbage)?;
            let headers = era::headers_for(&message, None)?;
            (message.into_text(), headers)
        }
    };
    let mut exchange = link.request(body, headers).await?;
    let status = exchange.status();
    match exchange.response().await {
        Err(Fault::Garbage) if !status.is_success() => Err(Fault::Refused(status)),
        response => response,
    }
}

/// Whether a URI fits a template (RFC 6570), as far as routing needs: its literal parts occur in order.
pub(crate) fn fits(template: &str, uri: &str) -> bool {
    let mut parts = template.split('{');
    let Some(mut rest) = parts.next().and_then(|literal| uri.strip_prefix(literal)) else { return false };
    let mut last = None;
    for part in parts {
        let literal = part.split_once('}').map_or("", |(_, literal)| literal);
        let Some(at) = rest.find(literal) else { return false };
        rest = &rest[at + literal.len()..];
        last = Some(literal);
    }
    match last {
        Some(literal) => uri.ends_with(literal),
        None => rest.is_empty(),
    }
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
