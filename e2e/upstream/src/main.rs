//! An MCP server for the tests. The official conformance suite passes on it when it asks it
//! directly, so whatever the suite finds through a relay is the relay's.
//!
//! It listens on loopback only, and ends with whoever started it.

#![allow(
    deprecated,
    reason = "sampling, roots and logging are deprecated in the last revision, and relayed all the same"
)]

mod call;
mod catalogue;
mod completion;
mod dialogue;
mod era;
mod fixture;
mod http;
mod input;
mod prompts;
mod reconnection;
mod resources;
mod samples;
mod stdio;
mod world;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::era::Era;

/// How often the server looks whether whoever started it is still there.
const PARENT_LOOK: Duration = Duration::from_millis(500);

/// An MCP server for TrustRelay's tests.
#[derive(Parser)]
#[command(version, after_help = "Example: trustrelay-e2e-upstream http --listen 127.0.0.1:0 --era both")]
struct Cli {
    #[command(subcommand)]
    transport: TransportCommand,
}

#[derive(Subcommand)]
enum TransportCommand {
    /// Streamable HTTP; prints its address.
    Http {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// The era of the protocol that it speaks.
        #[arg(long, value_enum, default_value = "both")]
        era: Era,
    },
    /// Standard input and output.
    Stdio {
        /// The era of the protocol that it speaks.
        #[arg(long, value_enum, default_value = "both")]
        era: Era,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(
        |runtime| {
            let done = runtime.block_on(run(cli));
            // A read of standard input can't be interrupted; it ends with the process.
            runtime.shutdown_background();
            done
        },
    );
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "the end of a command that failed")]
fn complain(error: &anyhow::Error) {
    eprintln!("trustrelay-e2e-upstream: {error:#}");
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let ended = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let parent = rustix::process::getppid();
    let end = ended.clone();
    tokio::spawn(async move {
        let mut looks = tokio::time::interval(PARENT_LOOK);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = looks.tick() => if rustix::process::getppid() != parent { break },
            }
        }
        end.cancel();
    });
    match cli.transport {
        TransportCommand::Http { listen, era } => http::serve(listen, era, ended).await,
        TransportCommand::Stdio { era } => stdio::serve(era, ended).await,
    }
}
