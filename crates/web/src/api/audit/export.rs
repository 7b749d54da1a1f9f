//! `GET /api/admin/audit/export`: all that fits as JSON Lines, oldest first. For administrators.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use trustrelay_authority::{AuditExport, AuthorityError, By};

use crate::api::audit::AuditQuery;
use crate::credential::Caller;
use crate::error::ApiError;
use crate::state::AppState;

pub(crate) async fn handle(
    State(state): State<AppState>,
    Caller(by): Caller,
    query: AuditQuery,
) -> Result<Response, ApiError> {
    state.authority.may_read_all_audit(&by)?;
    let filter = query.without_pages()?.filter(&state, true).await?;
    let mut export = state.authority.export_audit(&by, filter)?;
    // What goes wrong at once is answered; later it cuts the answer short, and the client sees
    // that.
    let first = export.next().await.map_err(AuthorityError::from)?;
    let lines = stream::unfold((first, export, by), next);
    let headers = [
        (CONTENT_TYPE, "application/jsonl"),
        (CONTENT_DISPOSITION, "attachment; filename=\"trustrelay-audit.jsonl\""),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

type Lines = (Option<Vec<u8>>, AuditExport, By);

/// The lines that were read, and behind them the next. Nothing more is read for a caller who was
/// ended meanwhile.
async fn next((lines, mut export, by): Lines) -> Option<(Result<Bytes, std::io::Error>, Lines)> {
    let lines = lines?;
    if !by.stands() {
        return Some((Err(std::io::Error::other("the caller's credential has ended")), (None, export, by)));
    }
    match export.next().await {
        Ok(next) => Some((Ok(lines.into()), (next, export, by))),
        Err(error) => {
            tracing::warn!(%error, "an export of the audit log was aborted");
            Some((Err(std::io::Error::other("the database is not available")), (None, export, by)))
        }
    }
}
