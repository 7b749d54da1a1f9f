//! Subscriptions of clients to changes: the stateless era's `subscriptions/listen` for upstreams of
//! either era, and a session's `resources/subscribe` for stateless upstreams.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::catalogue::List;
use crate::context::Context;
use crate::envelope::{self, INVALID_PARAMS, Message, RawObject, raw};
use crate::era::{self, Era, META_SUBSCRIPTION, Sender};
use crate::outlet::Outlet;
use crate::registry::Entry;
use crate::reply::{self, Reply};
use crate::routes::owner;
use crate::session::{Session, Subscribed};
use crate::upstream::{Fault, Link, Upstream};
use crate::{sse, translate};

/// The first message of a subscription.
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const UPDATED: &str = "notifications/resources/updated";
/// Maximum number of resources in one subscription.
const MAX_RESOURCES: usize = 1000;
/// Maximum length of a subscribed resource's URI, in bytes.
pub(crate) const MAX_URI: usize = 4096;
/// Maximum total size of the URIs of one subscription, in bytes: 256 each for 1,000 resources. A
/// token with 64 sessions therefore holds at most 16 MiB.
const MAX_URI_BYTES: usize = 256 * 1024;
/// Number of notifications that are queued for a slow client. Beyond it, the senders wait.
const WAITING: usize = 64;

/// The changes that a client asks to be told of.
struct Filter {
    lists: Vec<List>,
    resources: BTreeSet<String>,
}

impl Filter {
    fn read(message: &Message) -> Option<Self> {
        let asked = RawObject::parse(message.param("notifications")?).ok()?;
        let wants = |name: &str| asked.get(name).is_some_and(|value| value.get() == "true");
        let mut lists = Vec::new();
        for (name, list) in [
            ("toolsListChanged", List::Tools),
            ("promptsListChanged", List::Prompts),
            ("resourcesListChanged", List::Resources),
        ] {
            if wants(name) {
                lists.push(list);
            }
        }
        let resources = match asked.get("resourceSubscriptions") {
            Some(uris) => serde_json::from_str(uris.get()).ok()?,
            None => BTreeSet::new(),
        };
        has_room_for(&resources, None).then_some(Self { lists, resources })
    }

    fn acknowledged(&self, honoured: &BTreeSet<String>) -> RawObject {
        let mut filter = RawObject::default();
        for list in &self.lists {
            let name = match list {
                List::Tools => "toolsListChanged",
                List::Prompts => "promptsListChanged",
                List::Resources | List::Templates => "resourcesListChanged",
            };
            filter.set(name, raw(&true));
        }
        if !honoured.is_empty() {
            filter.set("resourceSubscriptions", raw(honoured));
        }
        let mut params = RawObject::default();
        params.set("notifications", filter.to_raw());
        params
    }
}

/// Returns whether these resources, and optionally one more, fit into one subscription.
fn has_room_for(uris: &BTreeSet<String>, more: Option<&str>) -> bool {
    let all = || uris.iter().map(String::as_str).chain(more);
    all().count() <= MAX_RESOURCES
        && all().all(|uri| uri.len() <= MAX_URI)
        && all().map(str::len).sum::<usize>() <= MAX_URI_BYTES
}

/// Handles `subscriptions/listen`: one long response that ends with its client, its token or the
/// relay.
pub(crate) async fn listen(context: &Context, sender: &Sender, entry: Entry, message: &Message) -> Reply {
    let Some(filter) = Filter::read(message) else {
        let why = "`params.notifications` must be an object; `resourceSubscriptions` in it a list of at most 1000 URIs of at most 4096 bytes, 262144 in all";
        return reply::json(http::StatusCode::OK, envelope::error(message.id(), INVALID_PARAMS, why));
    };
    let (outlet, waiting) = Outlet::new(context.gone.clone());
    let id = message.id().to_owned();
    let listening = Listening { context: context.clone(), sender: sender.clone(), filter, id };
    context.relay.0.tasks.spawn(listening.run(outlet, entry));
    waiting.reply(|| reply::ended(message.id())).await
}

struct Listening {
    context: Context,
    sender: Sender,
    filter: Filter,
    /// The request's id, which is also the subscription's id.
    id: String,
}

impl Listening {
    async fn run(self, mut outlet: Outlet, entry: Entry) {
        let (cut, gone) = (entry.cancel.clone(), outlet.gone.clone());
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        let ended = tokio::select! {
            biased;
            () = cut.cancelled() => true,
            () = gone.cancelled() => false,
            () = self.carry(&mut outlet, &stop) => false,
        };
        if ended {
            let (answer, error) = reply::cut(&self.context.principal, &self.id);
            outlet.end(answer, &error);
        }
    }

