//! Whatever is changed in the rows of the audit log is found by its verification.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use support::World;
use trustrelay_authority::*;
use uuid::Uuid;

/// How many damages are tried: at some 5 ms each, 2 s.
const CASES: u32 = 400;
/// How many entries there are, each but the last few with a seal.
const ENTRIES: usize = 12;
const SEALED: usize = 8;

#[derive(Debug, Clone)]
enum Damage {
    Entry {
        bit: usize,
    },
    EntryCut {
        by: usize,
    },
    Hash {
        bit: usize,
    },
    Seq {
        to: u64,
    },
    At {
        by: i64,
    },
    Action {
        to: String,
    },
    Ids {
        which: usize,
    },
    Removed {
        many: usize,
    },
    Swapped {
        with: usize,
    },
    /// A copy at the end, which the head does not know.
    Added,
    /// Another entry in its place, and the chain made anew from there on, with a head that fits.
    Forged {
        details: u64,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<usize>().prop_map(|bit| Damage::Entry { bit }),
        (1_usize..40).prop_map(|by| Damage::EntryCut { by }),
        (0_usize..256).prop_map(|bit| Damage::Hash { bit }),
        any::<u64>().prop_map(|to| Damage::Seq { to }),
        any::<i64>().prop_filter("a change", |by| *by != 0).prop_map(|by| Damage::At { by }),
        "[a-z.]{0,8}".prop_map(|to| Damage::Action { to }),
        (0_usize..4).prop_map(|which| Damage::Ids { which }),
        (1_usize..4).prop_map(|many| Damage::Removed { many }),
        (0..ENTRIES).prop_map(|with| Damage::Swapped { with }),
        Just(Damage::Added),
        any::<u64>().prop_map(|details| Damage::Forged { details }),
    ]
}

/// Does the damage at one entry; whether it changed anything.
fn damaged(log: &mut contract::AuditRows, at: usize, damage: &Damage) -> bool {
    let records = &mut log.records;
    let before = format!("{records:?}");
    match damage {
        Damage::Entry { bit } => {
            let bits = records[at].entry.len() * 8;
            let bit = bit % bits;
            records[at].entry[bit / 8] ^= 1 << (bit % 8);
        }
        Damage::EntryCut { by } => {
            let left = records[at].entry.len().saturating_sub(*by);
            records[at].entry.truncate(left);
        }
        Damage::Hash { bit } => records[at].hash[bit / 8] ^= 1 << (bit % 8),
        Damage::Seq { to } => records[at].seq = *to,
        Damage::At { by } => records[at].columns.at = records[at].columns.at.wrapping_add(*by),
        Damage::Action { to } => records[at].columns.action = to.clone(),
        Damage::Ids { which } => {
            let columns = &mut records[at].columns;
            let ids = [
                &mut columns.actor_user_id,
                &mut columns.actor_pat_id,
                &mut columns.user_id,
                &mut columns.pat_id,
            ];
            for (id, _) in ids.into_iter().zip(0..).filter(|(_, n)| n == which) {
                *id = if id.is_some() { None } else { Some(Uuid::now_v7()) };
            }
        }
        Damage::Removed { many } => {
            let end = (at + many).min(records.len());
            records.drain(at..end);
        }
        Damage::Swapped { with } => {
            records.swap(at, *with);
            // Rows are read by their numbers.
            let seq = records[at].seq;
            records[at].seq = std::mem::replace(&mut records[*with].seq, seq);
        }
        Damage::Added => {
            let seq = records.last().map_or(0, |last| last.seq) + 1;
            let again = AuditRecord { seq, ..records[at].clone() };
            records.push(again);
        }
        Damage::Forged { details } => {
            // Of what no seal covers yet nothing can be said.
            let at = at % SEALED;
            let forged = AuditEntry::new(Timestamp::UNIX_EPOCH, Actor::SYSTEM, "forged").with("n", details);
            records[at].entry = forged.to_bytes().expect("bytes");
            records[at].columns = AuditColumns::of(&forged);
            let mut last = if at == 0 { AUDIT_BEGINNING } else { records[at - 1].hash };
            for record in &mut records[at..] {
                record.hash = chained(&last, record.seq, &record.entry);
                last = record.hash;
            }
            log.head = log.records.last().map(|last| AuditLink { seq: last.seq, hash: last.hash });
        }
    }
    format!("{:?}", log.records) != before
}

async fn sealed() -> World {
    let world = World::new().await;
    // An account was added: that is the first entry.
    for n in 1..ENTRIES {
        world.clock.advance(Duration::from_secs(1));
        let id = Uuid::from_u128(n as u128);
        let entry = AuditEntry::new(world.clock.now(), Actor::SYSTEM, "test").of_user(id).with("n", n);
        world.store.append_audit(&[entry]).await.expect("appended");
        if n < SEALED {
            world.authority.seal_audit().await.expect("sealed");
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_change_of_a_row_is_found(at in 0..ENTRIES, damage in damage()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runs");
        runtime.block_on(async {
            let world = sealed().await;
            let report = world.authority.verify_audit().await.expect("asks");
            assert_eq!((report.flaw, report.entries), (None, ENTRIES as u64));
            let mut changed = false;
            world.store.tamper(|log| changed = damaged(log, at, &damage));
            let flaw = world.authority.verify_audit().await.expect("asks").flaw;
            assert_eq!(flaw.is_some(), changed, "{damage:?} at {at}: {flaw:?}");
        });
    }
}
