//! TrustRelay: personal access tokens, and the MCP servers behind them. See `trustrelay --help`.

mod cli;
mod commands;
mod config;
mod connection;
mod dev;
mod duration;
mod key_file;
mod listener;
mod logging;
mod open;
mod output;
mod redact;
mod remote;
mod requests;
mod rewoken;
mod scan;
mod secret_url;
mod serve;
#[cfg(feature = "otlp")]
mod traces;
#[cfg(not(feature = "otlp"))]
#[path = "no_traces.rs"]
mod traces;
mod unread;

use std::io::Write;
use std::process::ExitCode;

use trustrelay_authority::AuthorityError;

use crate::cli::{AuditCommand, Cli, Command, SecretCommand, TokenCommand, UserCommand};

/// Allocates in less time than the system's, and takes more memory: see docs/PERFORMANCE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&anyhow::anyhow!("the async runtime could not be started: {error}")),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => refuse(&error),
    }
}

/// One line on standard error: what, which input, what to do.
fn refuse(error: &anyhow::Error) -> ExitCode {
    let mut message = format!("{error:#}");
    for cause in error.chain() {
        // To a client its details would be none of its business; here they are the operator's.
        if let Some(AuthorityError::Internal(details)) = cause.downcast_ref() {
            message = format!("{message}: {details}");
        }
    }
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "trustrelay: {}", redact::one_line(&message));
    ExitCode::from(1)
}

/// Wrong usage; or help and version, which were asked for.
fn misused(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let shown = redact::redact(&text);
    if shown == text {
        error.exit();
    }
    if !error.use_stderr() {
        // Help, in which an environment variable's value was shown.
        let _ = write!(std::io::stdout(), "{shown}");
        return ExitCode::SUCCESS;
    }
    let _ = write!(std::io::stderr(), "{shown}");
    ExitCode::from(2)
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let place = &cli.place;
    match cli.command {
        Command::Serve(serve) => serve::run(place, *serve).await,
        Command::User { command } => match command {
            UserCommand::Add(add) => commands::user::add(place, add).await,
            UserCommand::SetPassword(set) => commands::user::set_password(place, set).await,
            UserCommand::List(list) => commands::user::list(place, list).await,
            UserCommand::Invite(invite) => commands::user::invite(place, invite).await,
            UserCommand::Promote(who) => commands::user::set_admin(place, &who.email, true).await,
            UserCommand::Demote(who) => commands::user::set_admin(place, &who.email, false).await,
            UserCommand::Disable(who) => commands::user::set_disabled(place, &who.email, true).await,
            UserCommand::Enable(who) => commands::user::set_disabled(place, &who.email, false).await,
        },
        Command::Token { command } => match command {
            TokenCommand::Create(create) => commands::token::create(place, create).await,
            TokenCommand::List(list) => commands::token::list(place, list).await,
            TokenCommand::Revoke(revoke) => commands::token::revoke(place, revoke).await,
            TokenCommand::Rotate(rotate) => commands::rotate::run(place, rotate).await,
            TokenCommand::Delegate(delegate) => commands::delegate::run(delegate).await,
            TokenCommand::Check(check) => commands::check::run(check).await,
        },
        Command::Audit { command } => match command {
            AuditCommand::Verify(verify) => commands::audit::verify(place, verify).await,
            AuditCommand::Export(export) => commands::audit::export(place, *export).await,
        },
        Command::Nodes(list) => commands::nodes::list(place, list).await,
        Command::Export(to) => commands::archive::export(place, &to.file).await,
        Command::Import(from) => commands::archive::import(place, &from.file).await,
        Command::Scan(scan) => commands::scan::run(&scan),
        Command::Secret { command } => match command {
            SecretCommand::Generate => commands::secret::generate(),
            SecretCommand::Rotate(rotate) => commands::secret::rotate(place, &rotate),
            SecretCommand::Status(status) => commands::secret::status(place, status).await,
            SecretCommand::Retire(retire) => commands::secret::retire(place, &retire).await,
        },
    }
}
