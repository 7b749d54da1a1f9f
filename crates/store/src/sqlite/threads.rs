//! The threads that use the file: one writer and a few readers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use trustrelay_authority::StoreError;

use crate::sqlite::errors::failed;
use crate::sqlite::open::{OpenError, SqliteOptions, connect};

/// Maximum number of changes in one commit. At about 10 µs each, a commit takes less than 10 ms of
/// work.
const MAX_GROUP: usize = 500;
/// Maximum number of queued changes, and of queued reads per thread. Beyond it, callers wait.
const QUEUE: usize = 1024;

/// A change. It runs in a transaction, or receives the reason why there is none. It returns the
/// answer, which is called once the outcome of the commit is known, and the change's own error, if
/// any.
type Change = Box<dyn FnOnce(Result<&Connection, StoreError>) -> (Answer, Option<StoreError>) + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

pub(crate) struct Threads {
    changes: Option<mpsc::Sender<Change>>,
    reads: Vec<mpsc::Sender<Read>>,
    next_reader: AtomicUsize,
    pub(crate) commits: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
}

fn gone() -> StoreError {
    StoreError::Unavailable("the database is closed".into())
}

fn lost() -> StoreError {
    StoreError::Unavailable("the transaction was given up".into())
}

impl Threads {
    pub(crate) fn start(path: &Path, options: &SqliteOptions) -> Result<Self, OpenError> {
        let commits = Arc::new(AtomicU64::new(0));
        let (changes, waiting) = mpsc::channel(QUEUE);
        let connection = connect(path, options)?;
        let counted = commits.clone();
        let writer = spawn("store-writer", path, move || write_all(connection, waiting, &counted))?;
        let mut readers = Vec::new();
        let mut reads = Vec::new();
        for _ in 0..options.readers.max(1) {
            let connection = connect(path, options)?;
            let (sender, mut waiting) = mpsc::channel::<Read>(QUEUE);
            readers.push(spawn("store-reader", path, move || {
                while let Some(read) = waiting.blocking_recv() {
                    read(&connection);
                }
            })?);
            reads.push(sender);
        }
        Ok(Self {
            changes: Some(changes),
            reads,
            next_reader: AtomicUsize::new(0),
            commits,
            writer: Some(writer),
            readers,
        })
    }

    /// Runs a read on one of the reader threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        let turn = self.next_reader.fetch_add(1, Ordering::Relaxed) % self.reads.len();
        let work: Read = Box::new(move |connection| {
            // The caller may have been dropped.
            let _ = sender.send(read(connection));
        });
        self.reads.get(turn).ok_or_else(gone)?.send(work).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Runs a change in the next commit. Returns once it is on disk.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        let work: Change = Box::new(move |connection| {
            let outcome = connection.and_then(|connection| in_savepoint(connection, change));
            let wrong = outcome.as_ref().err().cloned();
            let answer: Answer = Box::new(move |committed| {
                let _ = sender.send(committed.and(outcome));
            });
            (answer, wrong)
        });
        self.changes.as_ref().ok_or_else(gone)?.send(work).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Threads {
    /// Closes the writer last and alone. Only the last connection checkpoints the write-ahead log
    /// and deletes it, and two connections that close at the same time each take the other for one
    /// that stays open.
    fn drop(&mut self) {
        self.reads.clear();
        self.readers.drain(..).for_each(ended);
        self.changes = None;
        self.writer.take().into_iter().for_each(ended);
    }
}

fn ended(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a database thread panicked");
    }
}

fn spawn(name: &str, path: &Path, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|cause| OpenError::Directory { path: path.to_owned(), cause })
}

/// Runs a change in a savepoint, so that its failure does not affect the others of its group.
fn in_savepoint<T>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.execute_batch("SAVEPOINT one").map_err(|error| failed(&error))?;
    let outcome = change(connection);
    if connection.is_autocommit() {
        // SQLite has rolled back the whole transaction, including the savepoint. Its error is the
        // reason.
        return outcome.and_then(|_| Err(lost()));
    }
    let end = if outcome.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
    connection.execute_batch(end).map_err(|error| failed(&error))?;
    outcome
}

