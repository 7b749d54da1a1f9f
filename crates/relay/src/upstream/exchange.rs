//! An upstream's answer as it arrives, over either transport.

use ::http::StatusCode;

use super::event::Event;
use super::fault::Fault;
use super::http::HttpAnswer;
use super::stdio::StdioAnswer;
use crate::envelope::Message;

/// An answer that is being received.
pub(crate) enum Exchange {
    Http(HttpAnswer),
    Stdio(StdioAnswer),
}

impl Exchange {
    /// Returns the next event, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Fault> {
        match self {
            Self::Http(answer) => answer.next().await,
            Self::Stdio(answer) => answer.next().await,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Http(answer) => answer.status,
            Self::Stdio(_) => StatusCode::OK,
        }
    }

    /// Returns whether the upstream answers with a stream.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Http(answer) if answer.is_stream)
    }

    /// Ends the exchange after the response, which is the last message.
    pub(crate) fn leave(self) {
        if let Self::Http(answer) = self {
            answer.leave();
        }
    }

    /// Waits for the response to a request of the relay's own, skipping other messages.
    pub(crate) async fn response(&mut self) -> Result<Message, Fault> {
        while let Some(event) = self.next().await? {
            match event.message {
                Some(message) if message.is_response() => return Ok(message),
                None if !self.is_stream() => return Err(Fault::Garbage),
                _ => {}
            }
        }
        Err(Fault::Garbage)
    }
}
