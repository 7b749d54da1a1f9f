//! Opens the data: the one place that names a backend.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use trustrelay_authority::{Authority, AuthorityConfig, ServerSecret, Store, SystemClock};
use trustrelay_store::{Archived, DATABASE_FILE, PostgresStore, SqliteOptions, SqliteStore};
use zeroize::Zeroizing;

use crate::cli::Place;
use crate::config::{self, Data, Location};
use crate::secret_url::SecretUrl;

const KEY_FILE: &str = "secret.key";

/// What to do if there is no data yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Begin it.
    Create,
    /// Begin it, but not its secret: what comes in was written under another.
    Receive,
    /// Say so: a command on the wrong directory would seem to work else.
    Refuse,
}

/// The opened data.
pub(crate) struct Opened {
    pub(crate) authority: Arc<Authority>,
    /// What MCP session ids are sealed with.
    pub(crate) mcp_key: [u8; 32],
    /// What nodes seal with what they say of a request that they carry.
    pub(crate) carry_key: [u8; 32],
    /// Where the data is, as it may be shown.
    pub(crate) place: String,
    pub(crate) archived: Arc<dyn Archived>,
}

/// Opens the data for a command.
pub(crate) async fn data(place: &Place, missing: Missing) -> anyhow::Result<Opened> {
    let location = config::location(place, &config::read_file(place)?)?;
    data_at(&location, missing, AuthorityConfig::default()).await
}

/// Opens the data at its place.
pub(crate) async fn data_at(
    location: &Location,
    missing: Missing,
    config: AuthorityConfig,
) -> anyhow::Result<Opened> {
    let stored = match &location.data {
        Data::Directory(dir) => in_directory(location, dir, missing)?,
        Data::Database(url) => in_database(location, url, missing).await?,
    };
    let (mcp_key, carry_key) = (stored.secret.mcp_key(), stored.secret.carry_key());
    let authority = Authority::open(stored.store, &[stored.secret], Arc::new(SystemClock), config)
        .await
        .with_context(|| format!("the data in {} does not open", stored.place))?;
    Ok(Opened { authority, mcp_key, carry_key, place: stored.place, archived: stored.archived })
}

/// A store, the secret that it is used with, and where it is.
struct Stored {
    store: Arc<dyn Store>,
    archived: Arc<dyn Archived>,
    secret: ServerSecret,
    place: String,
}

fn in_directory(location: &Location, dir: &Path, missing: Missing) -> anyhow::Result<Stored> {
    let fresh = !dir.join(DATABASE_FILE).exists();
    if fresh && missing == Missing::Refuse {
        bail!(
            "there is no TrustRelay data in {}; name the right directory with --data-dir, or add an account first",
            dir.display()
        );
    }
    if missing != Missing::Refuse {
        make(dir)?;
    }
    // The key is settled before the database is begun, so that a wrong one leaves no database behind.
    let secret = directory_secret(location, dir, fresh && missing == Missing::Create)?;
    let store = Arc::new(SqliteStore::open(dir, SqliteOptions::default())?);
    Ok(Stored { archived: store.clone(), store, secret, place: dir.display().to_string() })
}

async fn in_database(location: &Location, url: &SecretUrl, missing: Missing) -> anyhow::Result<Stored> {
    let secret = match given_secret(location)? {
        Some(secret) => secret,
        None => bail!(
            "with --database-url all nodes share one secret: give it with --secret-key-file or in TRUSTRELAY_SECRET_KEY; \
             `trustrelay secret generate` makes one"
        ),
    };
    let store = match missing {
        Missing::Create | Missing::Receive => PostgresStore::open(url.expose()).await?,
        Missing::Refuse => PostgresStore::open_begun(url.expose()).await?,
    };
    let place = store.place().to_owned();
    let store = Arc::new(store);
    Ok(Stored { archived: store.clone(), store, secret, place })
}

