//! The other nodes. A request for a session that lives on another one is carried there as it came,
//! with its credential, and the answer is carried back as it comes. That node judges the request as
//! if it had come there first. One thing is taken on trust between nodes: the client's address,
//! which the node that carries has seen and the other has not ([`carried`]).

mod carried;

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use trustrelay_relay::{Elsewhere, Here};
use url::Url;

use crate::client::{Client, X_FORWARDED_FOR};
use crate::envelope::REQUEST_ID;
use crate::nodes::carried::{CARRIED, Opened, Seal};
use crate::state::AppState;

/// Of one connection, not of the request or the answer (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 5] =
    [CONNECTION, HeaderName::from_static("keep-alive"), TE, TRANSFER_ENCODING, UPGRADE];
/// Time for connecting to another node: one that is there answers in a millisecond.
const CONNECT: Duration = Duration::from_secs(2);
/// How long another node may be silent before it is asked whether it is alive, and how long it has
/// for saying so.
const SILENCE: Duration = Duration::from_secs(5);
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// The way to the other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Nodes {
    client: reqwest::Client,
    seal: Seal,
    stopping: CancellationToken,
}

/// A request as it came, before its credential was taken out.
pub(crate) struct Asked {
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
}

/// Why there is no answer from another node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It has not got the request.
    Unreached,
    /// It may have got it, and may have done what it asks for.
    Unsure,
}

impl Nodes {
    /// `keys`: what all nodes derive from their secrets for this, and nobody else has; the active
    /// secret's first.
    ///
    /// # Errors
    /// If the system's certificates cannot be read.
    pub fn new(keys: &[[u8; 32]]) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .tcp_nodelay(true)
            .tcp_keepalive(SILENCE)
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, seal: Seal::new(keys), stopping: CancellationToken::new() })
    }

    /// Ends the streams of sessions that are carried, which would not end by themselves.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Carries a request to its session's node.
    pub(crate) async fn carry(
        &self,
        asked: &Asked,
        client: &Client,
        now: Timestamp,
        to: &Elsewhere,
    ) -> Result<Response, Lost> {
        let mut headers = asked.headers.clone();
        // What proxies have said of the client has been read here, and is said in one word.
        for name in HOP_BY_HOP.iter().chain([&HOST, &CONTENT_LENGTH, &COOKIE, &X_FORWARDED_FOR, &FORWARDED]) {
            headers.remove(name);
        }
        headers.insert(CARRIED, self.seal.seal(client, now, &headers));
        let mut url = to.home.clone();
        url.set_path(asked.path.path());
        url.set_query(asked.path.query());
        let request = self.client.request(asked.method.clone(), url).headers(headers).body(to.body.clone());
        let sent = request.send();
        tokio::pin!(sent);
        let answer = loop {
            tokio::select! {
                answer = &mut sent => break answer,
                () = sleep(SILENCE) => if !self.is_alive(&to.home).await { return Err(Lost::Unsure) },
            }
        };
        match answer {
            Ok(answer) => Ok(self.carried_back(asked, to, answer)),
            // What only asks, or is as well done twice, can be asked again.
            Err(error) if error.is_connect() || asked.method != Method::POST => Err(Lost::Unreached),
            Err(_) => Err(Lost::Unsure),
        }
    }

    fn carried_back(&self, asked: &Asked, to: &Elsewhere, mut answer: reqwest::Response) -> Response {
        let (status, mut headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        // Who listens to a session listens until somebody ends it; all else ends by itself.
        let stopping =
            if asked.method == Method::GET { self.stopping.clone() } else { CancellationToken::new() };
        let from = (self.clone(), to.home.clone(), answer, stopping);
        let body =
            Body::from_stream(stream::try_unfold(from, |(nodes, home, mut answer, stopping)| async move {
                let chunk = tokio::select! {
                    chunk = nodes.next(&home, &mut answer) => chunk?,
                    () = stopping.cancelled() => None,
                };
                Ok::<_, Broken>(chunk.map(|chunk| (chunk, (nodes, home, answer, stopping))))
            }));
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// The next piece of an answer. A node that is stopped says nothing, and is not waited for.
    async fn next(&self, home: &Url, answer: &mut reqwest::Response) -> Result<Option<Bytes>, Broken> {
        let piece = answer.chunk();
        tokio::pin!(piece);
        loop {
            tokio::select! {
                piece = &mut piece => return piece.map_err(|_| Broken),
                () = sleep(SILENCE) => if !self.is_alive(home).await { return Err(Broken) },
            }
        }
    }

    async fn is_alive(&self, home: &Url) -> bool {
        let Ok(url) = home.join("/healthz") else { return false };
        let asked = timeout(SIGN_OF_LIFE, self.client.get(url).send()).await;
        asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status().is_success()))
    }
}

/// The node went away in the middle of its answer.
#[derive(Debug, thiserror::Error)]
#[error("the node of the session is gone")]
struct Broken;

impl Asked {
    /// `id`: what the request is called in the log of either node.
    pub(crate) fn of(request: &Request, id: &HeaderValue) -> Self {
        let mut headers = request.headers().clone();
        headers.insert(REQUEST_ID, id.clone());
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Self { method: request.method().clone(), path, headers }
    }

    /// The request for this node after all.
    pub(crate) fn here(self, body: Bytes) -> Request {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        for secret in [AUTHORIZATION, COOKIE] {
            request.headers_mut().remove(secret);
        }
        request.extensions_mut().insert(Here);
        request
    }
}

/// Whom a request was carried here for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CarriedFor(pub(crate) Client);

/// A node carried the request here, and its time and this node's are too far apart for it to be
/// believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClocksApart;

/// Has a request that was carried here served here, for whom the node says that carried it. Anybody
/// may say that a request was carried: it saves a way, and opens nothing.
pub(crate) fn keep_if_carried(state: &AppState, request: &mut Request) {
    if !request.headers().contains_key(CARRIED) {
        return;
    }
    request.extensions_mut().insert(Here);
    let now = state.authority.shared_now();
    match state.config.nodes.as_ref().and_then(|nodes| nodes.seal.open(now, request.headers())) {
        Some(Opened::Fresh(client)) => {
            request.extensions_mut().insert(CarriedFor(client));
        }
        Some(Opened::Stale { seconds }) => {
            tracing::warn!(
                seconds,
                "the time of a request from another node differs too much from this node's clock"
            );
            request.extensions_mut().insert(ClocksApart);
        }
        None => {}
    }
}
