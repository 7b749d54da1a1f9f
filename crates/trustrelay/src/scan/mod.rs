//! Finds tokens in files: prefix and checksum, so that what is named is a token, and what is not a
//! token is not named.

mod finder;
mod report;

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ignore::overrides::{Override, OverrideBuilder};
use ignore::{DirEntry, ParallelVisitor, ParallelVisitorBuilder, WalkBuilder, WalkState};

use self::finder::{Finder, Found, Outcome};
pub(crate) use self::report::Form;

/// The name that stands for standard input.
const STDIN: &str = "-";

/// What a scan came to, in the order of the paths, whichever thread was faster.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The files with tokens in them.
    leaks: Vec<(PathBuf, Vec<Found>)>,
    /// What could not be looked at, and why.
    troubles: Vec<(PathBuf, String)>,
    /// How many files were looked at.
    files: u64,
}

impl Scan {
    /// Looks at `paths`: files, folders with all below them, and `-` for standard input.
    ///
    /// In a folder, links are not followed, and what is neither a file nor a folder is passed over.
    /// Unless `ignored` are wanted too, so are what `.gitignore` files leave out and `.git`;
    /// `excluded` is in any case. What is named by itself is looked at.
    pub(crate) fn of(paths: &[PathBuf], ignored: bool, excluded: Override) -> Self {
        let mut scan = Self::default();
        let mut walk = WalkBuilder::empty();
        let mut folders_and_files = false;
        for path in paths {
            if path == Path::new(STDIN) {
                let outcome = Finder::new().find(std::io::stdin().lock());
                scan.add(path.clone(), outcome);
                continue;
            }
            match path.metadata() {
                Err(error) => scan.troubles.push((path.clone(), format!("cannot be read: {error}"))),
                Ok(is) => {
                    // With a slash at its end, the name of a link means the folder behind it.
                    walk.add(if is.is_dir() { path.join("") } else { path.clone() });
                    folders_and_files = true;
                }
            }
        }
        if folders_and_files {
            // The rules are the files' own, the same on each machine: no person's configuration, no
            // repository needed.
            walk.standard_filters(false)
                .parents(!ignored)
                .git_ignore(!ignored)
                .require_git(false)
                .overrides(excluded);
            walk.filter_entry(move |entry| ignored || entry.file_name() != OsStr::new(".git"));
            let all = Mutex::new(scan);
            walk.build_parallel().visit(&mut Threads { all: &all });
            scan = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        scan.leaks.sort_by(|one, other| one.0.cmp(&other.0));
        scan.leaks.dedup_by(|one, other| one.0 == other.0);
        scan.troubles.sort();
        scan.troubles.dedup();
        scan
    }

    /// Whether there is nothing to tell: everything could be looked at, and no token was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.leaks.is_empty() && self.troubles.is_empty()
    }

    /// How many files were looked at.
    pub(crate) fn files(&self) -> u64 {
        self.files
    }

    fn add(&mut self, path: PathBuf, outcome: Outcome) {
        self.files += 1;
        if let Some(trouble) = outcome.trouble {
            self.troubles.push((path.clone(), trouble.to_string()));
        }
        if !outcome.found.is_empty() {
            self.leaks.push((path, outcome.found));
        }
    }

    fn append(&mut self, mut other: Self) {
        self.leaks.append(&mut other.leaks);
        self.troubles.append(&mut other.troubles);
        self.files += other.files;
    }
}

/// What is left out, by lines as in a `.gitignore` in the folder where the program was started.
pub(crate) fn excluded(globs: &[String]) -> anyhow::Result<Override> {
    let mut excluded = OverrideBuilder::new(".");
    for glob in globs {
        // Here it is the other way round: what has no mark is all that is looked at.
        excluded.add(&format!("!{glob}")).map_err(|error| {
            anyhow::anyhow!("--exclude `{glob}` is not a valid .gitignore pattern: {error}")
        })?;
    }
    Ok(excluded.build()?)
}

/// Makes one visitor for each thread.
struct Threads<'a> {
    all: &'a Mutex<Scan>,
}

impl<'a> ParallelVisitorBuilder<'a> for Threads<'a> {
    fn build(&mut self) -> Box<dyn ParallelVisitor + 'a> {
        Box::new(Thread { finder: Finder::new(), scan: Scan::default(), all: self.all })
    }
}

/// What one thread found; added to the others' when it has done.
struct Thread<'a> {
    finder: Finder,
    scan: Scan,
    all: &'a Mutex<Scan>,
}

impl ParallelVisitor for Thread<'_> {
    fn visit(&mut self, entry: Result<DirEntry, ignore::Error>) -> WalkState {
        match entry {
            Ok(entry) if is_read(&entry) => {
                let path = shown(entry.into_path());
                let outcome = match File::open(&path) {
                    Ok(file) => self.finder.find(file),
                    Err(error) => Outcome { found: Vec::new(), trouble: Some(error.into()) },
                };
                self.scan.add(path, outcome);
            }
            Ok(_) => {}
            Err(error) => self.scan.troubles.extend(trouble(&error)),
        }
        WalkState::Continue
    }
}

impl Drop for Thread<'_> {
    fn drop(&mut self) {
        let scan = std::mem::take(&mut self.scan);
        self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).append(scan);
    }
}

/// What was named by itself is read even if it is a pipe; in a folder, reading one would wait for
/// whoever writes.
fn is_read(entry: &DirEntry) -> bool {
    entry.file_type().is_some_and(|kind| kind.is_file() || (entry.depth() == 0 && !kind.is_dir()))
}

/// A path as people write it: not `./src/main.rs`.
fn shown(path: PathBuf) -> PathBuf {
    match path.strip_prefix(".") {
        Ok(short) if !short.as_os_str().is_empty() => short.to_owned(),
        _ => path,
    }
}

/// A folder that cannot be read. A line of a `.gitignore` that cannot be understood hides nothing,
/// so there is nothing to tell.
fn trouble(error: &ignore::Error) -> Option<(PathBuf, String)> {
    let why = format!("cannot be read: {}", error.io_error()?);
    Some((shown(path_of(error).unwrap_or(Path::new("a path")).to_owned()), why))
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        ignore::Error::Partial(errors) => errors.iter().find_map(path_of),
        _ => None,
    }
}
