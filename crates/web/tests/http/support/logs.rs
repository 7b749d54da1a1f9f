//! What a test has logged.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

thread_local! {
    static KEPT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

static STARTED: Once = Once::new();

/// Keeps all that this test logs on its own thread, from trace up, until it is dropped. The
/// subscriber is one for all tests: with one for each, what is enabled would change under the
/// others.
pub(crate) struct Logs;

impl Logs {
    pub(crate) fn keep() -> Self {
        STARTED.call_once(|| {
            let is_kept = dynamic_filter_fn(|_, _| KEPT.with_borrow(Option::is_some));
            let lines = fmt::layer().with_ansi(false).with_writer(|| ToThread).with_filter(is_kept);
            registry().with(lines).init();
        });
        KEPT.set(Some(Vec::new()));
        Self
    }

    pub(crate) fn text(&self) -> String {
        let bytes = KEPT.with_borrow(Clone::clone).unwrap_or_default();
        String::from_utf8(bytes).expect("text")
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}

struct ToThread;

impl Write for ToThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        KEPT.with_borrow_mut(|kept| kept.iter_mut().for_each(|kept| kept.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
