//! Connections: a few that are kept, each with what it needs set, and none that hangs.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use trustrelay_authority::StoreError;

use super::errors::{Failure, PostgresOpenError};
use super::url::Target;

/// Most connections of one node, beside the one that listens: ten nodes stay below PostgreSQL's usual 100.
const CONNECTIONS: usize = 8;
/// How long a transaction may take once it has a connection. Each is a few milliseconds of work.
const WORK: Duration = Duration::from_secs(3);
/// How often a transaction is tried that was given up for another one's sake.
const TRIES: usize = 3;

/// What every connection is set to, whatever the server's defaults are.
///
/// - The fence's argument is one for READ COMMITTED: a statement sees what was committed before it began.
/// - An answered change is on the disk: a weaker `synchronous_commit` becomes `on`. A stronger one stays.
/// - Who waits for a lock longer than anyone here waits for the answer is let go, and so is a transaction whose node was cut off.
/// - No `statement_timeout`: while a commit waits for a synchronous standby, it would end the waiting and not the commit, and
///   the commit would be reported as good (PostgreSQL, "Synchronous Replication"). The node's own patience bounds the time instead.
const SETTINGS: &str = "SET default_transaction_isolation = 'read committed'; \
     SET statement_timeout = 0; SET lock_timeout = '2500ms'; SET idle_in_transaction_session_timeout = '3s'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

/// The connections to one database.
pub(crate) struct Links {
    pool: Pool,
    patience: Duration,
}

impl Links {
    pub(super) fn new(target: &Target, tls: MakeRustlsConnect) -> Result<Self, PostgresOpenError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(target.config.clone(), tls, recycling);
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async { client.batch_execute(SETTINGS).await.map_err(HookError::Backend) })
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
            Ok(object) => Ok(Link(Some(object?))),
            Err(_) => Err(self.no_answer()),
        }
    }

    fn no_answer(&self) -> Failure {
        Failure::NoAnswer(format!("it did not answer within {} s", self.patience.as_secs()))
    }

    /// Does a transaction within the time that one may take, and again if it was given up for another one's sake.
    pub(crate) async fn run<T, F>(&self, transaction: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let tried = async {
            let mut tries = 1;
            loop {
                match transaction().await {
                    Err(failure) if failure.is_transient() && tries < TRIES => tries += 1,
                    outcome => return outcome,
                }
            }
        };
        let outcome = tokio::time::timeout(self.patience, tried).await;
        Ok(outcome.unwrap_or_else(|_| Err(self.no_answer()))?)
    }
}

/// A connection that goes back to the others only by [`Link::keep`]. If a transaction fails or its caller goes away, the
/// connection is closed instead, and with it whatever it was in the middle of.
pub(crate) struct Link(Option<Object>);

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Link {
    fn object(&self) -> Result<&Object, Failure> {
        self.0.as_ref().ok_or_else(|| Failure::NoAnswer("the connection was given back".into()))
    }

    /// Prepared once for each connection.
    pub(crate) async fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        Ok(self.object()?.prepare_cached(sql).await?)
    }

    /// Statements without parameters. Sent when first polled.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.object()?.batch_execute(sql).await?)
    }

    /// Sent when first polled: several that are joined make one round trip.
    pub(crate) async fn rows(
        &self,
        sql: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Failure> {
        Ok(self.object()?.query(sql, parameters).await?)
    }

    /// At most one row. Sent when first polled.
    pub(crate) async fn row(
        &self,
        sql: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, Failure> {
        Ok(self.object()?.query_opt(sql, parameters).await?)
    }

    /// How many rows were changed. Sent when first polled.
    pub(crate) async fn count(&self, sql: &Statement, parameters: Parameters<'_>) -> Result<u64, Failure> {
        Ok(self.object()?.execute(sql, parameters).await?)
    }

    /// Gives the connection back: no transaction is open on it.
    pub(crate) fn keep<T>(mut self, value: T) -> T {
        self.0.take();
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
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}
