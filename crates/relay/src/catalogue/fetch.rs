//! Fetching a list from its upstream: all its pages, over the catalogue's own link.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::{Failure, Fetch, Items, Known, List, Listed, MAX_ITEMS};
use crate::clock;
use crate::envelope::{self, METHOD_NOT_FOUND, Message, RawObject, raw};
use crate::era::{self, Era};
use crate::upstream::{Fault, Link, Upstream};
use crate::watch::watch;

impl Upstream {
    /// Fetches a list in its own task. Concurrent callers share the fetch.
    pub(super) fn fetch(self: &Arc<Self>, list: List) -> Fetch {
        let mut fetches = self.catalogue.fetches.lock();
        if let Some(fetch) = fetches.get(&list) {
            return fetch.clone();
        }
        let (answer, received) = oneshot::channel();
        let again = self.catalogue.failed.lock().contains_key(&list);
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
            // A change was reported during the fetch. The result may predate it, so the list is
            // fetched again.
            if overtaken.load(Ordering::Relaxed) {
                if let Some(known) = upstream.catalogue.lists.lock().get_mut(&list) {
                    known.said_changed = true;
                }
                drop(upstream.fetch(list));
            }
            // Both sends may fail harmlessly: there may be no waiter and no listener.
            let _ = answer.send(fetched);
            if changed {
                let _ = upstream.catalogue.changes.send(list);
            }
        });
        fetch
    }

    /// Stores the result of a fetch. Returns whether the list changed. After a failed fetch the
    /// last good list stays in place.
    fn keep(&self, list: List, fetched: &Result<Items, Fault>) -> bool {
        match fetched {
            Ok(items) => {
                if self.catalogue.failed.lock().remove(&list).is_some() {
                    tracing::info!(upstream = %self.name, list = list.method(), "the list could be fetched again");
                }
                let mut lists = self.catalogue.lists.lock();
                let (at, fetched_at) = (Instant::now(), clock::now());
                let known = Known { at, fetched_at, items: Arc::clone(items), said_changed: false };
                let before = lists.insert(list, known);
                self.report(list, before.as_ref(), items);
                let same = |before: &Known| {
                    let (before, after) = (&before.items.items, &items.items);
                    before.len() == after.len()
                        && before.iter().zip(after).all(|(a, b)| a.raw.get() == b.raw.get())
                };
                // The first list is a change only for clients that have asked for it in vain.
                let owed = self.catalogue.owed.lock().remove(&list);
                before.as_ref().map_or(owed, |before| before.said_changed || !same(before))
            }
            Err(fault) => {
                self.note(Some(*fault));
                let mut failed = self.catalogue.failed.lock();
                let before = failed.get(&list).copied();
                if before.is_none_or(|before| before.fault != *fault) {
                    let reason = fault.message(self.name.as_str());
                    tracing::warn!(
                        upstream = %self.name, list = list.method(), fault = fault.outcome(), reason,
                        "the list could not be fetched; the last good one is served"
                    );
                }
                let since = before.map_or_else(clock::now, |before| before.since);
                failed.insert(list, Failure { fault: *fault, since });
                false
            }
        }
    }

    /// Logs the new mistakes of a list.
    fn report(&self, list: List, before: Option<&Known>, items: &Items) {
        for flaw in &items.flaws {
            if before.is_some_and(|before| before.items.flaws.contains(flaw)) {
                continue;
            }
            let key = flaw.key.as_deref().unwrap_or("(no name)");
            let done = if flaw.is_left_out { "left out" } else { "corrected" };
            tracing::warn!(
                upstream = %self.name, list = list.method(), key, mistake = flaw.mistake, done,
                "an element of the list is not as MCP has it"
            );
        }
    }

    async fn fetched(self: &Arc<Self>, list: List) -> Result<Items, Fault> {
        let link = self.catalogue_link().await?;
        match self.pages(&link, list).await {
            Err(fault) if self.is_over(&link, fault) => {
                let mut slot = self.catalogue.link.lock().await;
                if slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, &link)) {
                    *slot = None;
                }
                drop(slot);
                if link.era == Era::Session && !self.is_stdio() {
                    // The server may still know the session and would otherwise keep it for
                    // nothing.
                    tokio::spawn(async move { link.close().await });
                }
                let link = self.catalogue_link().await?;
                Ok(Arc::new(self.pages(&link, list).await?))
            }
            pages => Ok(Arc::new(pages?)),
        }
    }

    /// Returns whether a new link is needed. A restarted server no longer knows its sessions. It
    /// answers 404 as specified, or 400, or a list with an error.
    fn is_over(&self, link: &Link, fault: Fault) -> bool {
        match fault {
            Fault::SessionGone | Fault::Down => true,
            Fault::ListError | Fault::Refused(StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) => {
                link.era == Era::Session && !self.is_stdio()
            }
            _ => false,
        }
    }

    /// Returns the catalogue's own link. It is opened on first use and watched for reported
    /// changes.
    async fn catalogue_link(self: &Arc<Self>) -> Result<Arc<Link>, Fault> {
        let mut slot = self.catalogue.link.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.is_alive()) {
            return Ok(Arc::clone(link));
        }
        let own = crate::upstream::own_initialize();
        // Most commands speak the session era. Probing such a command for the stateless era may
        // cost a restart of its process.
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

    async fn pages(&self, link: &Arc<Link>, list: List) -> Result<Listed, Fault> {
        let (mut listed, mut bytes) = (Listed::default(), 0);
        if !link.can(list.capability()) {
            return Ok(listed);
        }
        let mut cursors: HashSet<String> = HashSet::new();
        let mut cursor: Option<String> = None;
        for page in 0.. {
            if page >= self.limits.pages {
                return Err(Fault::TooLarge);
            }
            let mut params = RawObject::default();
            if let Some(cursor) = &cursor {
                params.set("cursor", raw(cursor));
            }
            let response = own(link, list.method(), params).await?;
            let Some(result) = response.result() else {
                // A server that offers resources need not offer templates. Any other error says
                // nothing about the list's elements.
                let is_unknown = page == 0 && response.error_code() == Some(METHOD_NOT_FOUND);
                return if is_unknown { Ok(listed) } else { Err(Fault::ListError) };
            };
            let result = RawObject::parse(result).map_err(|_| Fault::Garbage)?;
            let elements = result.get(list.member()).ok_or(Fault::Garbage)?;
            bytes += elements.get().len();
            let elements: Vec<&RawValue> =
                serde_json::from_str(elements.get()).map_err(|_| Fault::Garbage)?;
            if bytes > self.limits.answer || listed.items.len() + elements.len() > MAX_ITEMS {
                return Err(Fault::TooLarge);
            }
            elements.into_iter().for_each(|element| listed.add(list, element));
            cursor = result.str("nextCursor");
            match &cursor {
                Some(next) if cursors.insert(next.clone()) => {}
                Some(_) => {
                    tracing::warn!(
                        upstream = %self.name, list = list.method(),
                        "the list repeats a cursor; it ends there"
                    );
                    break;
                }
                None => break,
            }
        }
        Ok(listed)
    }
}

/// Sends a request of the relay's own.
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
        // Some errors have an HTTP status of their own; an unknown method is one of them.
        Ok(response) if !status.is_success() && response.error_code() != Some(METHOD_NOT_FOUND) => {
            Err(Fault::Refused(status))
        }
        response => response,
    }
}
