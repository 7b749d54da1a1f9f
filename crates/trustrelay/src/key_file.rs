//! The key file: the server's secrets, one a line, the newest first. Lines that begin with
//! `retired:` hold secrets that verify nothing any more but the audit log's seals of their time.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use trustrelay_authority::ServerSecret;
use trustrelay_store::private;
use zeroize::Zeroizing;

const RETIRED: &str = "retired:";
/// Longest key file, in bytes: 8 secrets of 44 characters, as many retired ones and their comments
/// fit in many times over.
const MAX_BYTES: u64 = 64 * 1024;

/// The secrets of a key file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    /// The newest first.
    pub(crate) secrets: Vec<ServerSecret>,
    /// For the audit log's seals alone.
    pub(crate) retired: Vec<ServerSecret>,
}

impl Keys {
    /// The file's text. Whoever calls this answers for where it goes.
    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for secret in &self.secrets {
            text.push_str(&secret.expose());
            text.push('\n');
        }
        for secret in &self.retired {
            text.push_str(RETIRED);
            text.push_str(&secret.expose());
            text.push('\n');
        }
        text
    }
}

impl FromStr for Keys {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut keys = Self::default();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
        for (at, line) in lines {
            // An environment variable can hardly hold lines, so that white space and commas part
            // secrets too.
            for word in line.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()) {
                let (list, word) = match word.strip_prefix(RETIRED) {
                    Some(word) => (&mut keys.retired, word),
                    None => (&mut keys.secrets, word),
                };
                let secret = word.parse::<ServerSecret>().with_context(|| format!("line {}", at + 1))?;
                list.push(secret);
            }
        }
        if keys.secrets.is_empty() {
            bail!("{}", trustrelay_authority::BadSecret);
        }
        let mut names: Vec<_> =
            keys.secrets.iter().chain(&keys.retired).map(ServerSecret::key_name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
            bail!("the secret of key {} occurs twice; remove one of them", twice[0]);
        }
        Ok(keys)
    }
}

/// Reads a key file; `None` if there is none. `own`: it is the data directory's, so that it is
/// never a link.
pub(crate) fn read(path: &Path, own: bool) -> anyhow::Result<Option<Keys>> {
    let unreadable = || format!("the key file {} cannot be read", path.display());
    let flags = if own { OFlags::NOFOLLOW } else { OFlags::empty() };
    let flags = (flags | OFlags::NONBLOCK).bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if own && std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) => {
            return Err(error).with_context(|| {
                format!(
                    "the key file {} is a symbolic link that TrustRelay did not create; if the target is yours, name it with --secret-key-file",
                    path.display()
                )
            });
        }
        Err(error) => return Err(error).with_context(unreadable),
    };
    // Of what was opened, and not of what has the name by now.
    let found = file.metadata().with_context(unreadable)?;
    private::check_file(&found).with_context(unreadable)?;
    if found.mode() & 0o077 != 0 {
        bail!(
            "other users can read or write the key file {} (mode {:03o}); run `chmod 600 {}`, and `trustrelay secret rotate` if someone may have read it",
            path.display(),
            found.mode() & 0o777,
            path.display()
        );
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES).read_to_string(&mut text).with_context(unreadable)?;
    text.parse().map(Some).with_context(|| format!("the key file {}", path.display()))
}

/// Makes the first key file of a data directory, whole or not at all: a start that is killed
/// half-way leaves none that the next one would refuse. If another start was faster, its key is
/// taken.
pub(crate) fn begin(path: &Path) -> anyhow::Result<Keys> {
    let unwritable = || format!("the key file {} cannot be written", path.display());
    let keys = Keys { secrets: vec![ServerSecret::generate()?], retired: Vec::new() };
    let draft = beside(path, &std::process::id().to_string());
    // What a killed process with the same id has left is of no use to anybody. A link is removed,
    // and not what it points to.
    if let Err(error) = std::fs::remove_file(&draft)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(unwritable);
    }
    write_draft(&draft, &keys).with_context(unwritable)?;
    // Unlike a renaming, a link never replaces the key of another who began at the same time.
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft).with_context(unwritable)?;
    match linked {
        Ok(()) => {
            sync_directory(path).with_context(unwritable)?;
            Ok(keys)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read(path, true)?.with_context(unwritable),
        Err(error) => Err(error).with_context(unwritable),
    }
}

