//! Logs: for people on a terminal, JSON otherwise. Always on standard error.

mod json;

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Where spans go besides the log.
pub(crate) type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging.
pub(crate) fn start(filter: &str, spans: Option<Spans>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|_| {
        anyhow::anyhow!(
            "--log `{filter}` is not a filter; write a level (info) or target=level (trustrelay=debug)"
        )
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Spans = if std::io::stderr().is_terminal() {
        lines.with_target(false).boxed()
    } else {
        lines.fmt_fields(json::Fields).event_format(json::Line).boxed()
    };
    let started = match spans {
        // A filter for all there is costs what is filtered out next to nothing; one for the log alone is asked each time.
        None => tracing_subscriber::registry().with(lines).with(filter).try_init(),
        Some(spans) => {
            let layers: Vec<Spans> = vec![spans, lines.with_filter(filter).boxed()];
            tracing_subscriber::registry().with(layers).try_init()
        }
    };
    started.map_err(|error| anyhow::anyhow!("logging does not start: {error}"))
}
