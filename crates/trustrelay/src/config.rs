//! What the program is set up with: flag > environment > file.

mod github;
mod notices;
mod proxies;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use trustrelay_authority::MAX_LEASE;
use trustrelay_notify::Mailer;
use trustrelay_relay::{UpstreamConfig, UpstreamTransport};
use trustrelay_web::{GithubKeys, TrustedProxies};
use url::Url;

use self::github::github_keys;
use self::proxies::proxies;
use crate::cli::{Place, Serve};
use crate::duration::parse_duration;
use crate::secret_url::SecretUrl;

const DEFAULT_FILE: &str = "trustrelay.toml";
const DEFAULT_DATA_DIR: &str = "trustrelay-data";
const DEFAULT_LEASE: std::time::Duration = std::time::Duration::from_secs(2);
const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
const AUDIT_RETENTION: std::time::Duration = std::time::Duration::from_secs(400 * 24 * 3600);
/// Who stops a program waits so long, and rarely longer.
const MAX_DRAIN: std::time::Duration = std::time::Duration::from_secs(60);

/// The file's keys. An unknown one is refused, so that a mistyped one is noticed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct File {
    #[serde(alias = "data_dir")]
    data_dir: Option<PathBuf>,
    #[serde(alias = "database_url")]
    database_url: Option<SecretUrl>,
    #[serde(alias = "secret_key_file")]
    secret_key_file: Option<PathBuf>,
    listen: Option<SocketAddr>,
    #[serde(alias = "ops_listen")]
    ops_listen: Option<SocketAddr>,
    /// The address that people and agents use.
    #[serde(alias = "public_url")]
    pub(crate) public_url: Option<Url>,
    #[serde(default, alias = "trusted_proxy")]
    trusted_proxy: Vec<String>,
    #[serde(alias = "trusted_proxy_header")]
    trusted_proxy_header: Option<String>,
    #[serde(alias = "github_keys")]
    github_keys: Option<PathBuf>,
    #[serde(alias = "node_url")]
    node_url: Option<Url>,
    lease: Option<String>,
    drain: Option<String>,
    #[serde(alias = "audit_retention")]
    audit_retention: Option<String>,
    #[serde(alias = "smtp_url")]
    smtp_url: Option<SecretUrl>,
    #[serde(alias = "mail_from")]
    mail_from: Option<String>,
    #[serde(alias = "webhook_private_networks")]
    webhook_private_networks: Option<bool>,
    #[serde(alias = "otlp_endpoint")]
    otlp_endpoint: Option<Url>,
    log: Option<String>,
    dev: Option<bool>,
    #[serde(default)]
    upstreams: BTreeMap<String, FileUpstream>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileUpstream {
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    command: Option<CommandLine>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum CommandLine {
    Line(String),
    Words(Vec<String>),
}

/// Reads the file that is named, or the default one if it is there.
pub(crate) fn read_file(place: &Place) -> anyhow::Result<File> {
    let path = match &place.config {
        Some(path) => path.as_path(),
        None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
        None => return Ok(File::default()),
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the configuration file {} cannot be read", path.display()))?;
    parse_file(&text, path)
}

fn parse_file(text: &str, path: &Path) -> anyhow::Result<File> {
    toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let at = text
            .lines()
            .nth(line - 1)
            .and_then(written_key)
            .map_or(String::new(), |key| format!(" at `{key}`:"));
        anyhow::anyhow!("{}:{line}:{at} {}", path.display(), without_value(error.message()))
    })
}

/// The key or the table that a line begins with, and nothing else of it: the rest may be a secret.
fn written_key(line: &str) -> Option<&str> {
    let key = match line.split_once('=') {
        Some((key, _)) => key.trim(),
        None => line.trim(),
    };
    let bare = |key: &str| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let table = key.strip_prefix('[').and_then(|key| key.strip_suffix(']'));
    let is_key = table.map_or_else(|| line.contains('=') && bare(key), bare);
    is_key.then_some(key)
}

/// What TOML and its readers say, without the value that they say it of: that is what stands in
/// double quotes.
fn without_value(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(from), Some(to)) if from < to => format!("{}…{}", &message[..=from], &message[to..]),
        _ => message.to_owned(),
    }
    .replace('\n', " ")
}

/// Where the data is.
#[derive(Debug)]
pub(crate) enum Data {
    /// A SQLite file in this directory.
    Directory(PathBuf),
    /// A PostgreSQL.
    Database(SecretUrl),
}

/// Where the data and its key are.
#[derive(Debug)]
pub(crate) struct Location {
    pub(crate) data: Data,
    /// The key file, if one was named.
    pub(crate) key_file: Option<PathBuf>,
    /// Whether that was by a flag, which outweighs the environment's secret.
    pub(crate) key_file_by_flag: bool,
}

