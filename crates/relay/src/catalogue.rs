//! The catalogue: each upstream's lists, fetched once for all clients and refreshed when the
//! upstream reports a change.
//!
//! A fresh list is served at once. If a list is stale, a client waits briefly for the refresh and
//! otherwise gets the last good list. A client also waits only briefly for the first list of an
//! upstream. If that list comes later, the client is told with `list_changed`.

mod fetch;
mod item;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::Shared;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};
use tokio::time::{Instant, timeout};

pub use self::item::ListFlaw;
use self::item::Listed;
use crate::upstream::{Fault, Link, Upstream};

/// The status of an upstream, for pages and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// The upstream's name, as in scopes.
    pub name: String,
    /// `unknown` (not asked yet), `up` or `down`.
    pub state: &'static str,
    /// The number of tools in its most recent list. `None` if the list was never fetched.
    pub tools: Option<usize>,
    /// The lists whose refresh failed. The last good ones are still served.
    pub failures: Vec<ListFailure>,
    /// Mistakes in the upstream's lists.
    pub flaws: Vec<ListFlaw>,
}

/// A list that could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFailure {
    /// The method of the list, such as `tools/list`.
    pub list: &'static str,
    /// The reason, without the upstream's own words.
    pub reason: String,
    /// The time of the first failure since the last successful fetch.
    pub since: Timestamp,
    /// The time at which the list that is served instead was fetched. `None` if there is none.
    pub served_from: Option<Timestamp>,
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

    /// Returns the member of the result that holds the list.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// Returns the notification that reports a change of the list.
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

    /// Returns the mistake of an element without its key.
    fn no_key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "`name` is missing or not a string",
            Self::Resources => "`uri` is missing or not a string",
            Self::Templates => "`uriTemplate` is missing or not a string",
        }
    }

    /// Returns the member that identifies an element.
    fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

const ALL: [List; 4] = [List::Tools, List::Prompts, List::Resources, List::Templates];

/// The most recent version of a list.
pub(crate) type Items = Arc<Listed>;

/// A fetch in progress.
#[derive(Clone)]
struct Fetch {
    since: Instant,
    /// True if the previous fetch failed. Clients do not wait for such a retry.
    again: bool,
    /// Set when the upstream reports a change during the fetch.
    overtaken: Arc<AtomicBool>,
    answer: Shared<oneshot::Receiver<Result<Items, Fault>>>,
}

struct Known {
    at: Instant,
    fetched_at: Timestamp,
    items: Items,
    /// True if the upstream has reported a change since the fetch.
    said_changed: bool,
}

/// The failure of the most recent fetches of a list.
#[derive(Clone, Copy)]
struct Failure {
    fault: Fault,
    since: Timestamp,
}

/// Maximum number of elements in one list. A longer list is refused.
const MAX_ITEMS: usize = 10_000;

/// The number of changes kept for a slow listener. A listener that misses changes treats all lists
/// as changed.
const CHANGES: usize = 64;