    async fn carry(&self, outlet: &mut Outlet, stop: &CancellationToken) {
        outlet.begin();
        let (sender, mut changes) = mpsc::channel::<(String, RawObject)>(WAITING);
        let mut honoured = BTreeSet::new();
        let mut by_upstream: HashMap<String, (Arc<Upstream>, BTreeSet<String>)> = HashMap::new();
        for uri in &self.filter.resources {
            if let Some(upstream) = owner(&self.context, uri).await {
                let group = by_upstream.entry(upstream.name.to_string());
                group.or_insert_with(|| (upstream, BTreeSet::new())).1.insert(uri.clone());
            }
        }
        for (upstream, uris) in by_upstream.into_values() {
            let Ok(link) = self.context.stateless_link(&upstream, &self.sender).await else { continue };
            if follow(link, uris.clone(), sender.clone(), stop.clone()).await.is_ok() {
                honoured.extend(uris);
            }
        }
        let acknowledged = self.filter.acknowledged(&honoured);
        let text = translate::subscribed(ACKNOWLEDGED, acknowledged, &self.id);
        // Begins to listen before the client is told so, to not miss a change that the client
        // causes right afterwards.
        for upstream in self.context.touched() {
            let changed = upstream.catalogue.changes();
            know(&upstream, &self.filter.lists);
            tokio::spawn(lists_changed(changed, self.filter.lists.clone(), sender.clone(), stop.clone()));
        }
        outlet.message(&text).await;
        // Keeps the channel open, so that an empty subscription stays open like any other.
        let _keep = sender;
        let every = self.context.relay.0.limits.keep_alive;
        loop {
            tokio::select! {
                change = changes.recv() => {
                    let Some((method, params)) = change else { return };
                    outlet.message(&translate::subscribed(&method, params, &self.id)).await;
                }
                () = tokio::time::sleep(every) => outlet.keep_alive().await,
            }
        }
    }
}

/// Fetches the lists that are not known yet, because changes are noticed only in known lists.
fn know(upstream: &Arc<Upstream>, lists: &[List]) {
    for list in lists {
        let (upstream, list) = (Arc::clone(upstream), *list);
        tokio::spawn(async move {
            let _ = upstream.list(list).await;
        });
    }
}