fn write_all(mut connection: Connection, mut waiting: mpsc::Receiver<Change>, commits: &AtomicU64) {
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        let mut answers = Vec::with_capacity(group.len());
        let committed = commit(&mut connection, group, &mut answers);
        match &committed {
            Ok(()) => {
                commits.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, changes = answers.len(), "could not write changes"),
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}

/// Runs a group of changes in one transaction. Every change gets its answer in any case.
fn commit(
    connection: &mut Connection,
    group: Vec<Change>,
    answers: &mut Vec<Answer>,
) -> Result<(), StoreError> {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            let error = failed(&error);
            answers.extend(group.into_iter().map(|change| change(Err(error.clone())).0));
            return Err(error);
        }
    };
    // When the disk is full, for example, SQLite may roll back the whole transaction. Later changes
    // must not then run outside of it. The whole group fails, with the first change's error.
    let mut given_up = None;
    for change in group {
        let within = given_up.clone().map_or(Ok(&*transaction), Err);
        let (answer, wrong) = change(within);
        answers.push(answer);
        if given_up.is_none() && transaction.is_autocommit() {
            given_up = Some(wrong.unwrap_or_else(lost));
        }
    }
    match given_up {
        Some(cause) => Err(cause),
        None => transaction.commit().map_err(|error| failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::sqlite::open::prepare;

    fn begin(connection: &Connection, key: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO meta (key, value) VALUES (?1, x'00')";
        connection.execute(sql, [key]).map(drop).map_err(|error| failed(&error))
    }

    async fn keys(threads: &Threads) -> Vec<String> {
        let read = |connection: &Connection| {
            let mut statement = connection.prepare("SELECT key FROM meta ORDER BY key")?;
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        };
        threads.read(move |connection| read(connection).map_err(|error| failed(&error))).await.expect("reads")
    }

    fn started() -> (Threads, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let options = SqliteOptions::default();
        let path = prepare(dir.path(), &options).expect("opens");
        (Threads::start(&path, &options).expect("starts"), dir)
    }

    /// Blocks the writer until all of `others` are queued, so that they share one commit.
    async fn in_one_commit<F: Future>(threads: &Threads, others: F) -> F::Output {
        let (begins, begun) = oneshot::channel();
        let (release, released) = channel::<()>();
        let first = threads.write(move |connection| {
            begins.send(()).expect("it is waited for");
            released.recv().expect("it is let go");
            begin(connection, "first")
        });
        let others = async {
            begun.await.expect("it begins");
            tokio::join!(others, async { release.send(()).expect("it waits") }).0
        };
        let (first, others) = tokio::join!(first, others);
        first.expect("it has a commit of its own");
        others
    }

    #[tokio::test]
    async fn a_change_that_fails_after_its_first_step_leaves_nothing_of_it() {
        let (threads, _dir) = started();
        let others = async {
            tokio::join!(
                threads.write(|connection| {
                    begin(connection, "half")?;
                    Err::<(), _>(StoreError::UserGone)
                }),
                threads.write(|connection| begin(connection, "last")),
            )
        };
        let (half, last) = in_one_commit(&threads, others).await;
        assert!(matches!((&half, &last), (Err(StoreError::UserGone), Ok(()))), "{half:?}, {last:?}");
        assert_eq!(threads.commits.load(Ordering::Relaxed), 2);
        assert_eq!(keys(&threads).await, ["first", "last"]);
    }

    #[tokio::test]
    async fn a_transaction_that_is_given_up_takes_all_of_its_group_along() {
        let (threads, _dir) = started();
        let others = async {
            tokio::join!(
                threads.write(|connection| begin(connection, "before")),
                // Simulates SQLite's own rollback when the disk is full.
                threads.write(|connection| {
                    connection.execute_batch("ROLLBACK").map_err(|error| failed(&error))?;
                    Err::<(), _>(StoreError::Unavailable("the disk is full".into()))
                }),
                threads.write(|connection| begin(connection, "after")),
            )
        };
        let (before, lost, after) = in_one_commit(&threads, others).await;
        for answer in [before, lost, after] {
            let Err(StoreError::Unavailable(why)) = answer else { panic!("{answer:?}") };
            assert_eq!(why, "the disk is full", "each is told why, not what came of it");
        }
        assert_eq!(keys(&threads).await, ["first"], "what was refused is not done");
        threads.write(|connection| begin(connection, "again")).await.expect("the next one is not affected");
        assert_eq!(keys(&threads).await, ["again", "first"]);
    }
}
