//! Watches upstreams for changes of their lists.

use std::sync::{Arc, Weak};

use crate::envelope::{Message, RawObject, raw};
use crate::era::{self, Era};
use crate::upstream::{Fault, Link, Pauses, Upstream};

/// Handles the changes that the upstream reports, as long as the catalogue uses the link.
pub(crate) async fn watch(upstream: Weak<Upstream>, link: Arc<Link>) {
    if link.era == Era::Session {
        let Ok(mut said) = link.listen().await else { return };
        while let (Some(message), Some(upstream)) = (said.next().await, upstream.upgrade()) {
            match message {
                Some(message) => upstream.heard(message.method()),
                None => upstream.fetch_known(),
            }
        }
        return;
    }
    let mut pauses = Pauses::new();
    while listened(&upstream, &link).await.is_ok() {
        pauses.wait().await;
        let Some(upstream) = upstream.upgrade() else { return };
        if !upstream.catalogue.uses(&link).await || !link.is_alive() {
            return;
        }
        // Changes between two subscriptions were missed, so everything is fetched again.
        upstream.fetch_known();
    }
}

/// Moves the catalogue to a command's new stateless process, if it used another process until now.
/// All clients use the new process, so its lists are the ones that they see. It also saves a
/// process.
pub(crate) async fn move_to(upstream: Arc<Upstream>, link: Arc<Link>) {
    let before = {
        let mut slot = upstream.catalogue.link.lock().await;
        // The catalogue never fetched anything, or already uses this process.
        if slot.as_ref().is_none_or(|held| held.era == Era::Stateless && held.is_alive()) {
            return;
        }
        slot.replace(Arc::clone(&link))
    };
    tokio::spawn(watch(Arc::downgrade(&upstream), link));
    upstream.fetch_known();
    if let Some(before) = before {
        before.close().await;
    }
}

/// Runs one subscription of the stateless era until it ends. Returns `Err` if the upstream offers
/// none.
async fn listened(upstream: &Weak<Upstream>, link: &Link) -> Result<(), Fault> {
    let mut params = RawObject::default();
    params.set(
        "notifications",
        raw(&serde_json::json!({
            "toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true,
        })),
    );
    let body = crate::upstream::own_request("subscriptions/listen", params);
    let message = Message::parse(body).map_err(|_| Fault::Garbage)?;
    let headers = era::headers_for(&message, None)?;
    let mut exchange = match link.request(message.into_text(), headers).await {
        Err(Fault::Down | Fault::Slow) => return Ok(()),
        exchange => exchange?,
    };
    while let (Ok(Some(event)), Some(upstream)) = (exchange.next().await, upstream.upgrade()) {
        match event.message {
            // The upstream does not have this method.
            Some(message) if message.error().is_some() => return Err(Fault::Rejected),
            Some(message) if !message.is_response() => upstream.heard(message.method()),
            _ => {}
        }
    }
    Ok(())
}
