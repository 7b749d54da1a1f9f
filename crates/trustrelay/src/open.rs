//! Opens the data: the one place that names a backend.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use trustrelay_authority::{Authority, AuthorityConfig, DevKey, ServerSecret, Store, SystemClock};
use trustrelay_store::{Archived, DATABASE_FILE, PostgresStore, SqliteOptions, SqliteStore, private};
use zeroize::Zeroizing;

use crate::cli::Place;
use crate::config::{self, Data, Location};
use crate::key_file::{self, Keys};
use crate::redact::one_line;
use crate::secret_url::SecretUrl;

const KEY_FILE: &str = "secret.key";
const KEY_VARIABLE: &str = "TRUSTRELAY_SECRET_KEY";

/// What to do if there is no data yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Begin it.
    Create,
    /// Begin it, but not its secret: what comes in was written under the one with this fingerprint,
    /// if that is known.
    Receive(Option<[u8; 16]>),
    /// Say so: a command on the wrong directory would seem to work else.
    Refuse,
}

impl Missing {
    /// The fingerprint of the secret that a new store has to be bound to.
    fn binds_to(self) -> Option<[u8; 16]> {
        match self {
            Self::Receive(fingerprint) => fingerprint,
            Self::Create | Self::Refuse => None,
        }
    }
}

/// The opened data.
pub(crate) struct Opened {
    pub(crate) authority: Arc<Authority>,
    /// MCP session ids are sealed with the first, and open with each.
    pub(crate) mcp_keys: Vec<[u8; 32]>,
    /// Nodes seal with the first what they say of a request that they carry, and believe each.
    pub(crate) carry_keys: Vec<[u8; 32]>,
    /// The token of `serve --dev` is made from the first, and known by each.
    pub(crate) dev_keys: Vec<DevKey>,
    /// The secrets that were given, in their order.
    pub(crate) keys: Keys,
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
    let Stored { store, archived, mut keys, place } = stored;
    // A new store is bound to the secret that comes first.
    keys.secrets.sort_by_key(|secret| Some(secret.fingerprint()) != missing.binds_to());
    let config = AuthorityConfig { seal_secrets: keys.retired.clone(), ..config };
    let authority = Authority::open(store, &keys.secrets, Arc::new(SystemClock), config)
        .await
        .with_context(|| format!("the data in {place} cannot be opened"))?;
    let mut secrets = keys.secrets.clone();
    secrets.sort_by_key(|secret| Some(secret.token_key().id()) != authority.active_key());
    let mcp_keys = secrets.iter().map(ServerSecret::mcp_key).collect();
    let carry_keys = secrets.iter().map(ServerSecret::carry_key).collect();
    let dev_keys = secrets.iter().map(ServerSecret::dev_key).collect();
    Ok(Opened { authority, mcp_keys, carry_keys, dev_keys, keys, place, archived })
}

/// A store, the secrets that it is used with, and where it is.
struct Stored {
    store: Arc<dyn Store>,
    archived: Arc<dyn Archived>,
    keys: Keys,
    place: String,
}

fn in_directory(location: &Location, dir: &Path, missing: Missing) -> anyhow::Result<Stored> {
    let fresh = !dir.join(DATABASE_FILE).exists();
    if fresh && missing == Missing::Refuse {
        bail!(
            "there is no TrustRelay data in {}; use the right directory with --data-dir, or add an account first",
            dir.display()
        );
    }
    make(dir)?;
    // The key is settled before the database is begun, so that a wrong one leaves no database
    // behind.
    let keys = directory_keys(location, dir, fresh && missing == Missing::Create)?;
    let store = Arc::new(SqliteStore::open(dir, SqliteOptions::default())?);
    Ok(Stored { archived: store.clone(), store, keys, place: dir.display().to_string() })
}

async fn in_database(location: &Location, url: &SecretUrl, missing: Missing) -> anyhow::Result<Stored> {
    let keys = match given_keys(location)? {
        Some(keys) => keys,
        None => bail!(
            "with --database-url all nodes share one secret; set it with --secret-key-file or TRUSTRELAY_SECRET_KEY \
             (`trustrelay secret generate` prints a new one)"
        ),
    };
    let store = match missing {
        Missing::Create | Missing::Receive(_) => PostgresStore::open(url.expose()).await?,
        Missing::Refuse => PostgresStore::open_begun(url.expose()).await?,
    };
    let place = store.place().to_owned();
    let store = Arc::new(store);
    Ok(Stored { archived: store.clone(), store, keys, place })
}

/// The secrets of the environment, or of the key file that was named.
fn given_keys(location: &Location) -> anyhow::Result<Option<Keys>> {
    if !location.key_file_by_flag
        && let Some(text) = std::env::var_os(KEY_VARIABLE)
    {
        let text = Zeroizing::new(text.into_string().unwrap_or_default());
        return text.parse().map(Some).context(KEY_VARIABLE);
    }
    let Some(path) = &location.key_file else { return Ok(None) };
    match key_file::read(path, false)? {
        Some(keys) => Ok(Some(keys)),
        None => {
            bail!(
                "the key file {} does not exist; name the right file with --secret-key-file",
                path.display()
            )
        }
    }
}

/// The secrets that were given, or the data directory's own.
fn directory_keys(location: &Location, dir: &Path, fresh: bool) -> anyhow::Result<Keys> {
    if let Some(keys) = given_keys(location)? {
        return Ok(keys);
    }
    let path = dir.join(KEY_FILE);
    match key_file::read(&path, true)? {
        Some(keys) => Ok(keys),
        None if fresh => key_file::begin(&path),
        None => bail!(
            "the data in {} has no key file {}; restore the key file from your backup, because no token can be verified without it",
            dir.display(),
            path.display()
        ),
    }
}

/// The key file that is in use, for a command that changes it.
pub(crate) fn key_file_of(location: &Location) -> anyhow::Result<PathBuf> {
    if !location.key_file_by_flag && std::env::var_os(KEY_VARIABLE).is_some() {
        bail!(
            "the server secret is in {KEY_VARIABLE}, which this command cannot change; add a new secret there yourself \
             (`trustrelay secret generate` prints one), newest first and separated by commas"
        );
    }
    match (&location.key_file, &location.data) {
        (Some(path), _) => Ok(path.clone()),
        (None, Data::Directory(dir)) => Ok(dir.join(KEY_FILE)),
        (None, Data::Database(_)) => bail!("use --secret-key-file to name the key file of the nodes"),
    }
}

/// Makes the data directory for its owner alone, or checks the one that is there.
fn make(dir: &Path) -> anyhow::Result<()> {
    let repaired = private::directory(dir).with_context(|| {
        format!(
            "the data directory {} cannot be used; repair it, or use another one with --data-dir",
            dir.display()
        )
    })?;
    if let Some(repaired) = repaired {
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "trustrelay: {}", one_line(&repaired));
    }
    Ok(())
}

/// Held by a running server, so that two do not share a data directory.
pub(crate) struct ServerLock(#[allow(dead_code, reason = "held, not read")] std::fs::File);

/// Takes the lock, or says that another server has it.
pub(crate) fn lock(dir: &Path) -> anyhow::Result<ServerLock> {
    make(dir)?;
    let path = dir.join("server.lock");
    let file =
        private::open_or_create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(ServerLock(file)),
        Err(_) => {
            bail!(
                "another server is using {}; stop it, or start this one with its own --data-dir",
                dir.display()
            )
        }
    }
}
