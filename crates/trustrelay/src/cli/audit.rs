//! `trustrelay audit` on the command line.

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use trustrelay_authority::parse_audit_time;
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check every entry, the chain, its ends and the seals. Exit 0: as it was written; 1: not, and the first thing that is wrong
    #[command(after_help = "Example: trustrelay audit verify --json")]
    Verify(AuditVerify),
    /// Print the entries as JSON Lines, oldest first
    #[command(
        after_help = "Examples:\n  trustrelay audit export > audit.jsonl\n  trustrelay audit export --from 2026-04-01 --to 2026-04-30 --user ada@example.org --action token"
    )]
    Export(Box<AuditExport>),
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// As JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditExport {
    /// At this time or later: 2026-04-07T12:00:00Z, or a day (UTC), which is its beginning
    #[arg(long, env = "TRUSTRELAY_FROM", value_name = "TIME", value_parser = begin)]
    pub(crate) from: Option<Timestamp>,
    /// Before this time; a day is in it to its end
    #[arg(long, env = "TRUSTRELAY_TO", value_name = "TIME", value_parser = end)]
    pub(crate) to: Option<Timestamp>,
    /// Whose account it concerns: an e-mail address or an id
    #[arg(long, env = "TRUSTRELAY_USER", value_name = "ACCOUNT")]
    pub(crate) user: Option<String>,
    /// Which account did it, by itself or with a token
    #[arg(long, env = "TRUSTRELAY_ACTOR", value_name = "ACCOUNT")]
    pub(crate) actor: Option<String>,
    /// Which token it concerns, or did it
    #[arg(long, env = "TRUSTRELAY_PAT_ID", value_name = "PAT_ID")]
    pub(crate) token: Option<Uuid>,
    /// What: one action, such as token.created, or all of a subject, such as token
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
        || format!("`{text}` is neither a time, such as 2026-04-07T12:00:00Z, nor a day, such as 2026-04-07");
    parse_audit_time(text, end).ok_or_else(wrong)
}
