//! Calls that wait for their client's input.

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::envelope::{Message, RawObject};
use crate::outlet::Outlet;
use crate::registry::Entry;

/// A call that waits for its client's input.
pub(crate) struct Parked {
    pub(crate) pat_id: Uuid,
    pub(crate) upstream: String,
    pub(crate) what: String,
    pub(crate) resume: oneshot::Sender<Resumed>,
}

/// A client's retry, with the input.
pub(crate) struct Resumed {
    pub(crate) outlet: Outlet,
    /// The retry's message. Later answers refer to it.
    pub(crate) message: Message,
    pub(crate) responses: RawObject,
    /// The retry's own entry in the registry.
    pub(crate) entry: Entry,
}
