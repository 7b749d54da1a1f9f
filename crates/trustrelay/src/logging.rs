//! Logs: for people on a terminal, JSON otherwise. Always on standard error.

mod json;
mod lines;

use std::io::IsTerminal;

use anyhow::Context;
use tracing::Level;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub(crate) use self::lines::Writing;
use crate::redact::printable;

/// Where spans go besides the log.
pub(crate) type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// Keeps what libraries say below a warning out of every log, whatever filter is asked for: at
/// `debug` and `trace` database drivers write the parameters of statements, and HTTP libraries
/// headers.
fn ours() -> FilterFn {
    filter_fn(|metadata| {
        *metadata.level() <= Level::WARN
            || metadata.target().split("::").next().is_some_and(|name| name.starts_with("trustrelay"))
    })
}

/// Fields for a terminal: what a client, an upstream or a command has written cannot move the
/// cursor, nor look like a line of its own.
fn terminal_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    format::debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", printable(&value)),
            name => write!(writer, "{name}={}", printable(&value)),
        }
    })
    .delimited(" ")
}

/// Starts logging, until what it gives is dropped.
pub(crate) fn start(filter: &str, spans: Option<Spans>) -> anyhow::Result<Option<Writing>> {
    let filter = EnvFilter::try_new(filter).map_err(|_| {
        anyhow::anyhow!(
            "--log `{filter}` is not a valid filter; use a level (info) or target=level (trustrelay=debug)"
        )
    })?;
    let layer = tracing_subscriber::fmt::layer();
    let (lines, writing): (Spans, _) = if std::io::stderr().is_terminal() {
        (layer.fmt_fields(terminal_fields()).with_writer(std::io::stderr).with_target(false).boxed(), None)
    } else {
        let (lines, writing) = lines::start(std::io::stderr()).context("logging could not be started")?;
        let layer = layer.with_writer(move || lines.clone());
        (layer.fmt_fields(json::Fields).event_format(json::Line).boxed(), Some(writing))
    };
    let started = match spans {
        // A filter for all there is costs what is filtered out next to nothing; one for the log
        // alone is asked each time.
        None => tracing_subscriber::registry().with(lines).with(filter).with(ours()).try_init(),
        Some(spans) => {
            let layers: Vec<Spans> = vec![spans, lines.with_filter(filter).boxed()];
            tracing_subscriber::registry().with(layers).with(ours()).try_init()
        }
    };
    started.context("logging could not be started")?;
    Ok(writing)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("whole").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged under a filter.
    fn logged(filter: &str, log: impl FnOnce()) -> String {
        let screen = Screen::default();
        let writer = screen.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(terminal_fields())
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let filter = EnvFilter::try_new(filter).expect("a filter");
        let subscriber = tracing_subscriber::registry().with(layer).with(filter).with(ours());
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(screen.0.lock().expect("whole").clone()).expect("text")
    }

    #[test]
    fn no_filter_shows_what_libraries_say_below_a_warning() {
        for filter in
            ["trace", "tokio_postgres=trace,hyper=trace,rustls=trace,h2=trace", "trustrelay=trace,trace"]
        {
            let said = logged(filter, || {
                tracing::trace!(target: "tokio_postgres::query", "secret one");
                tracing::debug!(target: "hyper::proto", "secret two");
                tracing::debug!(target: "h2::codec", "secret three");
                tracing::info!(target: "rustls::client", "secret four");
                tracing::debug!(target: "log", "secret five");
                tracing::warn!(target: "rustls::client", "a warning");
                tracing::debug!(target: "trustrelay_store::postgres", "our own");
            });
            assert!(!said.contains("secret"), "{filter}: {said}");
            assert_eq!(said.contains("our own"), !filter.starts_with("tokio_postgres"), "{filter}: {said}");
        }
        assert!(
            logged("trace", || tracing::warn!(target: "rustls::client", "a warning")).contains("a warning")
        );
    }

    #[test]
    fn what_comes_from_outside_cannot_write_on_a_terminal() {
        let line = "\u{1b}[2J\rINFO forged\u{9b}31m\u{8}\u{202e}\nINFO another";
        let said = logged("trace", || {
            tracing::info!(line = %line, other = line, "{line}");
        });
        assert_eq!(said.matches('\n').count(), 1, "{said}");
        let bad = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
        assert_eq!(said.chars().find(bad), None, "{said:?}");
        assert!(said.contains("\\u{1b}[2J\\r"), "{said}");
    }
}
