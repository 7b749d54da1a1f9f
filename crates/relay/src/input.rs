//! Questions of a server to its client in the middle of a call, translated between the eras: as
//! requests on a session client's stream, or as a call that waits for a stateless client's retry.

use http::StatusCode;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::call::{Call, Client};
use crate::context::Context;
use crate::envelope::{self, INVALID_PARAMS, Message, RawObject, UPSTREAM, raw};
use crate::home::Waiting;
use crate::outlet::Outlet;
use crate::parked::{Parked, Resumed};
use crate::reply::{self, Reply};
use crate::seal::Purpose;
use crate::translate;
use crate::upstream::Fault;

impl Call {
    /// Asks a session client for the input that a stateless upstream needs, with one request per
    /// question. Returns the call with the answers added. Returns `None` if the client's answers do
    /// not allow the upstream to continue.
    pub(crate) async fn ask(
        &self,
        outlet: &mut Outlet,
        asked: translate::InputRequired,
        message: &Message,
    ) -> Result<Option<Message>, Fault> {
        let Client::Session(session) = &self.client else { return Err(Fault::Garbage) };
        let mut waiting = Vec::new();
        for (key, method, params) in asked.requests {
            let (text, response) = session.ask(&method, &params);
            outlet.message(&text).await;
            waiting.push((key, method, response));
        }
        let mut responses = RawObject::default();
        for (key, method, mut asked) in waiting {
            let patience = self.link.upstream.limits.input;
            let wait = timeout(patience, asked.response());
            tokio::pin!(wait);
            let response = loop {
                tokio::select! {
                    response = &mut wait => break response,
                    () = sleep(self.link.upstream.limits.keep_alive) => outlet.keep_alive().await,
                }
            };
            let Ok(Some(response)) = response else { return Ok(None) };
            let result = match response.result() {
                Some(result) => result.to_owned(),
                // The stateless era has no error response here, but a client can decline.
                None if method == "elicitation/create" => r#"{"action":"cancel"}"#.to_owned(),
                None => return Ok(None),
            };
            responses.set(&key, RawValue::from_string(result).map_err(|_| Fault::Garbage)?);
        }
        let mut changed = Vec::new();
        let responses = responses.to_raw();
        changed.push(("inputResponses", responses.get()));
        if let Some(state) = &asked.state {
            changed.push(("requestState", state.get()));
        }
        // The retry is a separate request (MCP 2026-07-28, "Multi Round-Trip Requests") and needs
        // an id of its own.
        let fresh = raw(&format!("trustrelay-{}", self.link.fresh_id()));
        let text = message.with(Some(fresh.get()), &changed);
        Ok(Some(Message::parse(text).map_err(|_| Fault::Garbage)?))
    }

    /// Passes an upstream's request to a stateless client as an interim result, and waits for the
    /// retry that answers it. Returns `None` if no retry came.
    pub(crate) async fn park(
        &mut self,
        outlet: &mut Outlet,
        id: &mut String,
        request: &Message,
    ) -> Result<Option<()>, Fault> {
        const KEY: &str = "input";
        let relay = self.context.relay.clone();
        loop {
            let number = Uuid::now_v7();
            let waiting = Waiting::new(number, relay.0.home.as_ref()).write();
            let Some(state) = relay.0.sealer.seal(Purpose::Request, &waiting) else {
                return Err(Fault::Busy);
            };
            let (resume, resumed) = oneshot::channel();
            let parked = Parked {
                pat_id: self.context.pat_id,
                upstream: self.link.upstream.name.to_string(),
                what: self.what.clone(),
                resume,
            };
            if !relay.park(number, parked) {
                let why = "too many calls of this token are waiting for input; answer or cancel some";
                outlet.finish(StatusCode::OK, envelope::error(id, UPSTREAM, why)).await;
                return Ok(None);
            }
            let unpark = Unpark(relay.clone(), number);
            let server = self.link.server.info.as_deref();
            let text = translate::input_required_result(id, KEY, request, &state, server);
            outlet.finish(StatusCode::OK, text).await;
            let patience = self.link.upstream.limits.input;
            let Ok(Ok(next)) = timeout(patience, resumed).await else { return Ok(None) };
            drop(unpark);
            *outlet = next.outlet;
            next.message.id().clone_into(id);
            self.message = next.message;
            // The call keeps the first request's entry. The retry's own entry was needed only for
            // the race with a revocation.
            drop(next.entry);
            let Some(response) = next.responses.get(KEY) else { continue };
            let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{response}}}"#, request.id());
            self.link.notify(body).await?;
            return Ok(Some(()));
        }
    }
}

/// Removes a call from the waiting calls, however the wait ends.
struct Unpark(crate::Relay, Uuid);

impl Drop for Unpark {
    fn drop(&mut self) {
        self.0.0.parked.lock().remove(&self.1);
    }
}

impl crate::Relay {
    /// Adds a call to the waiting calls. Returns false if the token has reached its limit.
    fn park(&self, number: Uuid, parked: Parked) -> bool {
        let mut waiting = self.0.parked.lock();
        let theirs = waiting.values().filter(|other| other.pat_id == parked.pat_id).count();
        let room = theirs < self.0.limits.parked_per_token;
        if room {
            waiting.insert(number, parked);
        }
        room
    }

    /// Resumes a waiting call, if the state is one that the relay sealed. Returns `Err` with a
    /// response if the state is valid but the call is gone.
    pub(crate) fn unpark(
        &self,
        context: &Context,
        state: &str,
        upstream: &str,
        what: &str,
        id: &str,
    ) -> Option<Result<oneshot::Sender<Resumed>, Reply>> {
        let number = Waiting::read(&self.0.sealer.open(Purpose::Request, state)?)?.number;
        let mut waiting = self.0.parked.lock();
        let theirs = waiting.get(&number).is_some_and(|parked| {
            parked.pat_id == context.pat_id && parked.upstream == upstream && parked.what == what
        });
        if theirs && let Some(parked) = waiting.remove(&number) {
            return Some(Ok(parked.resume));
        }
        let why = "`requestState` does not belong to a waiting call; it was answered or cancelled, or belongs to someone else; call again";
        Some(Err(reply::json(StatusCode::OK, envelope::error(id, INVALID_PARAMS, why))))
    }
}
