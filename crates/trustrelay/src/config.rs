//! What the program is set up with: flag > environment > file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use trustrelay_authority::MAX_LEASE;
use trustrelay_relay::{UpstreamConfig, UpstreamTransport};
use url::Url;

use crate::cli::{Place, Serve};
use crate::database_url::DatabaseUrl;
use crate::duration::parse_duration;

const DEFAULT_FILE: &str = "trustrelay.toml";
const DEFAULT_DATA_DIR: &str = "trustrelay-data";
const DEFAULT_LEASE: std::time::Duration = std::time::Duration::from_secs(2);
/// Who stops a program waits so long, and rarely longer.
const MAX_DRAIN: std::time::Duration = std::time::Duration::from_secs(60);

/// The file's keys. An unknown one is refused, so that a mistyped one is noticed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct File {
    #[serde(alias = "data_dir")]
    data_dir: Option<PathBuf>,
    #[serde(alias = "database_url")]
    database_url: Option<DatabaseUrl>,
    #[serde(alias = "secret_key_file")]
    secret_key_file: Option<PathBuf>,
    listen: Option<SocketAddr>,
    #[serde(alias = "public_url")]
    public_url: Option<Url>,
    #[serde(alias = "node_url")]
    node_url: Option<Url>,
    lease: Option<String>,
    drain: Option<String>,
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

/// What TOML and its readers say, without the value that they say it of: that is what stands in double quotes.
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
    Database(DatabaseUrl),
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
            "the data is either in the data directory {} or in the database of --database-url; leave one of them out",
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
    pub(crate) public_url: Option<Url>,
    /// Where the other nodes reach this one.
    pub(crate) node_url: Option<Url>,
    pub(crate) lease: std::time::Duration,
    /// How long the server goes on when it was told to stop.
    pub(crate) drain: std::time::Duration,
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
        bail!("--lease is {lease:?}; it must be between 200ms and {MAX_LEASE:?} (the default is 2s)");
    }
    let drain = duration("drain", serve.drain, file.drain.as_deref(), std::time::Duration::ZERO)?;
    if drain > MAX_DRAIN {
        bail!("--drain is {drain:?}; it must be {MAX_DRAIN:?} at most");
    }
    let node_url = serve.node_url.clone().or(file.node_url);
    if let Some(url) = &node_url {
        check_bare("--node-url", url)?;
    }
    let listen = serve.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
    let dev = serve.dev.or(file.dev).unwrap_or(false);
    if dev && !listen.ip().is_loopback() {
        bail!(
            "--dev is for this machine alone, and {listen} is not a loopback address; leave --listen out or give 127.0.0.1:PORT"
        );
    }
    let public_url = serve.public_url.clone().or(file.public_url);
    if let Some(url) = &public_url {
        check_bare("--public-url", url)?;
    }
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
        public_url,
        node_url,
        lease,
        drain,
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
    std::time::Duration::try_from(given).with_context(|| format!("--{key} is negative"))
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
        bail!("{flag} `{url}` must be http:// or https:// with a host, perhaps a port, and nothing else");
    }
    Ok(())
}

/// The URL is not repeated: it may hold a secret.
fn check_collector(url: &Url) -> anyhow::Result<()> {
    if !matches!(url.scheme(), "http" | "https") {
        bail!("--otlp-endpoint must be http:// or https://, such as http://127.0.0.1:4318");
    }
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !bare || url.fragment().is_some() {
        bail!(
            "--otlp-endpoint must be a host, perhaps a port and a path, and nothing else; credentials go into OTEL_EXPORTER_OTLP_HEADERS"
        );
    }
    Ok(())
}

/// `at`: the how-manieth it is. The text is not repeated: it may hold a secret.
fn flag_upstream(at: usize, text: &str) -> anyhow::Result<UpstreamConfig> {
    let (name, target) = text.split_once('=').with_context(|| {
        format!("--upstream number {at} has no `=`; write NAME=URL, such as github=http://127.0.0.1:9000/mcp")
    })?;
    let parsed = if target.starts_with("http://") || target.starts_with("https://") {
        FileUpstream {
            url: Some(target.into()),
            headers: BTreeMap::new(),
            command: None,
            env: BTreeMap::new(),
            cwd: None,
        }
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
                bail!("`env` and `cwd` belong to a `command`, and this upstream has a `url`");
            }
            let url: Url = expand(&url)?.parse().context("`url` is not a URL")?;
            if !matches!(url.scheme(), "http" | "https") {
                bail!("`url` must start with http:// or https://");
            }
            UpstreamTransport::Http { url, headers: expanded(upstream.headers)? }
        }
        (None, Some(command)) => {
            if !upstream.headers.is_empty() {
                bail!("`headers` belong to a `url`, and this upstream has a `command`");
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
        (Some(_), Some(_)) => bail!("it has both a `url` and a `command`; give one of them"),
        (None, None) => bail!("it has neither a `url` nor a `command`; give one of them"),
    };
    Ok(UpstreamConfig { name, transport })
}

