//! Development tasks.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let cargo =
        |args: &[&str]| Command::new("cargo").args(args).status().is_ok_and(|status| status.success());
    let passed = cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        && cargo(&["test", "--workspace"]);
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
