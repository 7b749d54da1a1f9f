//! Finding, starting and ending the client sessions of a request's token.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::context::Context;
use crate::envelope::{Message, RawObject};
use crate::record::CallRecord;
use crate::relay::Relay;
use crate::reply::{self, Reply};
use crate::session::{Sealed, Session};
use crate::upstream::{Link, Upstream};

impl Relay {
    /// Returns the session of this id, if it is in memory.
    pub(crate) fn known(&self, context: &Context, id: &str) -> Option<Arc<Session>> {
        self.0.sessions.lock().find(context.pat_id, id).cloned()
    }

    /// Returns the session that an id names, from memory or started again from the id's contents.
    /// Returns `Err` if the limits leave no room for it.
    pub(crate) fn session(&self, context: &Context, id: &str) -> Result<Option<Arc<Session>>, Box<Reply>> {
        let only = context.only_name();
        {
            let sessions = self.0.sessions.lock();
            if let Some(session) = sessions.find(context.pat_id, id) {
                let good = session.only.as_deref() == only && !session.entry.cancel.is_cancelled();
                if good {
                    session.touch();
                }
                return Ok(good.then(|| Arc::clone(session)));
            }
        }
        let Some(sealed) = Sealed::open(&self.0.sealer, id, context.pat_id, only) else { return Ok(None) };
        if self.0.sessions.lock().ended.contains(&sealed.number) {
            return Ok(None);
        }
        let link = context.only.as_ref().and_then(|upstream| Session::adopted(&sealed, upstream));
        self.keep(context, id.to_owned(), &sealed, link).map(Some).map_err(Box::new)
    }

    /// Starts a session. Its id contains all that is needed to start it again.
    pub(crate) fn begin(
        &self,
        context: &Context,
        init: &RawObject,
        link: Option<Arc<Link>>,
    ) -> Result<Arc<Session>, Reply> {
        let only = context.only_name().map(ToOwned::to_owned);
        let sealed = Sealed::new(context.pat_id, only, init, link.as_deref(), self.0.home.as_ref());
        let id = sealed.as_ref().and_then(|sealed| sealed.seal(&self.0.sealer));
        let (Some(sealed), Some(id)) = (sealed, id) else {
            return Err(reply::refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "no random numbers available; try again",
            ));
        };
        self.keep(context, id, &sealed, link)
    }

    /// Adds a session to memory. Registers it first and checks the credential second.
    fn keep(
        &self,
        context: &Context,
        id: String,
        sealed: &Sealed,
        link: Option<Arc<Link>>,
    ) -> Result<Arc<Session>, Reply> {
        let entry = self.0.registry.register_session(&context.principal, context.pat_id, sealed.number);
        if !context.principal.stands() {
            return Err(reply::cut(&context.principal, "null").0);
        }
        let session = Session::new(id, sealed, entry, link);
        {
            let mut sessions = self.0.sessions.lock();
            // Another request may have restored the same session concurrently.
            if let Some(other) = sessions.find(context.pat_id, &session.id) {
                return Ok(Arc::clone(other));
            }
            let theirs = sessions.live.entry(context.pat_id).or_default();
            if theirs.len() >= self.0.limits.sessions_per_token {
                let idle = theirs.iter().filter(|other| other.is_idle()).min_by_key(|other| other.used());
                let Some(idle) = idle.cloned() else {
                    let why = "the token has too many sessions in use";
                    return Err(reply::refused(StatusCode::TOO_MANY_REQUESTS, why));
                };
                theirs.retain(|other| other.number != idle.number);
                idle.entry.cancel.cancel();
            }
            theirs.push(Arc::clone(&session));
        }
        let (relay, ending) = (self.clone(), Arc::clone(&session));
        self.0.tasks.spawn(async move {
            ending.entry.cancel.cancelled().await;
            relay.0.sessions.lock().remove(&ending);
            ending.close().await;
        });
        Ok(session)
    }

    /// Ends a session permanently. Its id becomes invalid.
    pub(crate) fn end(&self, session: &Session) {
        self.0.sessions.lock().end(session.number);
        session.entry.cancel.cancel();
    }

    /// Records a call that did not reach its upstream, with a span that ends at once.
    pub(crate) fn refused(
        &self,
        context: &Context,
        upstream: &Upstream,
        what: &str,
        message: &Message,
        outcome: &'static str,
    ) {
        let call = CallRecord {
            at: crate::clock::now(),
            pat_id: context.pat_id,
            user_id: context.principal.user_id,
            upstream: upstream.name.to_string(),
            tool: what.to_owned(),
            outcome,
            duration: Duration::ZERO,
            bytes_in: message.text().len() as u64,
            bytes_out: 0,
        };
        crate::trace::call(upstream.name.as_str()).in_scope(|| self.0.records.note(call));
    }
}
