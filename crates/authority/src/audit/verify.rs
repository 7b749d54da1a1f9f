//! Whether the audit log is as it was written: each entry, the chain, its two ends, and the seals.

use std::fmt;

use jiff::Timestamp;

use super::{
    AUDIT_BEGINNING, AuditColumns, AuditEnds, AuditEntry, AuditLink, AuditRecord, AuditSeal, CUT, CUT_HASH,
    CUT_THROUGH, chained, hex,
};
use crate::authority::Authority;
use crate::store::StoreError;

/// How many entries, and seals, are read at once.
const BATCH: u64 = 500;
/// How often it begins anew because old entries were cut off meanwhile.
const TRIES: usize = 8;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// How many entries were read.
    pub entries: u64,
    /// The last entry that was cut off; 0 if none was.
    pub cut: u64,
    /// When the first and the last of them were.
    pub span: Option<(Timestamp, Timestamp)>,
    /// How many seals were checked.
    pub seals: u64,
    /// The last of them: its entry, and when it was made.
    pub sealed: Option<(u64, Timestamp)>,
    /// The first thing that is wrong.
    pub flaw: Option<AuditFlaw>,
}

/// Something is wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditFlaw {
    /// Entries are not there.
    Missing {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// An entry's hash is not what it and the one before it make: it was changed, or put where
    /// another was.
    Changed(u64),
    /// An entry holds together, and is none.
    Unreadable(u64),
    /// What is repeated of an entry is not what it says.
    Column {
        /// The entry.
        seq: u64,
        /// Which column.
        column: &'static str,
    },
    /// A seal is none of this server's for this entry: it was forged, or what is up to the entry
    /// was made anew.
    Seal {
        /// The entry.
        seq: u64,
        /// The last entry whose seal is good.
        good: Option<u64>,
    },
    /// A seal is there, and its entry is behind the end.
    CutShort {
        /// The sealed entry.
        sealed: u64,
        /// The last entry.
        last: u64,
    },
    /// What the store has as the last entry is not the last.
    Head {
        /// Which it should be.
        head: u64,
        /// Which it is.
        last: u64,
    },
    /// Old entries are not there, and the log does not tell that they were cut off.
    Beginning {
        /// The last that is not there.
        cut: u64,
    },
}

impl fmt::Display for AuditFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { first, last } if first == last => write!(f, "entry {first} is missing"),
            Self::Missing { first, last } => write!(f, "entries {first} to {last} are missing"),
            Self::Changed(seq) => write!(
                f,
                "entry {seq} was changed or moved: it does not match its hash and the entry before it"
            ),
            Self::Unreadable(seq) => write!(f, "entry {seq} cannot be read"),
            Self::Column { seq, column } => {
                write!(f, "the column `{column}` of entry {seq} does not match the entry")
            }
            Self::Seal { seq, good: None } => {
                write!(
                    f,
                    "the seal of entry {seq} was not made by this server: it was forged, or the entries up to {seq} were replaced"
                )
            }
            Self::Seal { seq, good: Some(good) } => {
                let first = good + 1;
                write!(
                    f,
                    "the seal of entry {seq} was not made by this server: it was forged, or the entries from {first} to {seq} were replaced"
                )
            }
            Self::CutShort { sealed, last } => {
                write!(f, "the end is missing: entry {sealed} was sealed, but the last entry is {last}")
            }
            Self::Head { head, last } if head > last => {
                write!(f, "the end is missing: the last entry should be {head}, but it is {last}")
            }
            Self::Head { head, last } => {
                write!(
                    f,
                    "the head does not match: the last entry should be {head} with the hash of the head, but it is {last}"
                )
            }
            Self::Beginning { cut } => {
                write!(f, "the entries up to {cut} are missing, and no entry says that they were deleted")
            }
        }
    }
}

/// How far it has come.
struct Walk<'a> {
    authority: &'a Authority,
    ends: AuditEnds,
    last: AuditLink,
    /// What the last entry that tells of a cut says was cut off.
    told_cut: Option<(String, String)>,
    seals: Vec<AuditSeal>,
    /// Seals up to here were read.
    read_seals: u64,
    report: AuditReport,
}

/// Why it stops early.
enum Stop {
    Store(StoreError),
    Flaw(AuditFlaw),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Authority {
    /// Goes through the whole audit log. What is added meanwhile may be left out.
    pub async fn verify_audit(&self) -> Result<AuditReport, StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let ends = self.store.audit_ends().await?;
            let mut walk = Walk {
                authority: self,
                ends,
                last: ends.cut,
                told_cut: None,
                seals: Vec::new(),
                read_seals: ends.cut.seq,
                report: AuditReport { cut: ends.cut.seq, ..AuditReport::default() },
            };
            let flaw = match walk.all().await {
                Ok(()) => None,
                Err(Stop::Store(error)) => return Err(error),
                Err(Stop::Flaw(flaw)) => Some(flaw),
            };
            // What was cut off while this read is no flaw.
            if flaw.is_some() && tries < TRIES && self.store.audit_ends().await?.cut != ends.cut {
                continue;
            }
            return Ok(AuditReport { flaw, ..walk.report });
        }
    }
}

