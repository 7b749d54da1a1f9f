//! TrustRelay: personal access tokens, and the MCP servers behind them. See `trustrelay --help`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output is its purpose")]

mod cli;
mod commands;
mod config;
mod dev;
mod duration;
mod listener;
mod logging;
mod open;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, SecretCommand, TokenCommand, UserCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&anyhow::anyhow!("the async runtime does not start: {error}")),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => refuse(&error),
    }
}

/// One line on standard error: what, which input, what to do.
fn refuse(error: &anyhow::Error) -> ExitCode {
    eprintln!("trustrelay: {}", format!("{error:#}").replace('\n', " "));
    ExitCode::from(1)
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let place = &cli.place;
    match cli.command {
        Command::Serve(serve) => serve::run(place, *serve).await,
        Command::User { command } => match command {
            UserCommand::Add(add) => commands::user::add(place, add).await,
            UserCommand::List(list) => commands::user::list(place, list).await,
            UserCommand::Disable(who) => commands::user::set_disabled(place, &who.email, true).await,
            UserCommand::Enable(who) => commands::user::set_disabled(place, &who.email, false).await,
        },
        Command::Token { command } => match command {
            TokenCommand::Create(create) => commands::token::create(place, create).await,
            TokenCommand::List(list) => commands::token::list(place, list).await,
            TokenCommand::Revoke(revoke) => commands::token::revoke(place, revoke).await,
            TokenCommand::Check(check) => commands::check::run(check).await,
        },
        Command::Secret { command: SecretCommand::Generate } => commands::secret::generate(),
    }
}
