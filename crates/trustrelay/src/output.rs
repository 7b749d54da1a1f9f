//! Standard output, where a closed pipe is an error and no panic.

use std::io::Write;

use anyhow::Context;

use crate::redact::printable_but;

/// Prints a line, or several. What comes from outside may be in it: but for tabs and line breaks,
/// control characters are written out.
pub(crate) fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    let line = line.to_string();
    let line = printable_but(&line, |c| matches!(c, '\n' | '\t'));
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output cannot be written")
}
