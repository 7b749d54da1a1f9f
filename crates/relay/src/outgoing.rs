//! The request of a call, in the terms of its upstream.

use http::HeaderMap;

use crate::call::{Call, Client, Conveyance};
use crate::envelope::Message;
use crate::era::{self, Era, VERSION};
use crate::{trace, translate};

impl Call {
    /// Returns the request's text, its headers, and its id at the upstream.
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

    /// Returns the same request with the call's trace context. The context is also written to the
    /// body, for upstreams that see no headers or look there. Where bytes are passed through over
    /// HTTP, only the headers carry it.
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
                // The arguments were checked when the call was routed and have not changed since.
                let mut headers = era::headers_for(&message, self.mirrored.as_ref()).unwrap_or_default();
                // The version may be one that only the upstream knows. The upstream then reports
                // the error.
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
