//! A call's request as its upstream wants it.

use http::HeaderMap;

use crate::call::{Call, Client, Conveyance};
use crate::envelope::Message;
use crate::era::{self, Era, VERSION};
use crate::{trace, translate};

impl Call {
    /// The request as the upstream wants it: its text, its headers, and the id that it goes under.
    fn outgoing(&self, message: &Message) -> (String, HeaderMap, String) {
        match (&self.client, self.link.era) {
            _ if self.conveyance == Conveyance::Raw => {
                (message.text().to_owned(), self.headers.clone(), message.id().to_owned())
            }
            (Client::Session(_), Era::Session) => {
                (message.text().to_owned(), HeaderMap::new(), message.id().to_owned())
            }
            (Client::Session(session), Era::Stateless) => {
                let level = session.level.lock().clone();
                let text = translate::request_to_stateless(message, &session.init, level.as_deref());
                self.with_headers(text)
            }
            (Client::Stateless(_), Era::Stateless) => self.with_headers(message.text().to_owned()),
            (Client::Stateless(_), Era::Session) => {
                let id = self.link.fresh_id();
                (translate::request_to_session(message, id), HeaderMap::new(), id.to_string())
            }
        }
    }

    /// The same, with the call's trace: in its body as well, for an upstream that sees no headers or looks there. Where every byte
    /// passes over HTTP, only the headers name it.
    pub(crate) fn traced(&self, message: &Message) -> (String, HeaderMap, String) {
        if self.conveyance == Conveyance::Raw && !self.link.upstream.is_stdio() {
            return self.outgoing(message);
        }
        let mut trace = self.context.trace.clone();
        trace::name_current(&mut trace);
        let traced = trace::in_meta(message, &trace);
        let (text, mut headers, id) = self.outgoing(traced.as_ref().unwrap_or(message));
        headers.extend(trace);
        (text, headers, id)
    }

    fn with_headers(&self, text: String) -> (String, HeaderMap, String) {
        match Message::parse(text) {
            Ok(message) => {
                // The arguments were readable when the call was routed, and are the same.
                let mut headers = era::headers_for(&message, self.mirrored.as_ref()).unwrap_or_default();
                // A version that the upstream alone may know: it says so.
                if let Some(version) = self.headers.get(VERSION) {
                    headers.insert(VERSION, version.clone());
                }
                let id = message.id().to_owned();
                (message.into_text(), headers, id)
            }
            Err(_) => (String::new(), HeaderMap::new(), String::new()),
        }
    }
}
