//! `trustrelay secret …`.

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Print a new server secret: 32 random bytes in base64
    #[command(after_help = "Example: trustrelay secret generate > secret.key")]
    Generate,
    /// Put a new secret in front of the key file. A server takes it up when it is restarted, and re-keys tokens as they are used
    #[command(
        after_help = "Examples:\n  trustrelay secret rotate\n  trustrelay secret rotate --prepare --secret-key-file /etc/trustrelay/secret.key"
    )]
    Rotate(SecretRotate),
    /// Show the secrets of the key file by their key ids, and how many tokens still depend on each
    #[command(after_help = "Example: trustrelay secret status")]
    Status(SecretStatus),
    /// Take a secret out of use that no token depends on any more. It stays in the key file to check the audit log's seals of its time
    #[command(after_help = "Example: trustrelay secret retire 1f0a9c3e")]
    Retire(SecretRetire),
}

#[derive(Debug, Args)]
pub(crate) struct SecretRotate {
    /// Put the new secret second: it verifies, and nothing is made under it. The first step where several nodes share the data
    #[arg(long, env = "TRUSTRELAY_PREPARE", value_parser = BoolishValueParser::new(), conflicts_with = "activate")]
    pub(crate) prepare: bool,
    /// Make no new secret, but put the second one first. The second step where several nodes share the data
    #[arg(long, env = "TRUSTRELAY_ACTIVATE", value_parser = BoolishValueParser::new())]
    pub(crate) activate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SecretStatus {
    /// As JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SecretRetire {
    /// The key id, as `secret status` shows it
    pub(crate) key: String,
    /// Retire it although tokens or webhooks depend on it: they stop working
    #[arg(long, env = "TRUSTRELAY_DROP_DEPENDENTS", value_parser = BoolishValueParser::new())]
    pub(crate) drop_dependents: bool,
}
