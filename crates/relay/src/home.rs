//! The home of a session. With several nodes, each session lives on one of them, the node that
//! began it. That node holds the session's links, child processes, streams and open questions, and
//! the session id names the node's address in sealed form. The same is true of the state of a call
//! that waits for input.
//!
//! A request that arrives at another node is answered with [`Elsewhere`]. The server around the
//! relay then forwards the request unchanged to the home node. The relay cannot do so itself,
//! because it never sees a token. If the home node is gone, the request is served [`Here`]: the
//! session id contains all that is needed to begin the session again.

use bytes::Bytes;
use http::StatusCode;
use url::Url;
use uuid::Uuid;

use crate::context::Context;
use crate::envelope::{self, INTERNAL, Message};
use crate::relay::Relay;
use crate::reply::{self, Reply};
use crate::seal::Purpose;
use crate::session::Sealed;

/// Marker in a response's extensions: the request was not processed and belongs to another node.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// The URL of that node.
    pub home: Url,
    /// The body of the request.
    pub body: Bytes,
}

impl Elsewhere {
    /// Returns the response for a request that was forwarded to a node which then failed.
    pub fn unsure(&self) -> Reply {
        let message =
            std::str::from_utf8(&self.body).ok().and_then(|body| Message::parse(body.to_owned()).ok());
        let id = message.as_ref().filter(|message| message.is_request()).map_or("null", Message::id);
        let why = "the node of this session is gone; the request may or may not have been carried out";
        reply::json(StatusCode::BAD_GATEWAY, envelope::error(id, INTERNAL, why))
    }
}

/// Marker in a request's extensions: serve the request on this node even if its session lives on
/// another.
#[derive(Debug, Clone, Copy)]
pub struct Here;

/// Builds the response that refers a request to another node.
pub(crate) fn elsewhere(home: Url, body: &str) -> Reply {
    let mut reply = reply::refused(StatusCode::MISDIRECTED_REQUEST, "the session lives on another node");
    reply.extensions_mut().insert(Elsewhere { home, body: Bytes::copy_from_slice(body.as_bytes()) });
    reply
}

impl Relay {
    /// Returns the node on which a session of this token lives, if it is another node.
    pub(crate) fn home_of_session(&self, context: &Context, id: &str) -> Option<Url> {
        self.others(context, || match self.known(context, id) {
            Some(session) => session.home.clone(),
            None => Sealed::open(&self.0.sealer, id, context.pat_id, context.only_name())?.home,
        })
    }

    /// Returns the node on which a call waits for this retry, if it is another node.
    pub(crate) fn home_of_retry(&self, context: &Context, retry: &Message) -> Option<Url> {
        self.others(context, || {
            let state = self.0.sealer.open(Purpose::Request, &retry.param_str("requestState")?)?;
            Url::parse(Waiting::read(&state)?.home).ok()
        })
    }

    fn others(&self, context: &Context, home: impl FnOnce() -> Option<Url>) -> Option<Url> {
        let own = self.0.home.as_ref().filter(|_| !context.here)?;
        home().filter(|home| home != own)
    }
}

/// The sealed state of a call that waits for input.
pub(crate) struct Waiting<'a> {
    pub(crate) number: Uuid,
    /// The URL of the node that holds the call. Empty if there is only one node.
    home: &'a str,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(number: Uuid, home: Option<&'a Url>) -> Self {
        Self { number, home: home.map_or("", Url::as_str) }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        [self.number.as_bytes(), self.home.as_bytes()].concat()
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (number, home) = bytes.split_first_chunk()?;
        Some(Self { number: Uuid::from_bytes(*number), home: std::str::from_utf8(home).ok()? })
    }
}
