//! Runs other programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command to its end; its output is seen. An error names the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("`{shown}` does not start"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Returns whether a command succeeds. Its output is not shown.
pub(crate) fn works(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Runs the cargo that runs this.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo).args(arguments).current_dir(root))
}

/// Builds the documentation of every crate. A warning, such as a broken link, is an error.
pub(crate) fn documents(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["doc", "--locked", "--workspace", "--no-deps"];
    run(Command::new(cargo).args(arguments).env("RUSTDOCFLAGS", "-D warnings").current_dir(root))
}

/// Returns where a program is on `PATH`.
pub(crate) fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(name).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_command_that_failed_or_is_not_there() {
        let failed = run(Command::new("sh").args(["-c", "exit 3"])).expect_err("it fails");
        assert!(failed.to_string().contains("`sh -c exit 3` failed"), "{failed}");
        let missing = run(&mut Command::new("no-such-program")).expect_err("it is not there");
        assert!(missing.to_string().contains("`no-such-program` does not start"), "{missing}");
        run(Command::new("sh").args(["-c", "exit 0"])).expect("it ends well");
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(found("sh").is_some());
        assert!(found("no-such-program").is_none());
    }
}