impl Walk<'_> {
    async fn all(&mut self) -> Result<(), Stop> {
        if self.ends.cut.seq == 0 && self.ends.cut.hash != AUDIT_BEGINNING {
            return Err(Stop::Flaw(AuditFlaw::Beginning { cut: 0 }));
        }
        while self.last.seq < self.ends.head.seq {
            let records = self.batch().await?;
            if records.is_empty() {
                break;
            }
            for record in records {
                self.entry(&record)?;
                self.sealed().await?;
                if self.last.seq == self.ends.head.seq {
                    break;
                }
            }
        }
        self.end().await
    }

    /// The next entries. What the store cannot read is found one by one.
    async fn batch(&self) -> Result<Vec<AuditRecord>, Stop> {
        let store = &self.authority.store;
        match store.audit_after(self.last.seq, BATCH).await {
            Err(StoreError::Corrupt(_)) => match store.audit_after(self.last.seq, 1).await {
                Err(StoreError::Corrupt(_)) => Err(Stop::Flaw(AuditFlaw::Unreadable(self.last.seq + 1))),
                one => Ok(one?),
            },
            batch => Ok(batch?),
        }
    }

    fn entry(&mut self, record: &AuditRecord) -> Result<(), Stop> {
        let seq = self.last.seq + 1;
        if record.seq != seq {
            return Err(Stop::Flaw(AuditFlaw::Missing { first: seq, last: record.seq - 1 }));
        }
        let hash = chained(&self.last.hash, seq, &record.entry);
        if hash != record.hash {
            return Err(Stop::Flaw(AuditFlaw::Changed(seq)));
        }
        let entry =
            AuditEntry::from_bytes(&record.entry).map_err(|_| Stop::Flaw(AuditFlaw::Unreadable(seq)))?;
        if let Some(column) = differing(&record.columns, &AuditColumns::of(&entry)) {
            return Err(Stop::Flaw(AuditFlaw::Column { seq, column }));
        }
        if entry.action == CUT {
            let told = |name| entry.details.get(name).cloned().unwrap_or_default();
            self.told_cut = Some((told(CUT_THROUGH), told(CUT_HASH)));
        }
        self.last = AuditLink { seq, hash };
        self.report.entries += 1;
        let first = self.report.span.map_or(entry.at, |(first, _)| first);
        self.report.span = Some((first, entry.at));
        Ok(())
    }

    /// Checks the last entry's seal, if it has one.
    async fn sealed(&mut self) -> Result<(), Stop> {
        if self.seals.is_empty() && self.read_seals < self.last.seq {
            self.seals = self.authority.store.audit_seals(self.read_seals, BATCH).await?;
            // From the back: they are taken in order.
            self.seals.reverse();
            self.read_seals = self.seals.first().map_or(self.ends.head.seq, |last| last.seq);
        }
        let Some(seal) = self.seals.pop_if(|seal| seal.seq <= self.last.seq) else { return Ok(()) };
        if !self.authority.seal_keys.iter().any(|key| key.made(&seal, &self.last)) {
            let good = self.report.sealed.map(|(good, _)| good);
            return Err(Stop::Flaw(AuditFlaw::Seal { seq: seal.seq, good }));
        }
        self.report.seals += 1;
        self.report.sealed = Some((seal.seq, seal.at));
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Stop> {
        let AuditEnds { cut, head } = self.ends;
        if head != self.last {
            return Err(Stop::Flaw(AuditFlaw::Head { head: head.seq, last: self.last.seq }));
        }
        let store = &self.authority.store;
        // What has come since has moved the head.
        let behind = store.audit_after(head.seq, 1).await?;
        let sealed = store.audit_seals(head.seq, 1).await?;
        let now = store.audit_ends().await?.head;
        if let Some(behind) = behind.first()
            && now.seq < behind.seq
        {
            return Err(Stop::Flaw(AuditFlaw::Head { head: now.seq, last: behind.seq }));
        }
        if let Some(seal) = sealed.first()
            && now.seq < seal.seq
        {
            return Err(Stop::Flaw(AuditFlaw::CutShort { sealed: seal.seq, last: now.seq }));
        }
        let told = self.told_cut.as_ref().map(|(through, hash)| (through.as_str(), hash.as_str()));
        let (through, hash) = (cut.seq.to_string(), hex(&cut.hash));
        let is = (cut.seq > 0).then_some((through.as_str(), hash.as_str()));
        if told == is { Ok(()) } else { Err(Stop::Flaw(AuditFlaw::Beginning { cut: cut.seq })) }
    }
}

/// The first column that is not as it should be.
fn differing(found: &AuditColumns, should: &AuditColumns) -> Option<&'static str> {
    [
        ("at", found.at == should.at),
        ("action", found.action == should.action),
        ("actor_user_id", found.actor_user_id == should.actor_user_id),
        ("actor_pat_id", found.actor_pat_id == should.actor_pat_id),
        ("user_id", found.user_id == should.user_id),
        ("pat_id", found.pat_id == should.pat_id),
    ]
    .into_iter()
    .find_map(|(column, same)| (!same).then_some(column))
}
