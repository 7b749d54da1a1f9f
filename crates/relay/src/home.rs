//! Where a session lives. Of several nodes, one has a session's links, children, streams and open questions: the one that began it, whose address its
//! id names, sealed. So does the state of a call that waits for input.
//!
//! A request that comes to another node is answered with [`Elsewhere`]: whoever serves the relay carries it to that node, as it came. The relay
//! cannot, for it never sees a token. Where that node is gone the request is served [`Here`]: the id says all that is needed to begin
//! the session anew.

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

/// In an answer's extensions: the request has not been looked at, and belongs to another node.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// Where that node is reached.
    pub home: Url,
    /// The request's body.
    pub body: Bytes,
}

impl Elsewhere {
    /// What is answered when that node went away with the request.
    pub fn unsure(&self) -> Reply {
        let message =
            std::str::from_utf8(&self.body).ok().and_then(|body| Message::parse(body.to_owned()).ok());
        let id = message.as_ref().filter(|message| message.is_request()).map_or("null", Message::id);
        let why = "the node that the session lives on went away; whether it did what was asked is not known";
        reply::json(StatusCode::BAD_GATEWAY, envelope::error(id, INTERNAL, why))
    }
}

/// In a request's extensions: it is served here, wherever its session lives.
#[derive(Debug, Clone, Copy)]
pub struct Here;

/// What is answered in place of an answer.
pub(crate) fn elsewhere(home: Url, body: &str) -> Reply {
    let mut reply = reply::refused(StatusCode::MISDIRECTED_REQUEST, "the session lives on another node");
    reply.extensions_mut().insert(Elsewhere { home, body: Bytes::copy_from_slice(body.as_bytes()) });
    reply
}

impl Relay {
    /// The node that a session of this token's lives on, if that is another one.
    pub(crate) fn home_of_session(&self, context: &Context, id: &str) -> Option<Url> {
        self.others(context, || match self.known(context, id) {
            Some(session) => session.home.clone(),
            None => Sealed::open(&self.0.sealer, id, context.pat_id, context.only_name())?.home,
        })
    }

    /// The node on which a call waits for this retry, if that is another one.
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

/// What the state of a call that waits for input says, sealed.
pub(crate) struct Waiting<'a> {
    pub(crate) number: Uuid,
    /// The address of the node that it waits on; empty where there is only one.
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
