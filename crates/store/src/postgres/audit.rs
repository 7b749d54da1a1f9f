//! The audit log. The database itself chains the entries, so that no node holds the lock on the
//! head's row while it is busy or stopped.

use async_trait::async_trait;
use futures_util::future::{try_join, try_join_all, try_join3};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use trustrelay_authority::{
    AuditAction, AuditColumns, AuditEnds, AuditEntry, AuditLink, AuditLook, AuditRecord, AuditSeal,
    AuditStore, Credential, Power, PowerFacts, StoreError, TokenFacts,
};
use uuid::Uuid;

use super::PostgresStore;
use super::errors::Failure;
use super::link::{Link, Links};
use super::rows::{bytes, corrupt, get, number, optional_time, time, whole};
use crate::sql::audit_page::{COLUMNS, Value, question};

/// Proof that the authority of an entry's actor was checked in the open transaction. For a change,
/// only [`Entry::begin`] creates one, and no entry can be appended without one.
#[derive(Clone, Copy)]
#[must_use = "a change appends its entry with it"]
pub(super) struct Permit(());

/// Locks the acting account. If the action needs an administrator, locks all enabled
/// administrators: every change of an account locks them all in the same order, so that two
/// administrators cannot deadlock. The account's row stays locked until the commit. Meanwhile
/// nobody can disable the account, remove its role, revoke or rotate its tokens or set its
/// password, because each of these changes or locks the row first.
const LOCK_ACCOUNT: &str = "SELECT user_id, disabled_at IS NULL, is_admin FROM users \
     WHERE user_id = $1 OR ($2 AND is_admin AND disabled_at IS NULL) ORDER BY user_id FOR NO KEY UPDATE";
/// Locks the acting session, so that nobody ends it meanwhile.
const LOCK_SESSION: &str =
    "SELECT expires_at FROM browser_sessions WHERE digest = $1 AND user_id = $2 FOR SHARE";
/// Reads the acting token and its secret. This statement runs after the account's lock, so that it
/// sees what earlier holders of the lock have committed.
const LOOK_AT_TOKEN: &str = "SELECT p.revoked_at, p.expires_at, p.digest = $3 OR EXISTS (SELECT 1 FROM former_digests f WHERE f.digest = $3 \
     AND f.pat_id = p.pat_id), r.valid_until, COALESCE(r.ended, FALSE) FROM pats p \
     LEFT JOIN retired_secrets r ON r.digest = $3 AND r.pat_id = p.pat_id WHERE p.pat_id = $1 AND p.user_id = $2";

/// Locks the policy by which a change was judged, so that nobody replaces it meanwhile. It is
/// locked before any account, also by changes that replace it.
const LOCK_POLICY: &str = "SELECT version FROM policy FOR KEY SHARE";
/// Locks the policy that the change replaces.
const LOCK_REPLACED_POLICY: &str = "SELECT version FROM policy FOR UPDATE";

/// An entry to be written, with the values of [`Entry::append`]'s statement.
pub(super) struct Entry<'a> {
    power: Option<&'a Power>,
    /// The version of the policy that must be in effect, and the statement that locks it.
    policy: Option<(u64, &'static str)>,
    bytes: Vec<u8>,
    at: i64,
    action: &'a str,
    actor: (Option<Uuid>, Option<Uuid>),
    concerns: (Option<Uuid>, Option<Uuid>),
}

impl<'a> Entry<'a> {
    pub(super) fn of(entry: &'a AuditEntry) -> Result<Self, StoreError> {
        Ok(Self {
            power: entry.actor.power(),
            policy: entry.actor.policy().map(|seq| (seq, LOCK_POLICY)),
            bytes: entry.to_bytes()?,
            at: entry.at.as_microsecond(),
            action: &entry.action,
            actor: (entry.actor.user_id, entry.actor.pat_id),
            concerns: (entry.user_id, entry.pat_id),
        })
    }

