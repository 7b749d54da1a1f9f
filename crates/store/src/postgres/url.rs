//! The `postgres://` URL, with libpq's meaning. Its TLS parameters are parsed here, because the
//! driver supports only some of them.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::errors::PostgresOpenError;

/// Time limit for connecting to each host, if the URL has no `connect_timeout`.
const CONNECT: Duration = Duration::from_secs(2);
/// The idle time before keep-alive probes. With the two constants below, a broken connection is
/// noticed within 20 s, even if nobody waits for an answer.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVES_RETRIES: u32 = 3;

/// The verification of the server's certificate (libpq, `sslmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// No verification: `disable`, `prefer` and `require`. Protects only against passive
    /// eavesdroppers.
    Nothing,
    /// A trusted authority must have issued it: `verify-ca`, and `require` with `sslrootcert`.
    Authority,
    /// It must also match the host: `verify-full`.
    Full,
}

/// The trusted root certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    File(PathBuf),
}

/// A parsed URL. It contains a password and is not printed.
pub(super) struct Target {
    pub(super) config: tokio_postgres::Config,
    pub(super) check: Check,
    pub(super) roots: Roots,
    /// Host, port and database, which may be shown.
    pub(super) at: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, PostgresOpenError> {
        let wrong = |why: &str| PostgresOpenError::Url(why.to_owned());
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(wrong("it must begin with postgres://"));
        }
        // An unencoded password would be taken for a host, a port or a database, and be shown as
        // such.
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if rest.matches('@').count() > usize::from(authority.contains('@')) {
            return Err(wrong(
                "it contains an unescaped `@`; percent-encode the user and the password (`@` is %40, `/` is %2F)",
            ));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = "prefer".to_owned();
        let mut roots = None;
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = value.to_owned(),
                Some(("sslrootcert", value)) => {
                    roots = Some(unescaped(value).ok_or_else(|| wrong("`sslrootcert` is not text"))?)
                }
                // Ignored: a session that cannot write is of no use here.
                Some(("target_session_attrs", _)) => {}
                _ => rest.push(pair),
            }
        }
        let (ssl_mode, check) = match (mode.as_str(), &roots) {
            ("disable", _) => (SslMode::Disable, Check::Nothing),
            ("prefer", _) => (SslMode::Prefer, Check::Nothing),
            ("require", None) => (SslMode::Require, Check::Nothing),
            ("require" | "verify-ca", _) => (SslMode::Require, Check::Authority),
            ("verify-full", _) => (SslMode::Require, Check::Full),
            _ => {
                return Err(wrong("`sslmode` must be disable, prefer, require, verify-ca or verify-full"));
            }
        };
        let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        // The driver's message names at most the parameter's key.
        let mut config: tokio_postgres::Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            wrong(&cause.unwrap_or_else(|| "it cannot be read".to_owned()))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(wrong("it has no host"));
        }
        config.ssl_mode(ssl_mode).target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_application_name().is_none() {
            config.application_name("trustrelay");
        }
        config
            .keepalives_idle(KEEPALIVES_IDLE)
            .keepalives_interval(KEEPALIVES_INTERVAL)
            .keepalives_retries(KEEPALIVES_RETRIES);
        let roots = match roots {
            Some(path) if path != "system" => Roots::File(path.into()),
            _ => Roots::System,
        };
        let at = shown(&config);
        Ok(Self { config, check, roots, at })
    }

    /// Returns the time limit for getting a connection. Every host may have to be tried.
    pub(super) fn patience(&self) -> Duration {
        let hosts = self.config.get_hosts().len().max(self.config.get_hostaddrs().len()).max(1);
        let each = self.config.get_connect_timeout().copied().unwrap_or(CONNECT);
        each.saturating_mul(u32::try_from(hosts).unwrap_or(1))
    }
}

fn shown(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
        let port = ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    let hosts: Vec<_> = hosts.collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().or(config.get_user()).unwrap_or_default())
}

/// Decodes the `%XX` escapes of a query parameter.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Target, PostgresOpenError> {
        Target::parse(&format!("postgres://ada:s3cret@db.example.org:6543/relay{query}"))
    }

    #[test]
    fn tls_is_asked_for_as_libpq_means_it() {
        let file = Roots::File("/a b.pem".into());
        for (query, mode, check, roots) in [
            ("", SslMode::Prefer, Check::Nothing, Roots::System),
            ("?sslmode=disable", SslMode::Disable, Check::Nothing, Roots::System),
            ("?sslmode=require", SslMode::Require, Check::Nothing, Roots::System),
            ("?sslmode=require&sslrootcert=/a%20b.pem", SslMode::Require, Check::Authority, file.clone()),
            ("?sslmode=verify-ca&sslrootcert=/a%20b.pem", SslMode::Require, Check::Authority, file.clone()),
            ("?sslrootcert=/a%20b.pem&sslmode=verify-full", SslMode::Require, Check::Full, file),
            ("?sslmode=verify-full&sslrootcert=system", SslMode::Require, Check::Full, Roots::System),
        ] {
            let target = parse(query).expect(query);
            assert_eq!(target.config.get_ssl_mode(), mode, "{query}");
            assert_eq!((target.check, target.roots), (check, roots), "{query}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_is_where_it_leads_to_and_no_password() {
        assert_eq!(parse("?application_name=x").expect("good").at, "db.example.org:6543/relay");
        let several = Target::parse("postgresql://ada:s3cret@a:1,b:2/relay").expect("good");
        assert_eq!(several.at, "a:1,b:2/relay");
        assert_eq!(several.patience(), CONNECT * 2, "a database that failed over is looked for on each host");
        let socket = Target::parse("postgres://ada@%2Frun%2Fpg/relay").expect("good");
        assert_eq!(socket.at, "/run/pg:5432/relay");
    }

    #[test]
    fn a_url_that_cannot_be_meant_is_refused_and_not_repeated() {
        for url in [
            "",
            "s3cret",
            "mysql://ada:s3cret@h/d",
            "postgres://",
            "postgres:///s3cret",
            "postgres://ada:s3@s3cret@h/d",
            "postgres://ada:s3cret/s3@h/d",
            "postgres://ada:1/s3cret@h/d",
            "postgres://ada:s?3cret=s3cret@h/d",
            "postgres://ada:s#3cret/s3cret@h/d",
            "postgres://ada:p@s3cret/s3@h/d",
            "postgres://ada:s3cret@h:port/d",
            "postgres://ada:s3cret@h/d?sslmode=s3cret",
            "postgres://ada:s3cret@h/d?sslmode=allow",
            "postgres://ada:s3cret@h/d?sslrootcert=%zz",
            "postgres://ada:s3cret@h/d?s3cret=1",
            "postgres://ada:s3cret@h/d?connect_timeout=s3cret",
        ] {
            let Err(error) = Target::parse(url) else { panic!("{url} was taken") };
            let error = error.to_string();
            assert!(error.starts_with("--database-url ") && error.contains("postgres://USER"), "{error}");
            assert!(url.contains("?s3cret") || !error.contains("s3cret"), "{error}");
        }
    }
}