/// Replaces `${VAR}` by the environment's value. A variable that is not set is an error: an empty secret would be sent else.
fn expand(text: &str) -> anyhow::Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').context("a `${` has no `}`")?;
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
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<File> {
        parse_file(text, Path::new("t.toml"))
    }

    fn serve() -> Serve {
        Serve {
            listen: None,
            public_url: None,
            upstream: vec![],
            node_url: None,
            lease: None,
            drain: None,
            otlp_endpoint: None,
            log: None,
            dev: None,
        }
    }

    #[test]
    fn a_mistyped_key_is_named_with_its_line_and_no_value() {
        let error =
            parse("listen = \"127.0.0.1:1\"\nlissten = \"s3cret\"\n").expect_err("unknown").to_string();
        assert!(error.starts_with("t.toml:2: at `lissten`:"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named() {
        let error = parse("\nlisten = 5\n").expect_err("wrong type").to_string();
        assert!(error.starts_with("t.toml:2: at `listen`:"), "{error}");
    }

    #[test]
    fn no_value_of_the_file_is_repeated() {
        for (text, says) in [
            ("[upstreams.a]\nheaders = \"s3cret\"\n", "t.toml:2: at `headers`:"),
            ("[upstreams.a]\nurl = 5\nheaders = \"s3cret, expected\"\n", "t.toml:"),
            ("listen = \"s3cret\"\n", "t.toml:1: at `listen`:"),
            ("lease = s3cret\n", "t.toml:1: at `lease`:"),
            ("\"s3cret\"\n", "t.toml:1:"),
            ("s3cret\n", "t.toml:1:"),
            ("[upstreams.a\nurl = \"http://s3cret/\"\n", "t.toml:1:"),
            ("[upstreams.a]\ncommand = [\"x\", 5, \"s3cret\"]\n", "t.toml:2: at `command`:"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.starts_with(says), "{error}");
            assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file =
            parse("listen = \"127.0.0.1:1\"\n[upstreams.a]\nurl = \"http://127.0.0.1:1/\"\n").expect("good");
        let flags = Serve {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 2))),
            upstream: vec!["a=http://127.0.0.1:3/mcp".into(), "b=http://127.0.0.1:4/mcp".into()],
            ..serve()
        };
        let config = serve_config(&flags, file).expect("good");
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.upstreams.len(), 2);
        let UpstreamTransport::Http { url, .. } = &config.upstreams[0].transport else { panic!("a URL") };
        assert_eq!(url.port(), Some(3));
    }

    #[test]
    fn a_broken_upstream_is_named() {
        for (text, says) in [
            ("github", "no `=`"),
            ("Git=http://x/", "upstream's name"),
            ("a_b=http://x/", "upstream's name"),
            ("a=http://", "not a URL"),
            ("a=${TRUSTRELAY_TEST_NOT_SET}", "TRUSTRELAY_TEST_NOT_SET"),
        ] {
            let flags = Serve { upstream: vec![text.into()], ..serve() };
            let error = format!("{:#}", serve_config(&flags, File::default()).expect_err(text));
            assert!(error.contains(says), "{error}");
        }
        let file = parse("[upstreams.a]\nurl = \"http://x/\"\ncommand = \"y\"\n").expect("parses");
        let error = format!("{:#}", serve_config(&serve(), file).expect_err("both"));
        assert!(error.contains("upstreams.a") && error.contains("both"), "{error}");
    }

    #[test]
    fn a_collector_is_an_address_and_nothing_else() {
        for (endpoint, is_good) in [
            ("http://127.0.0.1:4318", true),
            ("https://collector.example.org/otlp/", true),
            ("grpc://127.0.0.1:4317", false),
            ("https://user:s3cret@collector.example.org", false),
            ("https://collector.example.org/?key=s3cret", false),
            ("https://collector.example.org/#s3cret", false),
        ] {
            let file = parse(&format!("otlp-endpoint = \"{endpoint}\"")).expect("parses");
            match serve_config(&serve(), file) {
                Ok(config) => assert!(is_good && config.otlp_endpoint.is_some(), "{endpoint}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        !is_good && error.contains("--otlp-endpoint") && !error.contains("s3cret"),
                        "{error}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_duration_out_of_bounds_is_refused_by_its_name() {
        for (key, wrong) in [("lease", "1ms"), ("lease", "2h"), ("lease", "soon"), ("drain", "2h")] {
            let file = parse(&format!("{key} = \"{wrong}\"")).expect("parses");
            let error = serve_config(&serve(), file).expect_err(wrong).to_string();
            assert!(error.contains(key), "{error}");
        }
        let file = parse("lease = \"3s\"\ndrain = \"4s\"").expect("parses");
        let config = serve_config(&serve(), file).expect("good");
        assert_eq!((config.lease.as_secs(), config.drain.as_secs()), (3, 4));
    }

    #[test]
    fn an_address_of_the_node_is_a_host_and_nothing_else() {
        for (url, is_good) in [
            ("http://10.0.0.5:8080", true),
            ("https://a.relay.example.org", true),
            ("http://10.0.0.5:8080/mcp", false),
            ("http://ada:s3cret@10.0.0.5:8080", false),
            ("postgres://10.0.0.5", false),
        ] {
            let file = parse(&format!("node-url = \"{url}\"")).expect("parses");
            match serve_config(&serve(), file) {
                Ok(config) => assert!(is_good && config.node_url.is_some(), "{url}"),
                Err(error) => {
                    let error = error.to_string();
                    let named = error.contains("--node-url") && !error.contains("s3cret");
                    assert!(!is_good && named, "{url}: {error}");
                }
            }
        }
    }
}