    /// Marks the entry as one of a change that replaces this policy.
    pub(super) fn replacing_policy(self, seq: u64) -> Self {
        Self { policy: Some((seq, LOCK_REPLACED_POLICY)), ..self }
    }

    /// Takes the next number, chains the entry and writes it. The head's row stays locked until the
    /// commit.
    pub(super) async fn statement(link: &Link) -> Result<Statement, Failure> {
        link.prepare(
            "WITH head AS (UPDATE audit_head SET seq = seq + 1, hash = sha256(hash || int8send(seq + 1) || $1) RETURNING seq, hash) \
             INSERT INTO audit (seq, at, action, actor_user_id, actor_pat_id, user_id, pat_id, entry, hash) \
             SELECT seq, $2, $3, $4, $5, $6, $7, $1, hash FROM head",
        )
        .await
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 7] {
        let (by_user, by_pat) = &self.actor;
        let (user, pat) = &self.concerns;
        [&self.bytes, &self.at, &self.action, by_user, by_pat, user, pat]
    }

    /// Begins the change's transaction. Its first step checks that the entry's actor may still act,
    /// and that the policy by which the change was judged is still in effect. If not, nothing was
    /// changed and the connection is returned to the pool.
    pub(super) async fn begin(&self, link: Link) -> Result<(Link, Permit), Failure> {
        let lock = match self.policy {
            Some((_, lock)) => Some(link.prepare(lock).await?),
            None => None,
        };
        let policy = async {
            match &lock {
                Some(lock) => link.row(lock, &[]).await,
                None => Ok(None),
            }
        };
        let facts = async {
            match self.power {
                Some(power) => Ok(Some((power, facts(&link, power).await?))),
                None => Ok(None),
            }
        };
        let ((), policy, facts) = try_join3(link.batch("BEGIN"), policy, facts).await?;
        match self.judge(policy.as_ref(), facts) {
            Ok(()) => Ok((link, Permit(()))),
            Err(refused) => link.undo(Err(refused)).await?,
        }
    }

    fn judge(&self, policy: Option<&Row>, facts: Option<(&Power, PowerFacts)>) -> Result<(), Failure> {
        if let Some((power, facts)) = facts {
            let now = Timestamp::from_microsecond(self.at).map_err(|error| corrupt(error.to_string()))?;
            power.judge(&facts, now).map_err(StoreError::from)?;
        }
        if let Some((seq, _)) = self.policy {
            let present = policy.ok_or_else(|| corrupt("there is no policy"))?;
            if number(present, 0)? != seq {
                return Err(StoreError::PolicyChanged.into());
            }
        }
        Ok(())
    }

    /// Sent when first polled.
    pub(super) async fn append(
        &self,
        link: &Link,
        statement: &Statement,
        Permit(()): Permit,
    ) -> Result<(), Failure> {
        link.count(statement, &self.values()).await.map(drop)
    }
}

/// Reads the facts that decide about an actor's authority, in the open transaction.
async fn facts(link: &Link, power: &Power) -> Result<PowerFacts, Failure> {
    let lock = link.prepare(LOCK_ACCOUNT).await?;
    let lock_session = link.prepare(LOCK_SESSION).await?;
    let look = link.prepare(LOOK_AT_TOKEN).await?;
    let user_id = &power.user_id;
    let credential = async {
        match &power.credential {
            Some(Credential::Session(digest)) => link.row(&lock_session, &[&&digest[..], user_id]).await,
            Some(Credential::Secret { pat_id, digest }) => {
                link.row(&look, &[pat_id, user_id, &&digest.as_bytes()[..]]).await
            }
            None => Ok(None),
        }
    };
    let (accounts, credential) = try_join(link.rows(&lock, &[user_id, &power.admin]), credential).await?;
    let mut facts = PowerFacts::default();
    for account in &accounts {
        if get::<Uuid>(account, 0)? == power.user_id {
            (facts.is_enabled, facts.is_admin) = (get(account, 1)?, get(account, 2)?);
        }
    }
    match (&power.credential, &credential) {
        (Some(Credential::Session(_)), Some(row)) => facts.session_expires_at = Some(time(row, 0)?),
        (Some(Credential::Secret { .. }), Some(row)) => {
            facts.token = Some(TokenFacts {
                revoked_at: optional_time(row, 0)?,
                expires_at: time(row, 1)?,
                is_current: get(row, 2)?,
                valid_until: optional_time(row, 3)?,
                has_ended: get(row, 4)?,
            });
        }
        _ => {}
    }
    Ok(facts)
}

