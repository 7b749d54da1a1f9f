//! `trustrelay secret`.

use std::process::ExitCode;

use trustrelay_authority::ServerSecret;

use crate::output::say;

/// Prints a new server secret.
pub(crate) fn generate() -> anyhow::Result<ExitCode> {
    say(&*ServerSecret::generate()?.expose())?;
    Ok(ExitCode::SUCCESS)
}
