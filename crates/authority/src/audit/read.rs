//! Reading the audit log: everybody their own, administrators all of it.

use std::sync::Arc;

use trustrelay_token::{Principal, Scope};
use uuid::Uuid;

use super::{AuditEntry, AuditFilter, AuditLook, AuditPlace, AuditRecord, hex};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::store::StoreError;

/// Most entries of one page: at some 1 KB each, 200 KB.
pub const MAX_AUDIT_PAGE: u64 = 200;
/// How many entries of an export are read at once: at some 500 bytes each, 250 KB.
const EXPORT_BATCH: u64 = 500;

/// An entry as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// What it says.
    pub entry: AuditEntry,
}

/// The details that a caller without `tokens` may see of an entry about another token: an
/// allow-list, so that a new detail is hidden until somebody has decided. Names, hints and places
/// of leaks are not on it.
const OPEN_DETAILS: [&str; 7] = ["scope", "expires_at", "reason", "path", "count", "until", "reporter"];

/// Takes out of an entry what identifies other tokens than `own`; whether there was anything.
fn redact(entry: &mut AuditEntry, own: Uuid) -> bool {
    let is_other = |pat_id: Option<Uuid>| pat_id.is_some_and(|pat_id| pat_id != own);
    let before = (entry.actor.pat_name.is_some(), entry.details.len());
    if is_other(entry.actor.pat_id) {
        entry.actor.pat_name = None;
    }
    if is_other(entry.pat_id) {
        entry.details.retain(|name, _| OPEN_DETAILS.contains(&&**name));
    }
    before != (entry.actor.pat_name.is_some(), entry.details.len())
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<Audited>,
    /// Where the next page goes on, if there is one.
    pub next: Option<AuditPlace>,
}

impl Audited {
    fn of(record: &AuditRecord) -> Result<Self, StoreError> {
        Ok(Self { seq: record.seq, hash: record.hash, entry: AuditEntry::from_bytes(&record.entry)? })
    }
}

impl AuditRecord {
    /// A line of an export: JSON, with the entry's own bytes last, so that the chain can be checked
    /// from the export alone.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line =
            format!("{{\"seq\":{},\"hash\":\"{}\",\"entry\":", self.seq, hex(&self.hash)).into_bytes();
        line.extend_from_slice(&self.entry);
        line.extend_from_slice(b"}\n");
        line
    }
}

/// An export on its way, a batch of lines at a time. What fits no filter comes in the chain's
/// order, all else by time.
pub struct AuditExport {
    authority: Arc<Authority>,
    look: AuditLook,
    /// The token that asks, if it may not see what identifies others.
    redacted_for: Option<Uuid>,
    /// The last entry that was read, where all are.
    read: u64,
    ended: bool,
}

impl AuditExport {
    /// The next lines; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let store = &self.authority.store;
        let records = if self.look.filter == AuditFilter::default() {
            store.audit_after(self.read, EXPORT_BATCH).await?
        } else {
            store.audit_page(&self.look).await?
        };
        let Some(last) = records.last() else { return Ok(None) };
        self.read = last.seq;
        self.look.after = Some(place(last)?);
        self.ended = (records.len() as u64) < EXPORT_BATCH;
        let mut lines = Vec::new();
        for record in &records {
            lines.extend(match self.redacted_for {
                None => record.to_line(),
                Some(own) => redacted_line(record, own)?,
            });
        }
        Ok(Some(lines))
    }
}

/// A line of an export for a caller that may not see what identifies other tokens than `own`. A
/// line of which something was taken out says so: its bytes are not the ones that the hash is over.
fn redacted_line(record: &AuditRecord, own: Uuid) -> Result<Vec<u8>, StoreError> {
    let mut entry = AuditEntry::from_bytes(&record.entry)?;
    if !redact(&mut entry, own) {
        return Ok(record.to_line());
    }
    let mut line =
        format!("{{\"seq\":{},\"hash\":\"{}\",\"redacted\":true,\"entry\":", record.seq, hex(&record.hash))
            .into_bytes();
    line.extend_from_slice(&entry.to_bytes()?);
    line.extend_from_slice(b"}\n");
    Ok(line)
}

