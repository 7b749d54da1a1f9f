//! `trustrelay audit`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use trustrelay_authority::{AuditFilter, AuditReport, Authority, AuthorityError};
use uuid::Uuid;

use crate::cli::{AuditExport, AuditVerify, Place};
use crate::open::{self, Missing};
use crate::output::say;

/// Goes through the whole log and says what is wrong first, if anything is.
pub(crate) async fn verify(place: &Place, verify: AuditVerify) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    let report = opened.authority.verify_audit().await.context("the audit log cannot be read")?;
    say(if verify.json { shown(&report) } else { told(&report) })?;
    Ok(if report.flaw.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn shown(report: &AuditReport) -> String {
    json!({
        "entries": report.entries,
        "cut": report.cut,
        "from": report.span.map(|(from, _)| from),
        "to": report.span.map(|(_, to)| to),
        "seals": report.seals,
        "sealed_seq": report.sealed.map(|(seq, _)| seq),
        "sealed_at": report.sealed.map(|(_, at)| at),
        "wrong": report.flaw.as_ref().map(ToString::to_string),
    })
    .to_string()
}

fn told(report: &AuditReport) -> String {
    let mut text = match report.span {
        Some((from, to)) => format!("{} entries from {from} to {to}", report.entries),
        None => "no entries".to_owned(),
    };
    if report.cut > 0 {
        text.push_str(&format!("; entries up to {} were deleted after the retention time", report.cut));
    }
    text.push_str(&match report.sealed {
        Some((seq, at)) => format!("\n{} seals, the last one for entry {seq} at {at}", report.seals),
        None => "\nno seals yet: a running server adds one every minute".to_owned(),
    });
    text.push_str(&match &report.flaw {
        Some(flaw) => format!("\nINVALID: {flaw}"),
        None => "\nthe audit log is intact".to_owned(),
    });
    text
}

/// Prints the entries that fit.
pub(crate) async fn export(place: &Place, asked: AuditExport) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    let filter = AuditFilter {
        user_id: account(&opened.authority, "--user", asked.user.as_deref()).await?,
        actor_id: account(&opened.authority, "--actor", asked.actor.as_deref()).await?,
        pat_id: asked.token,
        action: asked.action.as_deref().map(Into::into),
        from: asked.from,
        to: asked.to,
    };
    let mut export = opened.authority.export_all_audit(filter);
    while let Some(lines) = export.next().await.context("the audit log cannot be read")? {
        let mut out = std::io::stdout().lock();
        out.write_all(&lines).and_then(|()| out.flush()).context("standard output cannot be written")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn account(authority: &Authority, flag: &str, named: Option<&str>) -> anyhow::Result<Option<Uuid>> {
    let Some(named) = named else { return Ok(None) };
    match authority.account_id(named).await {
        Err(AuthorityError::NotFound(_)) => {
            anyhow::bail!(
                "{flag}: there is no account {named}; run `trustrelay user list` to see all accounts"
            )
        }
        found => Ok(Some(found?)),
    }
}
