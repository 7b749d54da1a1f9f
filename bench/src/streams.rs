//! Many open streams through TrustRelay: the resident memory of one.

use anyhow::{Result, ensure};
use http::HeaderValue;
use hyper::body::Incoming;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, sleep, timeout};

use crate::aim::{Aim, Bound};
use crate::http::Connection;
use crate::mcp::{Client, Era};
use crate::measure::Spread;
use crate::program::Program;
use crate::server::Server;
use crate::table::{Table, figures, words};

/// How many streams are opened with one token: fewer than the sessions that one token may have in
/// memory.
const PER_TOKEN: usize = 50;
/// Streams that are open before it is measured: what is made once is made by then.
pub(crate) const WARM: usize = 100;
/// Files that TrustRelay has open besides.
const OTHER_FILES: usize = 500;
/// What one stream may take at most, in KiB.
const AIM: f64 = 32.0;
/// How long a stream may take to open.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kind of stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    path: &'static str,
    era: Era,
    /// Files that one stream takes in TrustRelay: the client's connection, and perhaps one to the
    /// upstream.
    files: usize,
}

pub(crate) const KINDS: [Kind; 3] = [
    Kind { name: "GET /mcp, with its session", path: "/mcp", era: Era::Session, files: 1 },
    Kind { name: "subscriptions/listen on /mcp", path: "/mcp", era: Era::Stateless, files: 1 },
    Kind {
        name: "GET /mcp/NAME, with its sessions and the upstream's stream",
        path: "/mcp/fast",
        era: Era::Session,
        files: 2,
    },
];

/// What the streams of one kind came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Streams {
    kind: String,
    streams: usize,
    resident_before: u64,
    resident_open: u64,
    bytes_per_stream: u64,
    /// Resident memory after they were closed: what is left over.
    resident_closed: u64,
    open_seconds: f64,
}

impl Streams {
    fn kib(&self) -> f64 {
        self.bytes_per_stream as f64 / 1024.0
    }

    pub(crate) fn aim(&self) -> Aim {
        let what = format!("{}: resident KiB of one", self.kind);
        Aim::new(what, Bound::AtMost(AIM), Spread::of([self.kib()]), 1)
    }
}

pub(crate) fn table(streams: &[Streams]) -> Table {
    let columns = [
        words("open streams"),
        figures("how many"),
        figures("resident KiB of one"),
        figures("MiB before"),
        figures("MiB open"),
        figures("MiB closed"),
        figures("opened in, s"),
    ];
    let mib = |bytes: u64| format!("{:.0}", bytes as f64 / 1048576.0);
    let row = |one: &Streams| {
        vec![
            one.kind.clone(),
            one.streams.to_string(),
            format!("{:.1}", one.kib()),
            mib(one.resident_before),
            mib(one.resident_open),
            mib(one.resident_closed),
            format!("{:.1}", one.open_seconds),
        ]
    };
    Table::new(columns, streams.iter().map(row))
}

/// An open stream, and what keeps it so.
struct Open {
    _body: Incoming,
    _connection: Connection,
}

/// Opens so many on a server of their own, or as many as the limit of open files allows.
pub(crate) async fn measure(upstream: &Program, kind: Kind, wanted: usize) -> Result<Streams> {
    let files = getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let number = wanted.min(files.saturating_sub(OTHER_FILES) / kind.files).saturating_sub(WARM);
    ensure!(number > 0, "the limit of open files allows no streams; raise it (ulimit -n)");
    let server = Server::start(upstream).await?;
    let tokens = server.tokens((number + WARM).div_ceil(PER_TOKEN)).await?;
    let mut open = Vec::new();
    for at in 0..WARM {
        open.push(stream(&server, kind, &tokens[at / PER_TOKEN]).await?);
    }
    let before = server.program.resident()?;
    let begun = std::time::Instant::now();
    for at in WARM..WARM + number {
        open.push(stream(&server, kind, &tokens[at / PER_TOKEN]).await?);
    }
    let took = begun.elapsed();
    let resident_open = server.program.resident()?;
    drop(open);
    // Long enough for the ends to be noticed; a figure to look at, not one to pass.
    sleep(Duration::from_secs(2)).await;
    let streams = Streams {
        kind: kind.name.to_owned(),
        streams: number + WARM,
        resident_before: before,
        resident_open,
        bytes_per_stream: resident_open.saturating_sub(before) / number as u64,
        resident_closed: server.program.resident()?,
        open_seconds: took.as_secs_f64(),
    };
    server.stop().await?;
    Ok(streams)
}

async fn stream(server: &Server, kind: Kind, token: &HeaderValue) -> Result<Open> {
    let mut connection = Connection::open(server.program.address).await?;
    let authorization = Some(token.clone());
    let mut client =
        Client { path: kind.path, era: kind.era, authorization, tool: "", said: b"", session: None };
    client.begin(&mut connection).await?;
    let answer = timeout(PATIENCE, connection.send(client.stream()?)).await??;
    ensure!(answer.status().is_success(), "{} is refused: {}", kind.name, answer.status());
    Ok(Open { _body: answer.into_body(), _connection: connection })
}
