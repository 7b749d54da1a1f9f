//! Stores in databases of the shared cluster.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::ops::Deref;
use std::sync::Mutex;

use tokio_postgres::{Client, NoTls};
use trustrelay_store::PostgresStore;

use crate::cluster::Cluster;

/// Stores that are no longer used. Emptying one is faster than creating one.
static USED: Mutex<Vec<(PostgresStore, String)>> = Mutex::new(Vec::new());

const EMPTY: &str = "DELETE FROM log_pats; DELETE FROM log_secrets; DELETE FROM log; DELETE FROM rotations; DELETE FROM retired_secrets; DELETE FROM former_digests; DELETE FROM call_days; DELETE FROM latest_calls; DELETE FROM pat_networks; DELETE FROM browser_sessions; \
     DELETE FROM deliveries; DELETE FROM notices; DELETE FROM webhooks; \
     DELETE FROM pats; DELETE FROM users; DELETE FROM nodes; DELETE FROM cuts; DELETE FROM meta; DELETE FROM audit; UPDATE log_head SET seq = 0; \
     DELETE FROM audit_seals; DELETE FROM invites; UPDATE policy SET version = 0, entry = '{}'; \
     UPDATE audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex'); UPDATE audit_cut SET seq = 0, hash = decode(repeat('00', 32), 'hex')";

/// An empty store in a database of its own.
pub struct Fresh {
    store: Option<PostgresStore>,
    pub database: String,
    /// True if the store may be used again.
    lasts: bool,
}

impl Fresh {
    pub async fn open() -> Self {
        let database = Cluster::shared().database();
        let store = PostgresStore::open(&Cluster::shared().url(&database)).await.expect("opens");
        Self { store: Some(store), database, lasts: false }
    }

    /// Returns a store that may have been used and emptied before. It works as usual, but its
    /// listener is gone if that was in another test.
    pub async fn emptied() -> Self {
        let used = USED.lock().expect("whole").pop();
        match used {
            Some((store, database)) => {
                client(&database).await.batch_execute(EMPTY).await.expect("emptied");
                Self { store: Some(store), database, lasts: true }
            }
            None => {
                let mut fresh = Self::open().await;
                fresh.lasts = true;
                fresh
            }
        }
    }

    /// Returns another node on the same database.
    pub async fn again(&self) -> PostgresStore {
        PostgresStore::open(&Cluster::shared().url(&self.database)).await.expect("opens")
    }

    /// Returns a separate connection to the database.
    pub async fn client(&self) -> Client {
        client(&self.database).await
    }
}

impl Deref for Fresh {
    type Target = PostgresStore;

    fn deref(&self) -> &PostgresStore {
        self.store.as_ref().expect("until it is dropped")
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // A store that a failed test leaves behind is not used again.
        if self.lasts
            && !std::thread::panicking()
            && let (Some(store), Ok(mut used)) = (self.store.take(), USED.lock())
        {
            used.push((store, std::mem::take(&mut self.database)));
        }
    }
}

pub async fn client(database: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&Cluster::shared().url(database), NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}
