//! `cargo xtask tools`: installs the programs that the end-to-end tests need where that can be
//! done, and otherwise names them with the command that installs them. npm and pip packages go
//! below `target/e2e/`; a stamp keeps a second run from installing them again.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{found, run, works};

/// A program that has to be there, and the Debian package that brings it.
struct Need {
    what: &'static str,
    package: &'static str,
    is_there: fn() -> bool,
}

const NEEDS: [Need; 8] = [
    Need {
        what: "Chromium (the command `chromium`)",
        package: "chromium",
        is_there: || found("chromium").is_some(),
    },
    Need {
        what: "ChromeDriver (the command `chromedriver`)",
        package: "chromium-driver",
        is_there: || found("chromedriver").is_some(),
    },
    Need { what: "npm", package: "npm", is_there: || found("npm").is_some() },
    Need {
        what: "Python 3 with venv",
        package: "python3-venv",
        is_there: || works(Command::new("python3").args(["-c", "import venv, ensurepip"])),
    },
    Need {
        what: "PostgreSQL's server",
        package: "postgresql",
        is_there: || {
            let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
            found("initdb").is_some()
                || debian.into_iter().any(|version| version.path().join("bin/initdb").exists())
        },
    },
    Need {
        what: "HAProxy",
        package: "haproxy",
        is_there: || found("haproxy").is_some() || Path::new("/usr/sbin/haproxy").exists(),
    },
    Need { what: "Valgrind", package: "valgrind", is_there: || found("valgrind").is_some() },
    Need { what: "curl", package: "curl", is_there: || found("curl").is_some() },
];

/// Installs what is missing.
pub(crate) fn install(root: &Path) -> Result<()> {
    programs()?;
    let clients = root.join("e2e/clients");
    let to = root.join("target/e2e");
    fs::create_dir_all(&to).with_context(|| format!("{} cannot be made", to.display()))?;
    npm_packages(&clients, &to)?;
    python_packages(&clients, &to)
}

fn programs() -> Result<()> {
    let missing = || NEEDS.iter().filter(|need| !(need.is_there)()).collect::<Vec<_>>();
    let wanted = missing();
    if wanted.is_empty() {
        return Ok(());
    }
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0");
    if is_root && found("apt-get").is_some() {
        let packages: Vec<_> = wanted.iter().map(|need| need.package).collect();
        println!("installing Debian packages: {}", packages.join(" "));
        // A new machine has no package lists yet, an old one may have stale ones.
        if apt_get(&[&["install"], &packages[..]].concat()).is_err() {
            apt_get(&["update"])?;
            apt_get(&[&["install"], &packages[..]].concat())?;
        }
    }
    let missing = missing();
    if missing.is_empty() { Ok(()) } else { bail!(complaint(&missing)) }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let options = ["--yes", "--quiet", "--no-install-recommends"];
    run(Command::new("apt-get").args(options).args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn complaint(missing: &[&Need]) -> String {
    let what: Vec<_> = missing.iter().map(|need| need.what).collect();
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    format!(
        "the end-to-end tests need {}; on Debian: `sudo apt-get install {}`",
        what.join(", "),
        packages.join(" ")
    )
}

/// The npm packages of a folder, among them a Node that is new enough: a system's own may not be.
pub(crate) fn npm_packages(clients: &Path, to: &Path) -> Result<()> {
    once(to, "npm", &[&clients.join("package.json"), &clients.join("package-lock.json")], || {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(clients.join(file), to.join(file))
                .with_context(|| format!("{file} cannot be copied"))?;
        }
        println!("installing npm packages");
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(to))?;
        let node = to.join("node_modules/node/bin/node");
        if !works(Command::new(&node).arg("--version")) {
            bail!(
                "npm installed no Node; are install scripts switched off? `npm config set ignore-scripts false`"
            );
        }
        Ok(())
    })
}

/// The Python packages of a folder, in an environment of their own.
pub(crate) fn python_packages(clients: &Path, to: &Path) -> Result<()> {
    let requirements = clients.join("requirements.txt");
    once(to, "python", &[&requirements], || {
        println!("installing Python packages");
        let venv = to.join("venv");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        run(Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&requirements))
    })
}

/// Does the work unless the stamp says that it was done for the same files. The stamp is written
/// last, so that interrupted work is done again.
fn once(to: &Path, name: &str, files: &[&Path], work: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = to.join(format!("{name}.stamp"));
    let mut wanted = String::new();
    for file in files {
        wanted += &fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    }
    if fs::read_to_string(&stamp).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    let _ = fs::remove_file(&stamp);
    work()?;
    fs::write(&stamp, wanted).with_context(|| format!("{} cannot be written", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let says = complaint(&[&NEEDS[1], &NEEDS[2]]);
        assert!(says.contains("`chromedriver`") && says.contains("npm"), "{says}");
        assert!(says.ends_with("`sudo apt-get install chromium-driver npm`"), "{says}");
    }

    #[test]
    fn installing_is_done_once_for_the_same_files_and_again_for_others_or_after_a_failure() {
        let dir = std::env::temp_dir().join(format!("xtask-tools-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let lock = dir.join("lock");
        let installs = |content: &str, works: bool| {
            fs::write(&lock, content).expect("written");
            let mut did = false;
            let done = once(&dir, "t", &[&lock], || {
                did = true;
                if works { Ok(()) } else { bail!("broken off") }
            });
            assert_eq!(done.is_ok(), works || !did);
            did
        };
        assert!(installs("one", true));
        assert!(!installs("one", true));
        assert!(installs("two", false));
        assert!(installs("two", true));
        assert!(!installs("two", true));
        assert!(installs("one", true));
        fs::remove_dir_all(&dir).expect("removed");
    }
}
