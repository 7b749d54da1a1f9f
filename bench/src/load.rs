//! The load generator: connections that each send the next request when the last is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use http::{Request, Response, StatusCode};
use http_body_util::Full;

use crate::http::Connection;
use crate::mcp::Client;
use crate::measure::Round;

/// Requests that take turns.
pub(crate) type Requests = Arc<[Request<Full<Bytes>>]>;

/// What every answer must be: another one, such as a quick refusal, would make a fast round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) status: StatusCode,
    /// What its body must have in it.
    pub(crate) part: &'static [u8],
}

impl Expected {
    fn check(&self, answer: &Response<Bytes>) -> Result<()> {
        let (status, body) = (answer.status(), answer.body());
        let has_part = self.part.is_empty() || body.windows(self.part.len()).any(|part| part == self.part);
        ensure!(status == self.status && has_part, "answered {status}: {}", String::from_utf8_lossy(body));
        Ok(())
    }
}

/// A connection, and what is sent on it.
pub(crate) struct Caller {
    connection: Connection,
    requests: Requests,
    /// The next of them.
    next: usize,
    expected: Expected,
}

impl Caller {
    /// Sends the first request, so that what is done once is done.
    async fn begin(
        connection: Connection,
        requests: Requests,
        next: usize,
        expected: Expected,
    ) -> Result<Self> {
        ensure!(!requests.is_empty(), "there is nothing to send");
        let mut caller = Self { connection, requests, next, expected };
        caller.ask().await?;
        Ok(caller)
    }

    async fn ask(&mut self) -> Result<()> {
        let request = self.requests[self.next % self.requests.len()].clone();
        self.next += 1;
        self.expected.check(&self.connection.exchange(request).await?)
    }

    async fn call(&mut self, until: Instant) -> Result<Vec<u32>> {
        let mut times = Vec::new();
        let mut begun = Instant::now();
        while begun < until {
            self.ask().await?;
            let now = Instant::now();
            times.push(u32::try_from((now - begun).as_nanos()).unwrap_or(u32::MAX));
            begun = now;
        }
        Ok(times)
    }
}

/// Callers that call at the same time.
pub(crate) struct Callers(Vec<Caller>);

impl Callers {
    /// So many connections to one address. They send the same requests, each beginning at another
    /// of them.
    pub(crate) async fn connect(
        address: SocketAddr,
        connections: usize,
        requests: &Requests,
        expected: Expected,
    ) -> Result<Self> {
        let mut callers = Vec::new();
        for at in 0..connections {
            let connection = Connection::open(address).await?;
            let first = at * requests.len() / connections;
            callers.push(Caller::begin(connection, Arc::clone(requests), first, expected).await?);
        }
        Ok(Self(callers))
    }

    /// All of them call for so long.
    pub(crate) async fn call(&mut self, time: Duration) -> Result<Round> {
        let begun = Instant::now();
        let until = begun + time;
        let times = try_join_all(self.0.iter_mut().map(|one| one.call(until))).await?;
        Ok(Round::of(times.concat(), begun.elapsed()))
    }

    /// All of them call while others do: what they came to, and what the others came to.
    pub(crate) async fn call_beside(&mut self, others: &mut Self, time: Duration) -> Result<(Round, Round)> {
        try_join(self.call(time), others.call(time)).await
    }
}

/// MCP clients that call a tool. Where the era has sessions, they have begun theirs.
pub(crate) struct Clients {
    clients: Vec<Client>,
    callers: Callers,
}

impl Clients {
    pub(crate) async fn connect(
        address: SocketAddr,
        clients: impl IntoIterator<Item = Client>,
    ) -> Result<Self> {
        let (mut connected, mut callers) = (Vec::new(), Vec::new());
        for mut client in clients {
            let mut connection = Connection::open(address).await?;
            client.begin(&mut connection).await?;
            let expected = Expected { status: StatusCode::OK, part: client.said };
            callers.push(Caller::begin(connection, [client.call()?].into(), 0, expected).await?);
            connected.push(client);
        }
        Ok(Self { clients: connected, callers: Callers(callers) })
    }

    /// All of them call for so long.
    pub(crate) async fn call(&mut self, time: Duration) -> Result<Round> {
        self.callers.call(time).await
    }

    /// Ends their sessions.
    pub(crate) async fn end(mut self) -> Result<()> {
        for (client, caller) in self.clients.iter().zip(&mut self.callers.0) {
            client.end(&mut caller.connection).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_that_is_expected_counts() {
        let answer = |status: u16, body: &'static str| {
            let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
            *answer.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
            answer
        };
        let expected = Expected { status: StatusCode::OK, part: b"hello" };
        assert!(expected.check(&answer(200, "oh, hello there")).is_ok());
        let refused = expected.check(&answer(401, "hello")).map_err(|error| error.to_string());
        assert_eq!(refused, Err("answered 401 Unauthorized: hello".to_owned()));
        assert!(expected.check(&answer(200, "goodbye")).is_err());
        assert!(Expected { part: b"", ..expected }.check(&answer(200, "")).is_ok());
    }
}
