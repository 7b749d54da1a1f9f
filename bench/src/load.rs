//! The load generator: clients on connections of their own that each send the next call when the last is answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Request;
use http_body_util::Full;

use crate::http::Connection;
use crate::mcp::Client;
use crate::measure::Round;

/// Clients that are connected and, where the era has them, have begun their sessions.
pub(crate) struct Clients(Vec<Connected>);

struct Connected {
    client: Client,
    connection: Connection,
    call: Request<Full<Bytes>>,
}

impl Clients {
    pub(crate) async fn connect(
        address: SocketAddr,
        clients: impl IntoIterator<Item = Client>,
    ) -> Result<Self> {
        let mut connected = Vec::new();
        for mut client in clients {
            let mut connection = Connection::open(address).await?;
            client.begin(&mut connection).await?;
            let call = client.call()?;
            let answer = connection.ask(call.clone()).await?;
            // A quick refusal would make a fast round.
            ensure!(is_result(answer.body()), "no result: {}", String::from_utf8_lossy(answer.body()));
            connected.push(Connected { client, connection, call });
        }
        Ok(Self(connected))
    }

    /// All of them call for so long.
    pub(crate) async fn call(&mut self, time: Duration) -> Result<Round> {
        let begun = Instant::now();
        let until = begun + time;
        let times = try_join_all(self.0.iter_mut().map(|one| one.call(until))).await?;
        Ok(Round::of(times.concat(), begun.elapsed()))
    }

    /// Ends their sessions.
    pub(crate) async fn end(mut self) -> Result<()> {
        for Connected { client, connection, .. } in &mut self.0 {
            client.end(connection).await?;
        }
        Ok(())
    }
}

impl Connected {
    async fn call(&mut self, until: Instant) -> Result<Vec<u32>> {
        let mut times = Vec::new();
        let mut begun = Instant::now();
        while begun < until {
            let answer = self.connection.ask(self.call.clone()).await?;
            ensure!(is_result(answer.body()), "no result: {}", String::from_utf8_lossy(answer.body()));
            let now = Instant::now();
            times.push(u32::try_from((now - begun).as_nanos()).unwrap_or(u32::MAX));
            begun = now;
        }
        Ok(times)
    }
}

fn is_result(body: &[u8]) -> bool {
    body.windows(RESULT.len()).any(|part| part == RESULT)
}

const RESULT: &[u8] = br#""result":"#;
