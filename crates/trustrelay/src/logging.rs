//! Logs: for people on a terminal, JSON otherwise. Always on standard error.

mod json;
mod lines;

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub(crate) use self::lines::Writing;

/// Where spans go besides the log.
pub(crate) type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging, until what it gives is dropped.
pub(crate) fn start(filter: &str, spans: Option<Spans>) -> anyhow::Result<Option<Writing>> {
    let filter = EnvFilter::try_new(filter).map_err(|_| {
        anyhow::anyhow!(
            "--log `{filter}` is not a filter; write a level (info) or target=level (trustrelay=debug)"
        )
    })?;
    let layer = tracing_subscriber::fmt::layer();
    let (lines, writing): (Spans, _) = if std::io::stderr().is_terminal() {
        (layer.with_writer(std::io::stderr).with_target(false).boxed(), None)
    } else {
        let (lines, writing) = lines::start(std::io::stderr()).context("logging does not start")?;
        let layer = layer.with_writer(move || lines.clone());
        (layer.fmt_fields(json::Fields).event_format(json::Line).boxed(), Some(writing))
    };
    let started = match spans {
        // A filter for all there is costs what is filtered out next to nothing; one for the log alone is asked each time.
        None => tracing_subscriber::registry().with(lines).with(filter).try_init(),
        Some(spans) => {
            let layers: Vec<Spans> = vec![spans, lines.with_filter(filter).boxed()];
            tracing_subscriber::registry().with(layers).try_init()
        }
    };
    started.context("logging does not start")?;
    Ok(writing)
}