fn place(record: &AuditRecord) -> Result<AuditPlace, StoreError> {
    let at = jiff::Timestamp::from_microsecond(record.columns.at);
    Ok(AuditPlace { at: at.map_err(|error| StoreError::Corrupt(error.to_string()))?, seq: record.seq })
}

impl Authority {
    /// The entries that concern the caller's account, newest first. A caller with a token needs the
    /// scope `api:read`, and `tokens` to see what concerns other tokens; without it, an entry about
    /// itself does not name the token that acted.
    pub async fn own_audit(&self, by: &Principal, mut look: AuditLook) -> Result<AuditPage, AuthorityError> {
        self.require(by, &Scope::ApiRead)?;
        if let Some(own) = by.pat_id()
            && !by.scopes.allows(&Scope::Tokens)
        {
            if look.filter.pat_id.is_some_and(|asked| asked != own) {
                self.require(by, &Scope::Tokens)?;
            }
            look.filter.pat_id = Some(own);
        }
        look.filter.user_id = Some(by.user_id);
        self.audit(by, look).await
    }

    /// The entries of everybody, newest first, for an administrator. A caller with a token needs
    /// the scope `api:read`, and `tokens` to see what identifies other tokens.
    pub async fn all_audit(&self, by: &Principal, look: AuditLook) -> Result<AuditPage, AuthorityError> {
        self.may_read_all_audit(by)?;
        self.audit(by, look).await
    }

    /// All entries that fit, as JSON Lines, for an administrator. A caller with a token needs the
    /// scope `api:read`, and `tokens` for a chain that can be checked: without it, lines are
    /// redacted.
    pub fn export_audit(
        self: &Arc<Self>,
        by: &Principal,
        filter: AuditFilter,
    ) -> Result<AuditExport, AuthorityError> {
        self.may_read_all_audit(by)?;
        Ok(AuditExport { redacted_for: by.pat_id_without_tokens(), ..self.export_all_audit(filter) })
    }

    /// All entries that fit, as JSON Lines: what the operator at the machine may see.
    pub fn export_all_audit(self: &Arc<Self>, filter: AuditFilter) -> AuditExport {
        let look = AuditLook { filter, oldest_first: true, limit: EXPORT_BATCH, ..AuditLook::default() };
        AuditExport { authority: Arc::clone(self), look, redacted_for: None, read: 0, ended: false }
    }

    /// The account that is meant by an id or an e-mail address.
    pub async fn account_id(&self, text: &str) -> Result<Uuid, AuthorityError> {
        match text.parse() {
            Ok(user_id) => Ok(user_id),
            Err(_) => Ok(self.account(text).await?.user_id),
        }
    }

    /// What an account is called now, if it is there.
    pub async fn email_of(&self, user_id: Uuid) -> Result<Option<String>, AuthorityError> {
        Ok(self.store.user_by_id(user_id).await?.map(|user| user.email))
    }

    /// Whether the caller may read everybody's entries.
    pub fn may_read_all_audit(&self, by: &Principal) -> Result<(), AuthorityError> {
        self.require(by, &Scope::ApiRead)?;
        if by.is_admin() { Ok(()) } else { Err(AuthorityError::NotAdministrator) }
    }

    async fn audit(&self, by: &Principal, look: AuditLook) -> Result<AuditPage, AuthorityError> {
        let limit = look.limit.clamp(1, MAX_AUDIT_PAGE);
        // One more says whether there is another page.
        let records = self.store.audit_page(&AuditLook { limit: limit + 1, ..look }).await?;
        let shown = &records[..records.len().min(usize::try_from(limit).unwrap_or(usize::MAX))];
        let next = match shown.last() {
            Some(last) if shown.len() < records.len() => Some(place(last)?),
            _ => None,
        };
        let mut entries = shown.iter().map(Audited::of).collect::<Result<Vec<_>, _>>()?;
        if let Some(own) = by.pat_id_without_tokens() {
            entries.iter_mut().for_each(|audited| {
                redact(&mut audited.entry, own);
            });
        }
        Ok(AuditPage { entries, next })
    }
}
