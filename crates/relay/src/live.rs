//! The client sessions in memory, and the ended ones whose ids are still valid.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;
use uuid::Uuid;

use crate::session::Session;

/// Number of ended sessions that are remembered. Their sealed ids are still valid, so this memory
/// prevents them from starting a session again. Each takes 8 bytes, twice.
const REMEMBERED_ENDS: usize = 65_536;

/// The sessions in memory.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Sessions by token, in the order of their arrival.
    pub(crate) live: HashMap<Uuid, Vec<Arc<Session>>>,
    pub(crate) ended: HashSet<u64>,
    ended_order: VecDeque<u64>,
}

impl Sessions {
    pub(crate) fn find(&self, pat_id: Uuid, id: &str) -> Option<&Arc<Session>> {
        self.live.get(&pat_id)?.iter().find(|session| session.id == id)
    }

    pub(crate) fn remove(&mut self, session: &Session) {
        if let Some(theirs) = self.live.get_mut(&session.pat_id) {
            theirs.retain(|other| other.number != session.number);
            if theirs.is_empty() {
                self.live.remove(&session.pat_id);
            }
        }
    }

    pub(crate) fn end(&mut self, number: u64) {
        if self.ended.insert(number) {
            self.ended_order.push_back(number);
        }
        if self.ended_order.len() > REMEMBERED_ENDS
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }
}