/// Appends entries that describe no change, such as a refusal. They need no authority.
async fn append(links: &Links, entries: &[AuditEntry]) -> Result<(), Failure> {
    let entries = entries.iter().map(Entry::of).collect::<Result<Vec<_>, _>>()?;
    let link = links.link().await?;
    let statement = Entry::statement(&link).await?;
    let all = try_join_all(entries.iter().map(|entry| entry.append(&link, &statement, Permit(()))));
    let ((), (_, ())) = try_join(link.batch("BEGIN"), try_join(all, link.batch("COMMIT"))).await?;
    link.keep(Ok(()))
}

/// Reads an entry from the columns of [`COLUMNS`].
fn record(row: &Row) -> Result<AuditRecord, Failure> {
    let columns = AuditColumns {
        at: get(row, 3)?,
        action: get(row, 4)?,
        actor_user_id: get(row, 5)?,
        actor_pat_id: get(row, 6)?,
        user_id: get(row, 7)?,
        pat_id: get(row, 8)?,
    };
    Ok(AuditRecord { seq: number(row, 0)?, entry: get(row, 1)?, hash: bytes(row, 2)?, columns })
}

fn link_of(row: &Row, at: usize) -> Result<AuditLink, Failure> {
    Ok(AuditLink { seq: number(row, at)?, hash: bytes(row, at + 1)? })
}