pub(crate) struct Catalogue {
    lists: Mutex<HashMap<List, Known>>,
    fetches: Mutex<HashMap<List, Fetch>>,
    /// Lists that a client asked for in vain. Their arrival is reported as a change.
    owed: Mutex<HashSet<List>>,
    /// The lists whose most recent fetch failed.
    failed: Mutex<HashMap<List, Failure>>,
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
        self.lists.lock().get(&List::Tools).map(|known| known.items.items.len())
    }

    /// Returns the mistakes in the most recent versions of the lists.
    pub(crate) fn flaws(&self) -> Vec<ListFlaw> {
        let lists = self.lists.lock();
        let known = ALL.iter().filter_map(|list| lists.get(list));
        known.flat_map(|known| known.items.flaws.iter().cloned()).collect()
    }

    /// Subscribes to changes of the lists.
    pub(crate) fn changes(&self) -> broadcast::Receiver<List> {
        self.changes.subscribe()
    }

    /// Returns whether the catalogue fetches over this link.
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
    /// Returns the upstream's status, as it is shown to people.
    pub(crate) fn status(&self) -> UpstreamStatus {
        UpstreamStatus {
            name: self.name.to_string(),
            state: self.state(),
            tools: self.catalogue.known_tools(),
            failures: self.list_failures(),
            flaws: self.catalogue.flaws(),
        }
    }

    /// Returns the lists whose last fetch failed.
    pub(crate) fn list_failures(&self) -> Vec<ListFailure> {
        let failed = self.catalogue.failed.lock().clone();
        let lists = self.catalogue.lists.lock();
        let failures = ALL.iter().filter_map(|list| {
            let Failure { fault, since } = *failed.get(list)?;
            let served_from = lists.get(list).map(|known| known.fetched_at);
            let reason = fault.message(self.name.as_str());
            Some(ListFailure { list: list.method(), reason, since, served_from })
        });
        failures.collect()
    }

    /// Returns a list of this upstream.
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
        // The last good list is served until there is a newer one, so that clients forget nothing
        // that the upstream still has.
        let last = match known {
            Some((true, items)) => return Ok(items),
            Some((false, items)) => Ok(items),
            None => Err(Fault::Slow),
        };
        if self.is_resting() {
            return last.or(Err(Fault::Down));
        }
        let fetch = self.fetch(list);
        let patience = if fetch.again { Duration::ZERO } else { self.limits.list_patience };
        match timeout(patience.saturating_sub(fetch.since.elapsed()), fetch.answer).await {
            Ok(Ok(Ok(items))) => Ok(items),
            Ok(fetched) => last.or(fetched.unwrap_or(Err(Fault::Down))),
            // The fetch continues, and clients are notified when it has ended.
            Err(_) => last,
        }
    }

    /// Returns a list that is fresh enough to base decisions on: not older than `list_fresh`, and
    /// not reported as changed.
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

    /// Returns whether a tool declares that it only reads. `None` means that there is no such tool.
    pub(crate) async fn reads_only(self: &Arc<Self>, name: &str) -> Result<Option<bool>, Fault> {
        let items = self.fresh(List::Tools).await?;
        Ok(items.items.iter().find(|item| item.key == name).map(|item| item.reads_only))
    }

    /// Returns a tool's schema, if the tool wants some of its parameters as headers.
    pub(crate) async fn schema(self: &Arc<Self>, name: &str) -> Option<serde_json::Value> {
        let items = self.list(List::Tools).await.ok()?;
        items.items.iter().find(|item| item.key == name)?.mirrored.clone()
    }

    /// Like [`Upstream::schema`], but only from a list that is already known, so that a call does
    /// not wait.
    pub(crate) fn mirrored(&self, name: &str) -> Option<serde_json::Value> {
        let lists = self.catalogue.lists.lock();
        let known = lists.get(&List::Tools)?;
        known.items.items.iter().find(|item| item.key == name)?.mirrored.clone()
    }

    /// Handles a change reported by the upstream, directly or through one of its sessions. Clients
    /// are told after the list was fetched, so that their next request sees the change.
    pub(crate) fn heard(self: &Arc<Self>, notification: &str) {
        for list in ALL.into_iter().filter(|list| list.notification() == notification) {
            let known = self.catalogue.lists.lock().get_mut(&list).map(|known| known.said_changed = true);
            // A list that was never fetched is not fetched now. A fetch in progress may predate the
            // change.
            if let Some(fetch) = self.catalogue.fetches.lock().get_mut(&list) {
                fetch.overtaken.store(true, Ordering::Relaxed);
            } else if known.is_none() {
                continue;
            }
            drop(self.fetch(list));
        }
    }

    /// Fetches all known lists again.
    pub(crate) fn fetch_known(self: &Arc<Self>) {
        let known: Vec<List> = self.catalogue.lists.lock().keys().copied().collect();
        for list in known {
            drop(self.fetch(list));
        }
    }
}

/// Returns whether a URI matches a template (RFC 6570) closely enough for routing: the template's
/// literal parts occur in order.
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