/// Replaces a key file by what `change` makes of its secrets, whole or not at all.
pub(crate) fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut Keys) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let unwritable = || format!("the key file {} cannot be written", path.display());
    let draft = beside(path, "new");
    // The draft's name is taken once, so that of two changes at a time neither loses the other's
    // key. It comes before the reading.
    let held = match private::create(&draft) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
            "{} exists, because another change of the key file is running or was interrupted; remove the file if no such command is running",
            draft.display()
        ),
        Err(error) => return Err(error).with_context(unwritable),
    };
    let changed = changed(path, held, change).and_then(|done| {
        std::fs::rename(&draft, path).with_context(unwritable)?;
        Ok(done)
    });
    if changed.is_err() {
        // The first error is the one to show.
        let _ = std::fs::remove_file(&draft);
    } else {
        sync_directory(path).with_context(unwritable)?;
    }
    changed
}

fn changed<T>(
    path: &Path,
    mut draft: File,
    change: impl FnOnce(&mut Keys) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let unwritable = || format!("the key file {} cannot be written", path.display());
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        bail!("the key file {} is a symbolic link; name its target instead", path.display());
    }
    let Some(mut keys) = read(path, true)? else {
        bail!("the key file {} does not exist; name the right file with --secret-key-file", path.display());
    };
    let done = change(&mut keys)?;
    draft.write_all(keys.text().as_bytes()).with_context(unwritable)?;
    // Tokens hang on it: it is on the disk before it has its name.
    draft.sync_all().with_context(unwritable)?;
    Ok(done)
}

fn write_draft(draft: &Path, keys: &Keys) -> std::io::Result<()> {
    let mut file = private::create(draft)?;
    file.write_all(keys.text().as_bytes())?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> ServerSecret {
        ServerSecret::generate().expect("random")
    }

    fn names(secrets: &[ServerSecret]) -> Vec<String> {
        secrets.iter().map(ServerSecret::key_name).collect()
    }

    #[test]
    fn of_two_who_begin_at_once_the_later_takes_the_key_of_the_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret.key");
        let first = begin(&path).expect("begun");
        let second = begin(&path).expect("there already");
        assert_eq!(names(&first.secrets), names(&second.secrets));
        assert_eq!(names(&read(&path, true).expect("reads").expect("there").secrets), names(&first.secrets));
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1, "no draft is left");
    }

    #[test]
    fn secrets_are_read_from_lines_words_and_around_comments() {
        let (one, two, three) = (secret(), secret(), secret());
        let text = format!(
            "# the newest\n{}\n\n{},{} {RETIRED}{}\n",
            *one.expose(),
            *two.expose(),
            *three.expose(),
            *secret().expose()
        );
        let keys: Keys = text.parse().expect("reads");
        assert_eq!(names(&keys.secrets), names(&[one.clone(), two, three]));
        assert_eq!(keys.retired.len(), 1);
        let again: Keys = keys.text().parse().expect("reads what it has written");
        assert_eq!(names(&again.secrets), names(&keys.secrets));
        let twice = format!("{}\n{RETIRED}{}", *one.expose(), *one.expose());
        let only_retired = format!("{RETIRED}{}", *one.expose());
        for wrong in ["", "# nothing", "short", &twice, &only_retired] {
            let said = format!("{:#}", wrong.parse::<Keys>().expect_err("refused"));
            assert!(!said.contains(&*one.expose()) && !said.contains("short"), "{said}");
        }
    }

    #[test]
    fn a_key_is_never_written_or_read_through_a_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, elsewhere) = (dir.path().join("secret.key"), dir.path().join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, &path).expect("linked");
        begin(&path).expect_err("a link in its place");
        assert!(!elsewhere.exists(), "nothing was written through it");
        begin(&elsewhere).expect("a file of its own");
        assert!(read(&path, true).is_err());
        read(&path, false).expect("a mounted secret may be a link").expect("there");
        let before = std::fs::read(&elsewhere).expect("reads");
        change(&path, |keys| {
            keys.secrets.insert(0, secret());
            Ok(())
        })
        .expect_err("the link would be replaced");
        assert_eq!(std::fs::read(&elsewhere).expect("reads"), before);
        // A draft that somebody has planted is not written through either.
        std::os::unix::fs::symlink(dir.path().join("trap"), beside(&elsewhere, "new")).expect("linked");
        change(&elsewhere, |_| Ok(())).expect_err("refused");
        assert!(!dir.path().join("trap").exists());
    }

    #[test]
    fn a_change_that_fails_leaves_the_file_and_no_draft() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret.key");
        let first = begin(&path).expect("begun");
        change::<()>(&path, |_| bail!("no")).expect_err("refused");
        change(&path, |keys| {
            keys.secrets.insert(0, secret());
            Ok(())
        })
        .expect("changed");
        let keys = read(&path, true).expect("reads").expect("there");
        assert_eq!(
            (keys.secrets.len(), names(&keys.secrets)[1].clone()),
            (2, names(&first.secrets)[0].clone())
        );
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1, "no draft is left");
    }
}
