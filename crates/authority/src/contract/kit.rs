//! What the stories are told with.

use std::sync::LazyLock;

use jiff::Timestamp;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

use crate::audit::{Actor, AuditEntry};
use crate::record::{LogEntry, PatRecord, SessionRecord, UserRecord};
use crate::store::{Revocation, Store};

/// When the stories begin, in microseconds: 2026-04-07T12:00:00.000001Z. It isn't a whole second,
/// so that a store which cuts times short is noticed.
const BEGINNING: i64 = 1_775_563_200_000_001;
/// A limit that no story reaches.
pub(super) const MANY: u64 = 1000;

/// So many microseconds after the stories' beginning.
pub(super) fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(BEGINNING + micros).expect("in range")
}

/// What the audit log says of a change whose entry is no part of the story.
pub static AUDIT: LazyLock<AuditEntry> = LazyLock::new(|| AuditEntry::new(at(0), Actor::SYSTEM, "test"));

/// An account that is not in a store yet.
pub(super) fn user(email: &str) -> UserRecord {
    UserRecord {
        user_id: Uuid::now_v7(),
        email: email.to_owned(),
        password_hash: "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA".to_owned(),
        is_admin: false,
        created_at: at(0),
        disabled_at: None,
        upstreams: None,
    }
}

/// An account that is in the store.
pub(super) async fn added(store: &dyn Store, email: &str) -> UserRecord {
    let user = user(email);
    store.insert_user(&user, &AUDIT).await.expect("added");
    user
}

/// A token that is not in a store yet: made at 0, good for a second.
pub(super) fn pat(owner: &UserRecord) -> PatRecord {
    let pat_id = Uuid::now_v7();
    PatRecord {
        pat_id,
        user_id: owner.user_id,
        name: "ci-pipeline".to_owned(),
        hint: "...wxyz".to_owned(),
        scopes: "mcp tokens".parse().expect("scopes"),
        digest: TokenDigest::from_bytes(digest(pat_id)),
        key_id: KeyId(7),
        parent_id: None,
        created_at: at(0),
        expires_at: at(1_000_000),
        revoked_at: None,
        last_used_at: None,
        rotated_at: None,
        limits: None,
    }
}

/// A token that was made with another.
pub(super) fn child(parent: &PatRecord) -> PatRecord {
    let pat_id = Uuid::now_v7();
    let digest = TokenDigest::from_bytes(digest(pat_id));
    PatRecord { pat_id, digest, parent_id: Some(parent.pat_id), ..parent.clone() }
}

/// A token that is in the store.
pub(super) async fn issued(store: &dyn Store, owner: &UserRecord) -> PatRecord {
    insert(store, pat(owner)).await
}

/// Puts a token into the store.
pub(super) async fn insert(store: &dyn Store, pat: PatRecord) -> PatRecord {
    store.insert_pat(&pat, MANY, &AUDIT).await.expect("inserted");
    pat
}

/// A revocation that nobody is told of.
pub(super) fn untold(pat_id: Uuid) -> Revocation {
    Revocation::untold(pat_id, AUDIT.clone())
}

/// A token as the store has it.
pub(super) async fn stored(store: &dyn Store, pat: &PatRecord) -> PatRecord {
    store.pat_by_id(pat.pat_id).await.expect("asks").expect("there")
}

/// A browser session that is not in a store yet: begun at 0, good for a second.
pub(super) fn session(owner: &UserRecord) -> SessionRecord {
    SessionRecord {
        digest: digest(Uuid::now_v7()),
        user_id: owner.user_id,
        created_at: at(0),
        expires_at: at(1_000_000),
    }
}

/// A browser session that is in the store.
pub(super) async fn signed_in(store: &dyn Store, owner: &UserRecord) -> SessionRecord {
    let session = session(owner);
    store.insert_session(&session, &AUDIT).await.expect("inserted");
    session
}

/// Whether the store has a session.
pub(super) async fn has_session(store: &dyn Store, session: &SessionRecord) -> bool {
    store.session_by_digest(&session.digest).await.expect("asks").is_some()
}

/// All entries of the log after `seq`.
pub(super) async fn log_after(store: &dyn Store, seq: u64) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    loop {
        let more = store.log_after(seq + entries.len() as u64).await.expect("asks");
        if more.is_empty() {
            return entries;
        }
        entries.extend(more);
    }
}

/// The log's only entry.
pub(super) async fn only_entry(store: &dyn Store) -> LogEntry {
    let mut log = log_after(store, 0).await;
    assert_eq!(log.len(), 1, "{log:?}");
    log.remove(0)
}

fn digest(id: Uuid) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(id.as_bytes());
    // The random end first: an index goes by the first bytes.
    digest[16..].copy_from_slice(id.as_bytes());
    digest.reverse();
    digest
}
