//! Standard output, where a closed pipe is an error and no panic.

use std::io::Write;

use anyhow::Context;

/// Prints one line.
pub(crate) fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output cannot be written")
}
