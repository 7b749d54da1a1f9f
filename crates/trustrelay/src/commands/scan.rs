//! `trustrelay scan`: for hooks and CI.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::Scan as Args;
use crate::scan::{self, Form, Scan};

/// Looks for tokens. Exit 1 if there is one, or if something could not be looked at: silence would
/// say that it is clean.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let form = match (args.json, args.sarif) {
        (true, _) => Form::Json,
        (_, true) => Form::Sarif,
        _ => Form::Text,
    };
    let excluded = scan::excluded(&args.exclude)?;
    let scan = Scan::of(&args.paths, args.no_ignore, excluded);
    let mut out = BufWriter::new(std::io::stdout().lock());
    scan.write(form, &mut out).and_then(|()| out.flush()).context("standard output cannot be written")?;
    for trouble in scan.troubles() {
        tell(&trouble);
    }
    if scan.files() == 0 && scan.is_clean() {
        tell(
            "no file was scanned: there are no files, or .gitignore and --exclude exclude all of them (use --no-ignore to include ignored files)",
        );
    }
    Ok(if scan.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// One line on standard error; where that is closed there is nobody to tell.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "trustrelay: {line}");
}
