//! Measures the built program side by side with what it is compared to: interleaved rounds in one
//! run, ratios with their spread. `cargo xtask bench` builds and runs it.
//!
//! Everything runs on loopback, is started here and ends with the run. A figure is worth what its
//! spread says: on a busy machine compare ratios, never the absolute numbers of two runs.

mod aim;
mod bare;
mod bulk;
mod chase;
mod data;
mod document;
mod edge;
mod fence;
mod flame;
mod http;
mod in_process;
mod load;
mod machine;
mod mcp;
mod measure;
mod node;
mod parts;
mod peers;
mod plot;
mod program;
mod proxy;
mod relay;
mod report;
mod server;
mod start;
mod streams;
mod table;
mod upstream;
mod writes;

/// The tests' own PostgreSQL.
#[path = "../../crates/store/tests/support/cluster.rs"]
#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "made for tests")]
mod postgres;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

/// The program's own allocator: what is compared to it is not to differ in that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many files the bench and what it starts may have open: two ends of 10,000 streams, and what
/// else there is.
const OPEN_FILES: u64 = 65_536;

/// Measures TrustRelay. `cargo xtask bench` builds everything and runs it.
#[derive(Parser)]
#[command(after_help = "Example: cargo xtask bench relay --rounds 5 --seconds 2; cargo xtask bench fence")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tool calls through the relay against the same calls asked directly, and the memory of open
    /// streams.
    Relay(relay::Options),
    /// Revocations over one and three nodes under load, and verifications behind the fence. Needs
    /// PostgreSQL.
    Fence(fence::Options),
    /// Requests with tokens over HTTP: at a bare hyper server, at the same behind the guard, and at
    /// `GET /api/user`.
    Http(edge::Options),
    /// A verification in one process, part by part, beside a read of main memory; threads,
    /// allocations, the index's memory, a start.
    Core(in_process::Options),
    /// Tokens made and revoked a second, each on the disk when it is answered, beside the disk's
    /// own fsync rate.
    Writes(writes::Options),
    /// Verifications beside Better Auth's, and tool calls beside ContextForge's, where they are
    /// installed.
    Peers(peers::Options),
    /// Where the time of one request goes: flame graphs. Needs `perf`.
    Flame(flame::Options),
    /// From the figures of the last runs to the tables and pictures of docs/PERFORMANCE.md.
    Report(document::Options),
    /// The MCP server that is asked: as fast as one can be. Prints its address.
    #[command(hide = true)]
    Upstream,
    /// A proxy that looks at nothing. Prints its address.
    #[command(hide = true)]
    Proxy {
        /// Where it passes requests on to.
        to: SocketAddr,
    },
    /// A server that answers a fixed body. Prints its address.
    #[command(hide = true)]
    Bare,
    /// The same behind the guard. Prints its address.
    #[command(hide = true)]
    Guarded {
        /// An empty folder, for its data and its token.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match command {
        // What is compared to TrustRelay has the threads that a server has by default.
        Command::Proxy { .. } | Command::Bare | Command::Guarded { .. } => {
            Builder::new_multi_thread().enable_all().build()
        }
        // One thread: the load generator and the upstream each leave the rest of the machine to
        // what is measured.
        _ => Builder::new_current_thread().enable_all().build(),
    };
    let done = runtime.context("the async runtime does not start").and_then(|runtime| {
        raise_limit()?;
        runtime.block_on(async {
            match command {
                Command::Relay(options) => relay::run(&options).await,
                Command::Fence(options) => fence::run(&options).await,
                Command::Core(options) => in_process::run(&options).await,
                Command::Writes(options) => writes::run(&options).await,
                Command::Peers(options) => peers::run(&options).await,
                Command::Flame(options) => flame::run(&options).await,
                Command::Report(options) => document::run(&options),
                Command::Upstream => upstream::serve().await,
                Command::Proxy { to } => proxy::serve(to).await,
                Command::Http(options) => edge::run(&options).await,
                Command::Bare => bare::serve().await,
                Command::Guarded { folder } => bare::serve_guarded(&folder).await,
            }
        })
    });
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
    eprintln!("trustrelay-bench: {error:#}");
}

/// Raises the limit of open files as far as it is allowed and needed; what is started inherits it.
fn raise_limit() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
            .context("the limit of open files cannot be raised")?;
    }
    Ok(())
}
