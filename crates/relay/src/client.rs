//! The client that a call is made for.

use std::sync::Arc;

use crate::era::Sender;
use crate::session::Session;
use crate::upstream::{Asker, next_asker};

pub(crate) enum Client {
    Session(Arc<Session>),
    Stateless(Sender),
}

impl Client {
    /// Returns the number that an upstream's questions are attributed by. Each call of a stateless
    /// client is a conversation of its own.
    pub(crate) fn asker(&self) -> Asker {
        match self {
            Self::Session(session) => session.number,
            Self::Stateless(_) => next_asker(),
        }
    }
}
