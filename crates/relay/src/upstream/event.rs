//! A message of an upstream's answer.

use bytes::Bytes;

use crate::envelope::Message;

/// A single message of an upstream's answer.
pub(crate) struct Event {
    /// The bytes as received: a stream's complete event, or the JSON.
    pub(crate) frame: Bytes,
    /// `None` for comments, and for data that is not a message.
    pub(crate) message: Option<Message>,
}