async fn after(links: &Links, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, Failure> {
    let link = links.link().await?;
    let select =
        link.prepare(&format!("SELECT {COLUMNS} FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")).await?;
    let found = link.rows(&select, &[&whole(seq), &whole(limit)]).await?;
    link.keep(found.iter().map(record).collect())
}

/// The part of an action before its dot.
const SUBJECT: &str = "split_part(action, '.', 1)";

async fn page(links: &Links, look: &AuditLook) -> Result<Vec<AuditRecord>, Failure> {
    // PostgreSQL cannot store this character in text, and a query with it fails.
    if let Some(AuditAction::One(text) | AuditAction::Subject(text)) = &look.filter.action
        && text.contains('\0')
    {
        return Ok(Vec::new());
    }
    let (sql, values) = question(look, '$', SUBJECT);
    let values: Vec<&(dyn ToSql + Sync)> = values
        .iter()
        .map(|value| match value {
            Value::Number(number) => number as &(dyn ToSql + Sync),
            Value::Id(id) => id,
            Value::Text(text) => text,
        })
        .collect();
    let link = links.link().await?;
    let select = link.prepare(&sql).await?;
    let found = link.rows(&select, &values).await?;
    link.keep(found.iter().map(record).collect())
}

async fn ends(links: &Links) -> Result<AuditEnds, Failure> {
    let link = links.link().await?;
    let select = link.prepare("SELECT c.seq, c.hash, h.seq, h.hash FROM audit_cut c, audit_head h").await?;
    let found = link.row(&select, &[]).await?.ok_or_else(|| corrupt("the audit log has no ends"))?;
    let ends = AuditEnds { cut: link_of(&found, 0)?, head: link_of(&found, 2)? };
    Ok(link.keep(ends))
}

async fn seal(links: &Links, seal: &AuditSeal) -> Result<(), Failure> {
    let link = links.link().await?;
    let insert = link
        .prepare("INSERT INTO audit_seals (seq, at, mac) VALUES ($1, $2, $3) ON CONFLICT (seq) DO NOTHING")
        .await?;
    let mac = seal.mac.as_slice();
    link.count(&insert, &[&whole(seal.seq), &seal.at.as_microsecond(), &mac]).await?;
    link.keep(Ok(()))
}

async fn seals(links: &Links, seq: u64, limit: u64) -> Result<Vec<AuditSeal>, Failure> {
    let link = links.link().await?;
    let select =
        link.prepare("SELECT seq, at, mac FROM audit_seals WHERE seq > $1 ORDER BY seq LIMIT $2").await?;
    let found = link.rows(&select, &[&whole(seq), &whole(limit)]).await?;
    let seal = |row: &Row| Ok(AuditSeal { seq: number(row, 0)?, at: time(row, 1)?, mac: bytes(row, 2)? });
    link.keep(found.iter().map(seal).collect())
}

/// Removes the oldest entries and records the removal. Only another cut can change what the first
/// query has read. The single statement that does the work then detects that it is too late.
async fn cut(links: &Links, before: i64, limit: u64, told: &AuditEntry) -> Result<u64, Failure> {
    let link = links.link().await?;
    let old = link
        .prepare(
            "SELECT a.seq, a.hash, a.at, c.seq FROM audit a, audit_cut c WHERE a.seq < (SELECT seq FROM audit_head) ORDER BY a.seq LIMIT $1",
        )
        .await?;
    let (mut through, mut count, mut last_cut) = (None, 0, 0);
    for row in link.rows(&old, &[&whole(limit)]).await? {
        if get::<i64>(&row, 2)? >= before {
            break;
        }
        (through, count, last_cut) = (Some(link_of(&row, 0)?), count + 1, get::<i64>(&row, 3)?);
    }
    let Some(through) = through else { return Ok(link.keep(0)) };
    let told = told.clone().of_cut(&through);
    let told = Entry::of(&told)?;
    let cut = link
        .prepare(
            "WITH cut AS (UPDATE audit_cut SET seq = $8, hash = $9 WHERE seq = $10 RETURNING seq), \
             entries AS (DELETE FROM audit a USING cut WHERE a.seq <= cut.seq), \
             seals AS (DELETE FROM audit_seals s USING cut WHERE s.seq <= cut.seq), \
             head AS (UPDATE audit_head h SET seq = h.seq + 1, hash = sha256(h.hash || int8send(h.seq + 1) || $1) FROM cut RETURNING h.seq, h.hash) \
             INSERT INTO audit (seq, at, action, actor_user_id, actor_pat_id, user_id, pat_id, entry, hash) \
             SELECT seq, $2, $3, $4, $5, $6, $7, $1, hash FROM head",
        )
        .await?;
    let (seq, hash) = (whole(through.seq), through.hash.as_slice());
    let [bytes, at, action, by_user, by_pat, user, pat] = told.values();
    let values = [bytes, at, action, by_user, by_pat, user, pat, &seq, &hash, &last_cut];
    let done = link.count(&cut, &values).await?;
    Ok(link.keep(if done == 0 { 0 } else { count }))
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.links().run(|| append(self.links(), entries)).await
    }

    async fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, StoreError> {
        self.links().run(|| after(self.links(), seq, limit)).await
    }

    async fn audit_page(&self, look: &AuditLook) -> Result<Vec<AuditRecord>, StoreError> {
        self.links().run(|| page(self.links(), look)).await
    }

    async fn audit_ends(&self) -> Result<AuditEnds, StoreError> {
        self.links().run(|| ends(self.links())).await
    }

    async fn seal_audit(&self, made: &AuditSeal) -> Result<(), StoreError> {
        self.links().run(|| seal(self.links(), made)).await
    }

    async fn audit_seals(&self, seq: u64, limit: u64) -> Result<Vec<AuditSeal>, StoreError> {
        self.links().run(|| seals(self.links(), seq, limit)).await
    }

    async fn cut_audit(&self, before: Timestamp, limit: u64, entry: &AuditEntry) -> Result<u64, StoreError> {
        self.links().run(|| cut(self.links(), before.as_microsecond(), limit, entry)).await
    }
}
