//! `trustrelay secret …`.

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Print a new server secret: 32 random bytes in base64
    #[command(after_help = "Example: trustrelay secret generate > secret.key")]
    Generate,
    /// Add a new secret at the front of the key file. A server uses it after a restart, and moves
    /// tokens to it as they are used
    #[command(
        after_help = "Examples:\n  trustrelay secret rotate\n  trustrelay secret rotate --prepare --secret-key-file /etc/trustrelay/secret.key"
    )]
    Rotate(SecretRotate),
    /// List the key ids of the secrets in the key file, and how many tokens still depend on each
    #[command(after_help = "Example: trustrelay secret status")]
    Status(SecretStatus),
    /// Take a secret out of use when no token depends on it any more. It stays in the key file, so
    /// that older seals of the audit log can be verified
    #[command(after_help = "Example: trustrelay secret retire 1f0a9c3e")]
    Retire(SecretRetire),
}

#[derive(Debug, Args)]
pub(crate) struct SecretRotate {
    /// Add the new secret in second place: it verifies tokens, but new tokens do not use it yet.
    /// The first step if several nodes share the data
    #[arg(long, env = "TRUSTRELAY_PREPARE", value_parser = BoolishValueParser::new(), conflicts_with = "activate")]
    pub(crate) prepare: bool,
    /// Add no new secret, but move the second one to the front. The second step if several nodes
    /// share the data
    #[arg(long, env = "TRUSTRELAY_ACTIVATE", value_parser = BoolishValueParser::new())]
    pub(crate) activate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SecretStatus {
    /// Print JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SecretRetire {
    /// Key id, from `secret status`
    pub(crate) key: String,
    /// Retire the secret even if tokens or webhooks depend on it; they stop working
    #[arg(long, env = "TRUSTRELAY_DROP_DEPENDENTS", value_parser = BoolishValueParser::new())]
    pub(crate) drop_dependents: bool,
}
