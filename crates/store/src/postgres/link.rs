//! Connections to the database: a small pool with the required settings and with time limits.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use trustrelay_authority::StoreError;

use super::errors::{Failure, PostgresOpenError};
use super::url::Target;

/// Number of a node's connections for everything but its lease. Including the lease's connection
/// and the listening one, ten nodes stay below PostgreSQL's default limit of 100.
pub(super) const CONNECTIONS: usize = 7;
/// Number of connections for renewals. One renewal runs at a time. Changes that wait for a lock can
/// occupy all other connections, and must not cost this node its lease.
pub(super) const LEASE_CONNECTIONS: usize = 1;
/// Time limit for one attempt of a transaction, once it has a connection. The actual work takes a
/// few milliseconds.
const WORK: Duration = Duration::from_secs(3);
/// Time limit for a statement to wait for a lock. It is shorter than [`WORK`], so that the
/// database's answer (nothing was done, try again) arrives before this node gives up without
/// knowing the outcome.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// The time after which the database ends an idle transaction. A live node answers within a round
/// trip.
const IDLE: Duration = Duration::from_secs(1);
/// Number of attempts for a transaction that failed without an effect.
///
/// Stopped nodes hold row locks for at most `LOCK_WAIT + 2 * IDLE` = 4 s. Their connections reach
/// the head of the queue within `LOCK_WAIT` or give up. Then they wait for one idle transaction to
/// be ended, and are ended themselves. A change on another node waits for at least `TRIES *
/// LOCK_WAIT` = 6 s. It therefore outlives them, however many nodes and connections were stopped.
const TRIES: u32 = 3;
const _: () = assert!(TRIES as u128 * LOCK_WAIT.as_millis() > LOCK_WAIT.as_millis() + 2 * IDLE.as_millis());
const _: () = assert!(LOCK_WAIT.as_millis() < WORK.as_millis());

/// The settings of every connection, regardless of the server's defaults.
///
/// - The fence's correctness depends on READ COMMITTED: a statement sees everything that was
///   committed before it began.
/// - An acknowledged change is on disk: a weaker `synchronous_commit` is raised to `on`. A stronger
///   one is kept.
/// - The time to wait for a lock is limited, and so is a transaction whose node was stopped or
///   disconnected.
/// - There is no `statement_timeout`. While a commit waits for a synchronous standby, it would end
///   the wait but not the commit, and the commit would be reported as successful (PostgreSQL,
///   "Synchronous Replication"). The node's own time limit applies instead.
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
    /// Creates a pool of at most this many `connections`.
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

    /// Takes a connection for one transaction.
    pub(crate) async fn link(&self) -> Result<Link, Failure> {
        match tokio::time::timeout(self.patience, self.pool.get()).await {
            Ok(object) => Ok(Link { object: Some(object?), transaction: AtomicU8::new(NONE) }),
            Err(_) => Err(self.no_answer()),
        }
    }

    fn no_answer(&self) -> Failure {
        Failure::NoAnswer(format!("it did not answer within {} s", self.patience.as_secs()))
    }

    /// Runs a transaction. Retries it if it failed and certainly was not committed.
    pub(crate) async fn run<T, F>(&self, transaction: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut tries = 1;
        loop {
            match self.tried(transaction()).await {
                Err(failure) if failure.is_transient() && tries < TRIES => {
                    tries += 1;
                    tracing::debug!(%failure, tries, "a transaction was rolled back; trying it again");
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Runs a transaction once, for callers that repeat it in any case.
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

/// The states of a [`Link`]'s transaction: not begun; open with the commit not sent; commit sent.
const NONE: u8 = 0;
const OPEN: u8 = 1;
const COMMITTING: u8 = 2;

/// A connection that only [`Link::keep`] returns to the pool. If a transaction fails or its caller
/// is dropped, the connection is closed instead, and its transaction with it.
pub(crate) struct Link {
    object: Option<Object>,
    transaction: AtomicU8,
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Link {
    fn object(&self) -> Result<&Object, Failure> {
        self.object.as_ref().ok_or_else(|| Failure::NoAnswer("the connection was given back".into()))
    }

    /// Classifies an error. If the connection ended in an open transaction whose commit was not
    /// sent, the database has rolled it back.
    fn failed(&self, error: tokio_postgres::Error) -> Failure {
        if error.is_closed() && self.transaction.load(Ordering::SeqCst) == OPEN {
            Failure::Undone(error)
        } else {
            Failure::Database(error)
        }
    }

    /// Prepares a statement, once per connection.
    pub(crate) async fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        Ok(self.object()?.prepare_cached(sql).await?)
    }

    /// Runs statements without parameters. Sent when first polled.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        if sql.starts_with("BEGIN") {
            self.transaction.store(OPEN, Ordering::SeqCst);
        }
        if sql.ends_with("COMMIT") {
            self.transaction.store(COMMITTING, Ordering::SeqCst);
        }
        self.object()?.batch_execute(sql).await.map_err(|error| self.failed(error))
    }

    /// Returns the rows of a query. Sent when first polled, so that joined queries share one round
    /// trip.
    pub(crate) async fn rows(
        &self,
        sql: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Failure> {
        self.object()?.query(sql, parameters).await.map_err(|error| self.failed(error))
    }

    /// Returns at most one row. Sent when first polled.
    pub(crate) async fn row(
        &self,
        sql: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, Failure> {
        self.object()?.query_opt(sql, parameters).await.map_err(|error| self.failed(error))
    }

    /// Returns the number of changed rows. Sent when first polled.
    pub(crate) async fn count(&self, sql: &Statement, parameters: Parameters<'_>) -> Result<u64, Failure> {
        self.object()?.execute(sql, parameters).await.map_err(|error| self.failed(error))
    }

    /// Returns the connection to the pool. No transaction may be open on it.
    pub(crate) fn keep<T>(mut self, value: T) -> T {
        self.object.take();
        value
    }

    /// Rolls the transaction back and returns the connection to the pool.
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
