//! An upstream over pipes: the scripted peer in a process of its own. The process is this test
//! binary, started again. It reports its observations to the test that started it.

use std::os::unix::process::CommandExt as _;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use trustrelay_relay::{UpstreamConfig, UpstreamTransport};

use super::fake::Log;
use super::peer::{Eras, Peer};

const REPORT: &str = "PEER_REPORT";
const ERAS: &str = "PEER_ERAS";
const MOOD: &str = "PEER_MOOD";

/// The test in this binary that is the child's program.
const PROGRAM: &str = "kit::child::is_the_program_of_the_children";

/// After a call with this argument the child sends nothing more and ends.
const LAST: &str = "last";

/// The configuration that starts children, and their reports.
pub struct Children {
    pub log: Log,
    eras: Eras,
    mood: &'static str,
    report: std::net::SocketAddr,
}

impl Children {
    pub async fn new(eras: Eras) -> Self {
        Self::in_mood(eras, "").await
    }

    /// Creates children that misbehave; see [`run`].
    pub async fn in_mood(eras: Eras, mood: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let report = listener.local_addr().unwrap();
        let log = Log::new();
        let told = log.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = told.clone();
                tokio::spawn(async move {
                    let mut lines = BufReader::new(stream).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        told.add("STDIO", HeaderMap::new(), line);
                    }
                });
            }
        });
        Self { log, eras, mood, report }
    }

    pub fn config(&self, name: &str) -> UpstreamConfig {
        let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        let command = [&program, "--exact", PROGRAM, "--nocapture"].map(str::to_owned).into();
        let env =
            [(REPORT, self.report.to_string()), (ERAS, self.eras.word().into()), (MOOD, self.mood.into())];
        let env = env.map(|(name, value)| (name.to_owned(), value)).into();
        let transport = UpstreamTransport::Stdio { command, env, cwd: None };
        UpstreamConfig { name: name.parse().unwrap(), transport }
    }
}

/// Returns whether a process exists and is not a zombie.
pub fn is_there(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// Waits until a process is gone.
pub async fn is_gone(pid: u32) {
    let gone = async {
        while is_there(pid) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.is_ok(),
        "{pid} is still there"
    );
}

/// Not a test but the program of the children. It does nothing when the test runner calls it.
#[test]
fn is_the_program_of_the_children() {
    if let Ok(report) = std::env::var(REPORT) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&report));
        std::process::exit(0);
    }
}

async fn run(report: &str) {
    let mut stream = TcpStream::connect(report).await.unwrap();
    stream.write_all(format!("STARTED {}\n", std::process::id()).as_bytes()).await.unwrap();
    let (reports, mut reported) = mpsc::unbounded_channel::<String>();
    tokio::spawn(async move {
        while let Some(line) = reported.recv().await {
            let _ = stream.write_all(format!("{line}\n").as_bytes()).await;
        }
    });
    let mood = std::env::var(MOOD).unwrap_or_default();
    let eras = Eras::of(&std::env::var(ERAS).unwrap());
    match mood.as_str() {
        "dies" => std::process::exit(1),
        // Turns into a program that never ends a line.
        "endless line" => {
            let error =
                std::process::Command::new("cat").stdin(std::fs::File::open("/dev/zero").unwrap()).exec();
            panic!("{error}");
        }
        "stubborn" => {
            let mut terms =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            tokio::spawn(async move { while terms.recv().await.is_some() {} });
        }
        _ => {}
    }
    let told = reports.clone();
    let peer = Peer::new(eras, move |what| drop(told.send(what)));
    let pipe = peer.begin();
    let (say, mut said) = mpsc::unbounded_channel::<String>();
    let mut unsolicited = pipe.said.subscribe();
    let (own, noisy) = (say.clone(), mood == "noisy");
    tokio::spawn(async move {
        while let Ok(text) = unsolicited.recv().await
            && own.send(text).is_ok()
        {}
    });
    tokio::spawn(async move {
        let mut stdout = tokio::io::stdout();
        while let Some(text) = said.recv().await {
            if text == LAST {
                std::process::exit(0);
            }
            let noise = if noisy { "\n{} [1, nonsense\n\u{0}\n\"\n" } else { "" };
            let _ = stdout.write_all(format!("{noise}{text}\n").as_bytes()).await;
            let _ = stdout.flush().await;
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let _ = reports.send(line.clone());
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message.get("id").is_none() || message.get("method").is_none() {
            peer.told(&pipe, &message);
            if mood == "asks outside a call" && message["method"] == "notifications/initialized" {
                let say = say.clone();
                tokio::spawn(async move {
                    // The call that started this process is answered by then.
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                    for (id, method) in [("p1", "ping"), ("r1", "roots/list")] {
                        let _ = say.send(format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}"}}"#));
                    }
                });
            }
            continue;
        }
        if mood == "dies of what it does not know" && message["method"] == "server/discover" {
            std::process::exit(1);
        }
        if mood == "silent to what it does not know" && message["method"] == "server/discover" {
            continue;
        }
        let (peer, pipe, say) = (Arc::clone(&peer), Arc::clone(&pipe), say.clone());
        tokio::spawn(async move {
            if let Some(answer) = peer.serve(&pipe, &message, &say).await {
                let _ = say.send(answer);
            }
            if message["params"]["arguments"]["last"] == true {
                let _ = say.send(LAST.into());
            }
        });
    }
    if mood == "stubborn" {
        std::future::pending::<()>().await;
    }
}
