//! `trustrelay secret`.

use std::process::ExitCode;

use trustrelay_authority::ServerSecret;

/// Prints a new server secret.
pub(crate) fn generate() -> anyhow::Result<ExitCode> {
    println!("{}", *ServerSecret::generate()?.expose());
    Ok(ExitCode::SUCCESS)
}