async fn lists_changed(
    mut changed: broadcast::Receiver<List>,
    wanted: Vec<List>,
    sender: mpsc::Sender<(String, RawObject)>,
    stop: CancellationToken,
) {
    loop {
        let changed = tokio::select! {
            changed = changed.recv() => changed,
            () = stop.cancelled() => return,
        };
        let lists = match changed {
            Ok(list) => vec![list],
            Err(broadcast::error::RecvError::Lagged(_)) => wanted.clone(),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for list in lists {
            let heard = wanted.iter().any(|wanted| wanted.notification() == list.notification());
            if heard && sender.send((list.notification().to_owned(), RawObject::default())).await.is_err() {
                return;
            }
        }
    }
}

/// Follows updates of an upstream's resources until stopped. Returns once it has begun.
async fn follow(
    link: Arc<Link>,
    uris: BTreeSet<String>,
    sender: mpsc::Sender<(String, RawObject)>,
    stop: CancellationToken,
) -> Result<(), Fault> {
    match link.era {
        Era::Stateless => {
            let mut params = RawObject::default();
            params.set("notifications", raw(&serde_json::json!({ "resourceSubscriptions": uris })));
            let body = crate::upstream::own_request("subscriptions/listen", params);
            let message = Message::parse(body).map_err(|_| Fault::Garbage)?;
            let headers = era::headers_for(&message, None)?;
            let mut exchange = link.request(message.into_text(), headers).await?;
            let stopped = stop.clone();
            let (begin, begun) = oneshot::channel();
            tokio::spawn(async move {
                let mut begin = Some(begin);
                loop {
                    let event = tokio::select! {
                        event = exchange.next() => event,
                        () = stopped.cancelled() => return,
                    };
                    let Ok(Some(event)) = event else { return };
                    let Some(message) = event.message else { continue };
                    if let Some(begin) = begin.take_if(|_| message.method() == ACKNOWLEDGED) {
                        // The caller may have gone on without it.
                        let _ = begin.send(());
                    }
                    if !pass(&message, &uris, &sender).await {
                        return;
                    }
                }
            });
            // A change that the client causes next must not come before the subscription.
            let _ = timeout(link.upstream.limits.list_patience, begun).await;
        }
        Era::Session => {
            let mut said = link.listen().await?;
            for uri in &uris {
                link.subscribe(uri).await?;
            }
            tokio::spawn(async move {
                loop {
                    let message = tokio::select! {
                        message = said.next() => message,
                        () = stop.cancelled() => break,
                    };
                    let Some(message) = message else { break };
                    let Some(message) = message else { continue };
                    if !pass(&message, &uris, &sender).await {
                        break;
                    }
                }
                for uri in &uris {
                    let _ = link.unsubscribe(uri).await;
                }
            });
        }
    }
    Ok(())
}

/// Forwards an update if it concerns one of these resources. Returns whether the receiver still
/// listens.
async fn pass(
    message: &Message,
    uris: &BTreeSet<String>,
    sender: &mpsc::Sender<(String, RawObject)>,
) -> bool {
    let theirs =
        message.method() == UPDATED && message.param_str("uri").is_some_and(|uri| uris.contains(&uri));
    if !theirs {
        return !sender.is_closed();
    }
    let mut params = message.params();
    if let Some(mut meta) = params.object("_meta") {
        meta.remove(META_SUBSCRIPTION);
        params.set("_meta", meta.to_raw());
    }
    sender.send((UPDATED.to_owned(), params)).await.is_ok()
}

/// Handles `resources/subscribe` and `resources/unsubscribe` of a session whose link cannot accept
/// them directly. The relay listens on behalf of the session and reports updates on its stream.
pub(crate) async fn for_session(
    context: &Context,
    session: &Arc<Session>,
    link: &Arc<Link>,
    uri: String,
    subscribes: bool,
) -> Result<(), Fault> {
    let name = link.upstream.name.to_string();
    if link.era == Era::Session {
        // The token's sessions share the process. Each session receives all its updates and
        // forwards those that its client subscribed to.
        let changed = {
            let mut all = session.subscribed.lock();
            let subscribed = all.entry(name.clone()).or_default();
            if subscribes { subscribed.add(&uri)? } else { subscribed.uris.remove(&uri) }
        };
        return match (changed, subscribes) {
            (false, _) => Ok(()),
            (true, true) => {
                let asked = link.subscribe(&uri).await;
                if asked.is_err()
                    && let Some(subscribed) = session.subscribed.lock().get_mut(&name)
                {
                    subscribed.uris.remove(&uri);
                }
                asked
            }
            (true, false) => link.unsubscribe(&uri).await,
        };
    }
    // The stateless era has one subscription for all resources, so it is replaced by a new one.
    let (uris, stop) = {
        let mut all = session.subscribed.lock();
        let subscribed = all.entry(name).or_default();
        let changed = if subscribes { subscribed.add(&uri)? } else { subscribed.uris.remove(&uri) };
        if !changed {
            return Ok(());
        }
        subscribed.listening.cancel();
        subscribed.listening = CancellationToken::new();
        (subscribed.uris.clone(), subscribed.listening.clone())
    };
    if uris.is_empty() {
        return Ok(());
    }
    let (sender, mut changes) = mpsc::channel::<(String, RawObject)>(WAITING);
    follow(Arc::clone(link), uris, sender, stop.clone()).await?;
    let (session, cut) = (Arc::clone(session), session.entry.cancel.clone());
    context.relay.0.tasks.spawn(async move {
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = stop.cancelled() => return,
                () = cut.cancelled() => break,
            };
            let Some((method, params)) = change else { return };
            session.tell(&envelope::notification(&method, params.to_raw().get())).await;
        }
        stop.cancel();
    });
    Ok(())
}

impl Subscribed {
    /// Adds a resource. Returns whether it is new, or an error if the limits leave no room.
    fn add(&mut self, uri: &str) -> Result<bool, Fault> {
        if self.uris.contains(uri) {
            return Ok(false);
        }
        if !has_room_for(&self.uris, Some(uri)) {
            return Err(Fault::Subscribed);
        }
        Ok(self.uris.insert(uri.to_owned()))
    }
}

/// Announces changes of lists on a session's stream until the stream ends.
pub(crate) fn tell_changes(context: &Context, frames: &mpsc::Sender<Bytes>) {
    for upstream in context.touched() {
        let mut changed = upstream.catalogue.changes();
        know(&upstream, &[List::Tools, List::Prompts, List::Resources]);
        let frames = frames.clone();
        tokio::spawn(async move {
            loop {
                let changed = tokio::select! {
                    changed = changed.recv() => changed,
                    () = frames.closed() => return,
                };
                let list = match changed {
                    Ok(List::Templates) => List::Resources,
                    Ok(list) => list,
                    Err(broadcast::error::RecvError::Lagged(_)) => List::Tools,
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                let text = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, list.notification());
                if frames.send(sse::event(&text)).await.is_err() {
                    return;
                }
            }
        });
    }
}