/// Merges flags, environment and file.
pub(crate) fn location(place: &Place, file: &File) -> anyhow::Result<Location> {
    let dir = place.data_dir.as_ref().or(file.data_dir.as_ref());
    let url = place.database_url.as_ref().or(file.database_url.as_ref());
    let data = match (dir, url) {
        (Some(dir), Some(_)) => bail!(
            "use either the data directory {} or the database of --database-url, not both",
            dir.display()
        ),
        (None, Some(url)) => Data::Database(url.clone()),
        (Some(dir), None) => Data::Directory(dir.clone()),
        (None, None) => Data::Directory(DEFAULT_DATA_DIR.into()),
    };
    let key_file = place.secret_key_file.clone().or_else(|| file.secret_key_file.clone());
    Ok(Location { data, key_file, key_file_by_flag: place.key_file_by_flag })
}

/// What the server runs with.
#[derive(Debug)]
pub(crate) struct ServeConfig {
    pub(crate) listen: SocketAddr,
    /// Where `/metrics` is served instead, if it is not for everybody.
    pub(crate) ops_listen: Option<SocketAddr>,
    pub(crate) public_url: Option<Url>,
    /// What sends mail, if anything.
    pub(crate) mailer: Option<Mailer>,
    /// Whether webhooks may go into private networks.
    pub(crate) webhook_private_networks: bool,
    /// The proxies in front that are believed.
    pub(crate) proxies: TrustedProxies,
    /// Who signs as GitHub does.
    pub(crate) github_keys: Option<GithubKeys>,
    /// Where the other nodes reach this one.
    pub(crate) node_url: Option<Url>,
    pub(crate) lease: std::time::Duration,
    /// How long the server goes on when it was told to stop.
    pub(crate) drain: std::time::Duration,
    /// How long the entries of the audit log are kept.
    pub(crate) audit_retention: std::time::Duration,
    /// Where traces go, if anywhere.
    pub(crate) otlp_endpoint: Option<Url>,
    pub(crate) log: String,
    /// Loopback only, with an account and a token to try it out.
    pub(crate) dev: bool,
    pub(crate) upstreams: Vec<UpstreamConfig>,
}

/// Merges flags, environment and file.
pub(crate) fn serve_config(serve: &Serve, file: File) -> anyhow::Result<ServeConfig> {
    let lease = duration("lease", serve.lease, file.lease.as_deref(), DEFAULT_LEASE)?;
    if !(std::time::Duration::from_millis(200)..=MAX_LEASE).contains(&lease) {
        bail!("--lease is {lease:?}, but it must be between 200ms and {MAX_LEASE:?} (the default is 2s)");
    }
    let drain = duration("drain", serve.drain, file.drain.as_deref(), std::time::Duration::ZERO)?;
    if drain > MAX_DRAIN {
        bail!("--drain is {drain:?}, but it can be at most {MAX_DRAIN:?}");
    }
    let audit_retention =
        duration("audit-retention", serve.audit_retention, file.audit_retention.as_deref(), AUDIT_RETENTION)?;
    if audit_retention < DAY {
        bail!("--audit-retention is {audit_retention:?}, but it must be at least 1d (the default is 400d)");
    }
    let node_url = serve.node_url.clone().or(file.node_url);
    if let Some(url) = &node_url {
        check_bare("--node-url", url)?;
    }
    let listen = serve.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
    let dev = serve.dev.or(file.dev).unwrap_or(false);
    if dev && !listen.ip().is_loopback() {
        bail!(
            "--dev works on this machine only, but {listen} is not a loopback address; remove --listen or use 127.0.0.1:PORT"
        );
    }
    let ops_listen = serve.ops_listen.or(file.ops_listen);
    if let Some(ops) = ops_listen {
        check_ops_listen(ops, listen, dev)?;
    }
    let public_url = serve.public_url.clone().or(file.public_url);
    if let Some(url) = &public_url {
        check_bare("--public-url", url)?;
    }
    let mailer = notices::mailer(serve, file.smtp_url.as_ref(), file.mail_from.as_deref())?;
    let webhook_private_networks =
        serve.webhook_private_networks.or(file.webhook_private_networks).unwrap_or(false);
    let proxies = proxies(serve, &file.trusted_proxy, file.trusted_proxy_header.as_deref())?;
    let github_keys =
        serve.github_keys.as_deref().or(file.github_keys.as_deref()).map(github_keys).transpose()?;
    let otlp_endpoint = serve.otlp_endpoint.clone().or(file.otlp_endpoint);
    if let Some(url) = &otlp_endpoint {
        check_collector(url)?;
    }
    // A flag replaces the file's upstream of the same name.
    let mut upstreams = BTreeMap::new();
    for (name, upstream) in file.upstreams {
        let parsed = file_upstream(&name, upstream)
            .with_context(|| format!("configuration key `upstreams.{name}`"))?;
        upstreams.insert(name, parsed);
    }
    for (at, text) in serve.upstream.iter().enumerate() {
        let parsed = flag_upstream(at + 1, text)?;
        upstreams.insert(parsed.name.to_string(), parsed);
    }
    Ok(ServeConfig {
        listen,
        ops_listen,
        public_url,
        mailer,
        webhook_private_networks,
        proxies,
        github_keys,
        node_url,
        lease,
        drain,
        audit_retention,
        otlp_endpoint,
        log: serve.log.clone().or(file.log).unwrap_or_else(|| "info".into()),
        dev,
        upstreams: upstreams.into_values().collect(),
    })
}

