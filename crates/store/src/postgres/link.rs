//! Connections: a few that are kept, each with what it needs set, and none that hangs.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use trustrelay_authority::StoreError;

use super::errors::{Failure, PostgresOpenError};
use super::url::Target;

/// Connections of one node for everything but its lease. With the lease's own and the one that listens, ten nodes stay below
/// PostgreSQL's usual limit of 100.
pub(super) const CONNECTIONS: usize = 7;
/// Connections for renewals: one renewal runs at a time. Changes that wait for a lock can occupy all other connections, and
/// must not cost this node its lease.
pub(super) const LEASE_CONNECTIONS: usize = 1;
/// How long one try of a transaction may take once it has a connection. Each is a few milliseconds of work.
const WORK: Duration = Duration::from_secs(3);
/// How long a statement waits for a lock. It is shorter than [`WORK`], so that the database's answer (nothing was done, try
/// again) arrives before this node stops waiting and cannot tell.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long the database keeps a transaction open whose node says nothing. A live node answers within a round trip.
const IDLE: Duration = Duration::from_secs(1);
/// How often a transaction is tried that failed without a trace.
///
/// Nodes that are stopped hold row locks for at most `LOCK_WAIT + 2 * IDLE` = 4 s: their connections get a place at the head of
/// the queue within `LOCK_WAIT` or give up, then wait for one idle transaction to be ended, and are ended themselves. A change
/// elsewhere waits for at least `TRIES * LOCK_WAIT` = 6 s, and so outlives them however many nodes and connections were stopped.
const TRIES: u32 = 3;
const _: () = assert!(TRIES as u128 * LOCK_WAIT.as_millis() > LOCK_WAIT.as_millis() + 2 * IDLE.as_millis());
const _: () = assert!(LOCK_WAIT.as_millis() < WORK.as_millis());

/// The settings of every connection, whatever the server's defaults are.
///
/// - The fence's argument is one for READ COMMITTED: a statement sees what was committed before it began.
/// - An answered change is on the disk: a weaker `synchronous_commit` becomes `on`. A stronger one stays.
/// - Waiting for a lock is bounded, and so is a transaction whose node was stopped or cut off.
/// - No `statement_timeout`: while a commit waits for a synchronous standby, it would end the waiting and not the commit, and
///   the commit would be reported as good (PostgreSQL, "Synchronous Replication"). The node's own patience bounds the time instead.
fn settings() -> String {
    format!(
        "SET default_transaction_isolation = 'read committed'; SET statement_timeout = 0; SET lock_timeout = '{}ms'; \
         SET idle_in_transaction_session_timeout = '{}ms'; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')",
        LOCK_WAIT.as_millis(),
        IDLE.as_millis(),
    )
}

/// The connections to one database.
pub(crate) struct Links {
    pool: Pool,
    patience: Duration,
}

impl Links {
    /// At most so many `connections` at a time.
    pub(super) fn new(
        target: &Target,
        tls: MakeRustlsConnect,
        connections: usize,
    ) -> Result<Self, PostgresOpenError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(target.config.clone(), tls, recycling);
        let pool = Pool::builder(manager)
            .max_size(connections)
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async { client.batch_execute(&settings()).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|error| PostgresOpenError::Database {
                at: target.at.clone(),
                cause: error.to_string(),
            })?;
        Ok(Self { pool, patience: target.patience() + WORK })
    }

    /// A connection, for one transaction.
    pub(crate) async fn link(&self) -> Result<Link, Failure> {
        match tokio::time::timeout(self.patience, self.pool.get()).await {
            Ok(object) => Ok(Link { object: Some(object?), transaction: AtomicU8::new(NONE) }),
            Err(_) => Err(self.no_answer()),
        }
    }

    fn no_answer(&self) -> Failure {
        Failure::NoAnswer(format!("it did not answer within {} s", self.patience.as_secs()))
    }

    /// Runs a transaction, and runs it again if it failed and nothing of it can have been committed.
    pub(crate) async fn run<T, F>(&self, transaction: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut tries = 1;
        loop {
            match self.tried(transaction()).await {
                Err(failure) if failure.is_transient() && tries < TRIES => {
                    tries += 1;
                    tracing::debug!(%failure, tries, "nothing of a transaction was done; it is tried again");
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Runs a transaction that its caller repeats in any case.
    pub(super) async fn once<T>(
        &self,
        transaction: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, StoreError> {
        Ok(self.tried(transaction).await?)
    }

    async fn tried<T>(&self, transaction: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let outcome = tokio::time::timeout(self.patience, transaction).await;
        outcome.unwrap_or_else(|_| Err(self.no_answer()))
    }
}

/// The states of a [`Link`]'s transaction: none has begun; it is open and its commit was not sent; its commit was sent.
const NONE: u8 = 0;
const OPEN: u8 = 1;
const COMMITTING: u8 = 2;

/// A connection that goes back to the others only by [`Link::keep`]. If a transaction fails or its caller goes away, the
/// connection is closed instead, and with it whatever it was in the middle of.
pub(crate) struct Link {
    object: Option<Object>,
    transaction: AtomicU8,
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Link {
    fn object(&self) -> Result<&Object, Failure> {
        self.object.as_ref().ok_or_else(|| Failure::NoAnswer("the connection was given back".into()))
    }

    /// A connection that ended in an open transaction whose commit was not sent: the database has undone it.
    fn failed(&self, error: tokio_postgres::Error) -> Failure {
        if error.is_closed() && self.transaction.load(Ordering::SeqCst) == OPEN {
            Failure::Undone(error)
        } else {
            Failure::Database(error)
        }
    }

    /// Prepared once for each connection.
    pub(crate) async fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        Ok(self.object()?.prepare_cached(sql).await?)
    }

    /// Statements without parameters. Sent when first polled.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        if sql.starts_with("BEGIN") {
            self.transaction.store(OPEN, Ordering::SeqCst);
        }
        if sql.ends_with("COMMIT") {
            self.transaction.store(COMMITTING, Ordering::SeqCst);
        }
        self.object()?.batch_execute(sql).await.map_err(|error| self.failed(error))
    }

    /// Sent when first polled: several that are joined make one round trip.
    pub(crate) async fn rows(
        &self,
        sql: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Failure> {
        self.object()?.query(sql, parameters).await.map_err(|error| self.failed(error))
    }

    /// At most one row. Sent when first polled.
    pub(crate) async fn row(
        &self,
        sql: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, Failure> {
        self.object()?.query_opt(sql, parameters).await.map_err(|error| self.failed(error))
    }

    /// How many rows were changed. Sent when first polled.
    pub(crate) async fn count(&self, sql: &Statement, parameters: Parameters<'_>) -> Result<u64, Failure> {
        self.object()?.execute(sql, parameters).await.map_err(|error| self.failed(error))
    }

    /// Gives the connection back: no transaction is open on it.
    pub(crate) fn keep<T>(mut self, value: T) -> T {
        self.object.take();
        value
    }

    /// Ends the transaction without a change, and gives the connection back.
    pub(crate) async fn undo<T>(self, value: T) -> Result<T, Failure> {
        self.batch("ROLLBACK").await?;
        Ok(self.keep(value))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}
