//! What tokens hold open while a history goes on: calls that never end, and sessions that listen.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Response;

use crate::load::{Kept, PATIENCE, World};
use crate::mcp::{self, Clock};

/// By which way a stream is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call of the tool among all tools.
    Call,
    /// A call on the endpoint of its server alone, where every byte passes.
    CallOfOne,
    /// The stream of a session.
    Listen,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Call, Kind::CallOfOne, Kind::Listen];

/// An open stream, and what came on it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) token: Arc<Kept>,
    pub(crate) node: usize,
    pub(crate) kind: Kind,
    pub(crate) begun: Instant,
    pub(crate) seen: Mutex<Seen>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) events: usize,
    /// How long after the answered loss an event was made that came all the same, and before
    /// anybody asked for what was lost to be given back.
    pub(crate) late: Option<Duration>,
    pub(crate) ended: Option<Instant>,
}

impl Stream {
    pub(crate) fn seen(&self) -> Seen {
        *self.seen.lock().expect("whole")
    }
}

/// Opens a stream, and listens until it ends.
pub(crate) async fn follow(world: Arc<World>, clock: Arc<Clock>, token: Arc<Kept>, node: usize, kind: Kind) {
    let begun = Instant::now();
    let Some(mut answer) = open(&world, &token, node, kind).await else { return };
    if token.is_given_back && token.asked.get().is_some() {
        // Perhaps it was opened after the loss, with what was given back.
        return;
    }
    let stream = Arc::new(Stream { token, node, kind, begun, seen: Mutex::default() });
    world.streams.lock().expect("whole").push(Arc::clone(&stream));
    let mut text = String::new();
    // A node that is killed ends it with an error.
    while let Ok(Some(piece)) = answer.chunk().await {
        text.push_str(&String::from_utf8_lossy(&piece));
        while let Some((event, rest)) = text.split_once("\n\n") {
            if let Some(made) = clock.made(event) {
                let mut seen = stream.seen.lock().expect("whole");
                seen.events += 1;
                if let Some((answered, _)) = stream.token.answered.get()
                    && stream.token.back_asked.get().is_none()
                {
                    let late = made.checked_duration_since(*answered).filter(|late| !late.is_zero());
                    seen.late = seen.late.max(late);
                }
            }
            text = rest.to_owned();
        }
    }
    stream.seen.lock().expect("whole").ended = Some(Instant::now());
}

async fn open(world: &World, token: &Kept, node: usize, kind: Kind) -> Option<Response> {
    let api = world.api_of(node, token);
    let request = match kind {
        Kind::Call => mcp::call(&api, "/mcp", "clock__tick"),
        Kind::CallOfOne => mcp::call(&api, "/mcp/clock", "tick"),
        Kind::Listen => {
            let begun = opened(world, mcp::initialize(&api, "/mcp").timeout(PATIENCE)).await?;
            let session = begun.headers().get("mcp-session-id")?.to_str().ok()?.to_owned();
            mcp::listen(&api, "/mcp", &session)
        }
    };
    // The time-out is for its beginning: it ends when the token does.
    tokio::time::timeout(PATIENCE, opened(world, request)).await.ok()?
}

async fn opened(world: &World, request: reqwest::RequestBuilder) -> Option<Response> {
    let answer = request.send().await.ok()?;
    match answer.status().as_u16() {
        200 => Some(answer),
        // Whoever lost what it needs just now.
        401 | 403 | 404 => None,
        _ if world.is_unsure(&answer) => None,
        other => {
            world.wrong(format!("a stream: {other}"));
            None
        }
    }
}