/// The secret of the environment, or of the key file that was named.
fn given_secret(location: &Location) -> anyhow::Result<Option<ServerSecret>> {
    if !location.key_file_by_flag
        && let Some(text) = std::env::var_os("TRUSTRELAY_SECRET_KEY")
    {
        let text = Zeroizing::new(text.into_string().unwrap_or_default());
        return text.parse().map(Some).map_err(|error| anyhow::anyhow!("TRUSTRELAY_SECRET_KEY: {error}"));
    }
    let Some(path) = &location.key_file else { return Ok(None) };
    match read_key(path)? {
        Some(secret) => Ok(Some(secret)),
        None => {
            bail!("the key file {} is not there; name the right one with --secret-key-file", path.display())
        }
    }
}

/// The secret that was given, or the data directory's own.
fn directory_secret(location: &Location, dir: &Path, fresh: bool) -> anyhow::Result<ServerSecret> {
    if let Some(secret) = given_secret(location)? {
        return Ok(secret);
    }
    let path = dir.join(KEY_FILE);
    match read_key(&path)? {
        Some(secret) => Ok(secret),
        None if fresh => begin_key(dir, &path),
        None => bail!(
            "the data in {} has no key file {}; restore it from your backup: without it no token can be verified",
            dir.display(),
            path.display()
        ),
    }
}

/// Reads a key file; `None` if there is none.
fn read_key(path: &Path) -> anyhow::Result<Option<ServerSecret>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => bail!("the key file {} cannot be read: {error}", path.display()),
    };
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(
            "the key file {} can be read by others (mode {:03o}); run `chmod 600 {}`",
            path.display(),
            mode & 0o777,
            path.display()
        );
    }
    let secret = text.parse().map_err(|error| anyhow::anyhow!("the key file {}: {error}", path.display()))?;
    Ok(Some(secret))
}

/// Makes the key file, whole or not at all: a start that is killed half-way leaves none that the next one would refuse.
fn begin_key(dir: &Path, path: &Path) -> anyhow::Result<ServerSecret> {
    let unwritable = || format!("the key file {} cannot be written", path.display());
    let secret = ServerSecret::generate()?;
    let draft = dir.join(format!("{KEY_FILE}.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&draft)
        .with_context(unwritable)?;
    file.write_all(secret.expose().as_bytes())?;
    file.write_all(b"\n")?;
    // Tokens hang on it: it is on the disk before the first of them.
    file.sync_all()?;
    // Unlike a renaming, a link never replaces the key of another who began at the same time.
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft).with_context(unwritable)?;
    match linked {
        Ok(()) => {
            std::fs::File::open(dir)?.sync_all()?;
            Ok(secret)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            read_key(path)?.with_context(unwritable)
        }
        Err(error) => Err(error).with_context(unwritable),
    }
}

/// Makes the data directory, if it is not there, for its owner alone.
fn make(dir: &Path) -> anyhow::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| {
        format!("the data directory {} cannot be made; name another with --data-dir", dir.display())
    })
}

/// Held by a running server, so that two do not share a data directory.
pub(crate) struct ServerLock(#[allow(dead_code, reason = "held, not read")] std::fs::File);

/// Takes the lock, or says that another server has it.
pub(crate) fn lock(dir: &Path) -> anyhow::Result<ServerLock> {
    make(dir)?;
    let path = dir.join("server.lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(ServerLock(file)),
        Err(_) => {
            bail!("another server runs on {}; stop it, or give this one its own --data-dir", dir.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_who_begin_at_once_the_later_takes_the_key_of_the_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(KEY_FILE);
        let first = begin_key(dir.path(), &path).expect("begun");
        let second = begin_key(dir.path(), &path).expect("there already");
        assert_eq!(*first.expose(), *second.expose());
        assert_eq!(*read_key(&path).expect("reads").expect("there").expose(), *first.expose());
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1, "no draft is left");
    }
}
