//! Log lines on their way out. A request writes one, and a system call for each would cost it more
//! than putting the line together: they are gathered, and a thread of their own writes with one
//! call what came within a few milliseconds. A process that is killed loses those.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long lines are gathered for one write, from the first on: nobody notices, and at ten
/// thousand requests a second fifty share it.
const GATHERED_FOR: Duration = Duration::from_millis(5);
/// Most bytes that wait to be written. Who comes then waits too, as it would for a slow standard
/// error: no line is lost.
const MAX_WAITING: usize = 1 << 20;

/// Where lines are handed in; cheap to clone.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Told when the first line comes, and the end.
    came: Condvar,
    /// Told when what waited has been taken.
    taken: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    ended: bool,
}

impl Shared {
    /// A panic while it was held leaves whole lines behind.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what waits when it is dropped, and ends the thread. What is handed in later is dropped.
pub(crate) struct Writing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread that writes to `out`.
pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Lines, Writing)> {
    let shared = Arc::<Shared>::default();
    let theirs = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name("log".into()).spawn(move || write_all(&theirs, out))?;
    Ok((Lines(Arc::clone(&shared)), Writing { shared, thread: Some(thread) }))
}

impl Write for Lines {
    /// One whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Self(shared) = self;
        let mut waiting = shared.waiting();
        while waiting.bytes.len() >= MAX_WAITING && !waiting.ended {
            waiting = shared.taken.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.ended {
            return Ok(line.len());
        }
        let is_first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        let is_full = waiting.bytes.len() >= MAX_WAITING;
        drop(waiting);
        if is_first || is_full {
            shared.came.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(shared: &Shared, mut out: impl Write) {
    let mut lines = Vec::new();
    loop {
        let waiting = shared.waiting();
        let waiting = shared.came.wait_while(waiting, |waiting| waiting.bytes.is_empty() && !waiting.ended);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let gathered = shared.came.wait_timeout_while(waiting, GATHERED_FOR, |waiting| {
            waiting.bytes.len() < MAX_WAITING && !waiting.ended
        });
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut lines, &mut waiting.bytes);
        let ended = waiting.ended;
        drop(waiting);
        shared.taken.notify_all();
        // Where standard error is closed there is nobody to tell.
        let _ = out.write_all(&lines);
        lines.clear();
        if ended {
            return;
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.shared.waiting().ended = true;
        self.shared.came.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.taken.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Tells what each call writes, and lets it go on when it is told to.
    struct Told {
        writes: mpsc::Sender<Vec<u8>>,
        go_on: mpsc::Receiver<()>,
    }

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.writes.send(bytes.to_vec());
            let _ = self.go_on.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told() -> (Lines, Writing, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
        let (writes, written) = mpsc::channel();
        let (go, go_on) = mpsc::channel();
        let (lines, writing) = start(Told { writes, go_on }).unwrap();
        (lines, writing, written, go)
    }

    #[test]
    fn a_line_is_written_without_another_and_lines_that_come_meanwhile_share_a_write() {
        let (mut lines, writing, written, go) = told();
        lines.write_all(b"one\n").unwrap();
        assert_eq!(written.recv().unwrap(), b"one\n");
        // It is being written now.
        for line in [&b"two\n"[..], b"three\n", b"four\n"] {
            lines.write_all(line).unwrap();
        }
        go.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), b"two\nthree\nfour\n");
        drop(go);
        drop(writing);
        assert_eq!(written.recv().ok(), None);
    }

    #[test]
    fn what_waits_at_the_end_is_written() {
        let (mut lines, writing, written, go) = told();
        drop(go);
        for n in 0..100 {
            lines.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        drop(writing);
        let all: Vec<u8> = written.iter().flatten().collect();
        let expected: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }

    #[test]
    fn who_comes_while_too_much_waits_waits_too_and_no_line_is_lost() {
        let (lines, writing, written, go) = told();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let count = 3 * MAX_WAITING / line.len();
        std::thread::scope(|scope| {
            let mut handed_in = lines.clone();
            let line = &line;
            let all = scope.spawn(move || {
                for _ in 0..count {
                    handed_in.write_all(line).unwrap();
                }
            });
            // Nothing goes out: more than what is being written and what may wait cannot have been
            // taken.
            let first = written.recv().unwrap();
            while lines.0.waiting().bytes.len() < MAX_WAITING {
                std::thread::yield_now();
            }
            assert!(!all.is_finished());
            assert!(lines.0.waiting().bytes.len() < MAX_WAITING + line.len());
            drop(go);
            all.join().unwrap();
            drop(writing);
            let rest: usize = written.iter().map(|bytes| bytes.len()).sum();
            assert_eq!(first.len() + rest, count * line.len());
        });
    }
}
