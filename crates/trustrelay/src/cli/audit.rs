//! `trustrelay audit` on the command line.

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use trustrelay_authority::parse_audit_time;
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify every entry, the chain, its ends and the seals. Exit codes: 0 intact, 1 not intact
    /// (prints the first problem)
    #[command(after_help = "Example: trustrelay audit verify --json")]
    Verify(AuditVerify),
    /// Export the entries as JSON Lines, oldest first
    #[command(
        after_help = "Examples:\n  trustrelay audit export > audit.jsonl\n  trustrelay audit export --from 2026-04-01 --to 2026-04-30 --user ada@example.org --action token"
    )]
    Export(Box<AuditExport>),
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// Print JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditExport {
    /// Only entries from this time on: 2026-04-07T12:00:00Z, or a day (UTC), from its beginning
    #[arg(long, env = "TRUSTRELAY_FROM", value_name = "TIME", value_parser = begin)]
    pub(crate) from: Option<Timestamp>,
    /// Only entries before this time; a day is included to its end
    #[arg(long, env = "TRUSTRELAY_TO", value_name = "TIME", value_parser = end)]
    pub(crate) to: Option<Timestamp>,
    /// Affected account: an email address or an id
    #[arg(long, env = "TRUSTRELAY_USER", value_name = "ACCOUNT")]
    pub(crate) user: Option<String>,
    /// Account that acted, directly or with a token
    #[arg(long, env = "TRUSTRELAY_ACTOR", value_name = "ACCOUNT")]
    pub(crate) actor: Option<String>,
    /// Token that was affected or that acted
    #[arg(long, env = "TRUSTRELAY_PAT_ID", value_name = "PAT_ID")]
    pub(crate) token: Option<Uuid>,
    /// One action, such as token.created, or all actions of a kind, such as token
    #[arg(long, env = "TRUSTRELAY_ACTION")]
    pub(crate) action: Option<String>,
}

fn begin(text: &str) -> Result<Timestamp, String> {
    time(text, false)
}

fn end(text: &str) -> Result<Timestamp, String> {
    time(text, true)
}

fn time(text: &str, end: bool) -> Result<Timestamp, String> {
    let wrong =
        || format!("`{text}` must be a time, such as 2026-04-07T12:00:00Z, or a day, such as 2026-04-07");
    parse_audit_time(text, end).ok_or_else(wrong)
}