/// A duration of the flag, else of the file.
fn duration(
    key: &str,
    flag: Option<jiff::SignedDuration>,
    file: Option<&str>,
    default: std::time::Duration,
) -> anyhow::Result<std::time::Duration> {
    let given = match (flag, file) {
        (Some(given), _) => given,
        (None, Some(text)) => {
            parse_duration(text).map_err(|error| anyhow::anyhow!("configuration key `{key}`: {error}"))?
        }
        (None, None) => return Ok(default),
    };
    std::time::Duration::try_from(given).with_context(|| format!("--{key} cannot be negative"))
}

fn check_ops_listen(ops: SocketAddr, listen: SocketAddr, dev: bool) -> anyhow::Result<()> {
    if ops == listen && ops.port() != 0 {
        bail!("--ops-listen and --listen are both {ops}; use another port for --ops-listen, or remove it");
    }
    if dev && !ops.ip().is_loopback() {
        bail!(
            "--dev works on this machine only, but --ops-listen {ops} is not a loopback address; remove it or use 127.0.0.1:PORT"
        );
    }
    Ok(())
}

fn check_bare(flag: &str, url: &Url) -> anyhow::Result<()> {
    let bare = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !bare {
        // A password in it is not repeated.
        let mut url = url.clone();
        let _ = url.set_password(None);
        bail!("{flag} `{url}` must be an http:// or https:// URL with only a host and an optional port");
    }
    Ok(())
}

/// The URL is not repeated: it may hold a secret.
fn check_collector(url: &Url) -> anyhow::Result<()> {
    if !matches!(url.scheme(), "http" | "https") {
        bail!("--otlp-endpoint must be an http:// or https:// URL, such as http://127.0.0.1:4318");
    }
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !bare || url.fragment().is_some() {
        bail!(
            "--otlp-endpoint can contain only a host and an optional port and path; put credentials into OTEL_EXPORTER_OTLP_HEADERS"
        );
    }
    Ok(())
}

/// `at`: the how-manieth it is. The text is not repeated: it may hold a secret.
fn flag_upstream(at: usize, text: &str) -> anyhow::Result<UpstreamConfig> {
    let (name, target) = text.split_once('=').with_context(|| {
        format!("--upstream number {at} has no `=`; use NAME=URL, such as github=http://127.0.0.1:9000/mcp")
    })?;
    let parsed = if target.starts_with("http://") || target.starts_with("https://") {
        FileUpstream {
            url: Some(target.into()),
            headers: BTreeMap::new(),
            command: None,
            env: BTreeMap::new(),
            cwd: None,
        }
    } else if target.split_whitespace().next().is_some_and(|word| word.contains("://")) {
        bail!(
            "--upstream {name}=…: the URL must start with http:// or https://, or the value must be a command"
        );
    } else {
        let command = Some(CommandLine::Line(target.into()));
        FileUpstream { url: None, headers: BTreeMap::new(), command, env: BTreeMap::new(), cwd: None }
    };
    file_upstream(name, parsed).with_context(|| format!("--upstream {name}=…"))
}

fn file_upstream(name: &str, upstream: FileUpstream) -> anyhow::Result<UpstreamConfig> {
    let name = name.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let expanded = |map: BTreeMap<String, String>| {
        map.into_iter().map(|(key, value)| Ok((key, expand(&value)?))).collect::<anyhow::Result<Vec<_>>>()
    };
    let transport = match (upstream.url, upstream.command) {
        (Some(url), None) => {
            if !upstream.env.is_empty() || upstream.cwd.is_some() {
                bail!("`env` and `cwd` are only for a `command`, but this upstream has a `url`");
            }
            let url: Url = expand(&url)?.parse().context("`url` is not a valid URL")?;
            if !matches!(url.scheme(), "http" | "https") {
                bail!("`url` must start with http:// or https://");
            }
            UpstreamTransport::Http { url, headers: expanded(upstream.headers)? }
        }
        (None, Some(command)) => {
            if !upstream.headers.is_empty() {
                bail!("`headers` are only for a `url`, but this upstream has a `command`");
            }
            let words = match command {
                CommandLine::Line(line) => line.split_whitespace().map(str::to_owned).collect(),
                CommandLine::Words(words) => words,
            };
            let command = words.iter().map(|word| expand(word)).collect::<anyhow::Result<Vec<_>>>()?;
            if command.is_empty() {
                bail!("`command` is empty");
            }
            UpstreamTransport::Stdio { command, env: expanded(upstream.env)?, cwd: upstream.cwd }
        }
        (Some(_), Some(_)) => bail!("it has both a `url` and a `command`; use one of them"),
        (None, None) => bail!("it has no `url` and no `command`; add one of them"),
    };
    Ok(UpstreamConfig { name, transport })
}

/// Replaces `${VAR}` by the environment's value. A variable that is not set is an error: an empty
/// secret would be sent else.
fn expand(text: &str) -> anyhow::Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').context("a `${` is not closed with `}`")?;
        out.push_str(before);
        out.push_str(
            &std::env::var(name)
                .map_err(|_| anyhow::anyhow!("the environment variable {name} is not set"))?,
        );
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests;
