//! The `--smtp-url` option: the mail server and the credentials for it. It contains a password and
//! is therefore never printed.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

/// The ports of message submission (RFC 6409) and of submission over implicit TLS (RFC 8314).
const SUBMISSION: u16 = 587;
const SUBMISSIONS: u16 = 465;

/// The URL of a mail server: `smtp://` or `smtps://`, optionally `user:password@`
/// (percent-encoded), a host, optionally a port.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SmtpUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Tls,
    pub(crate) credentials: Option<(String, Zeroizing<String>)>,
}

/// The point at which TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Implicit TLS, from the first byte on.
    Always,
    /// STARTTLS, required before anything else is sent.
    Required,
    /// STARTTLS, if the server offers it.
    Offered,
}

/// The text is not a valid [`SmtpUrl`]. The message does not repeat the text, which may contain a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the SMTP URL {0}; use smtp://mail.example.org:587 or smtps://USER:PASSWORD@mail.example.org, with the user and the password percent-encoded"
)]
pub struct BadSmtpUrl(&'static str);

impl FromStr for SmtpUrl {
    type Err = BadSmtpUrl;

    fn from_str(text: &str) -> Result<Self, BadSmtpUrl> {
        let url = Url::parse(text).map_err(|_| BadSmtpUrl("is not a URL"))?;
        let (port, secure) = match url.scheme() {
            "smtp" => (SUBMISSION, false),
            "smtps" => (SUBMISSIONS, true),
            _ => return Err(BadSmtpUrl("must begin with smtp:// or smtps://")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(BadSmtpUrl("has no host"))?;
        // A URL writes an IPv6 address in brackets, which are not part of the address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(BadSmtpUrl("has extra parts after the host and the port"));
        }
        let plain = |text: &str| {
            let bytes = Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
            let text = std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned()));
            text.ok().filter(|text| !text.contains(['\0', '\r', '\n']))
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => {
                let wrong = BadSmtpUrl("has a user or a password that is not valid text");
                let user = plain(user).ok_or(wrong.clone())?;
                Some((user.as_str().to_owned(), plain(password).ok_or(wrong)?))
            }
            _ => return Err(BadSmtpUrl("has a user without a password, or a password without a user")),
        };
        let tls = match (secure, &credentials) {
            (true, _) => Tls::Always,
            (false, Some(_)) => Tls::Required,
            (false, None) => Tls::Offered,
        };
        Ok(Self { host, port: url.port().unwrap_or(port), tls, credentials })
    }
}

impl TryFrom<String> for SmtpUrl {
    type Error = BadSmtpUrl;

    fn try_from(text: String) -> Result<Self, BadSmtpUrl> {
        Zeroizing::new(text).parse()
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmtpUrl(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_how_and_as_whom() {
        let read = |text: &str| {
            let url: SmtpUrl = text.parse().expect(text);
            let who = url.credentials.map(|(user, password)| format!("{user} {}", *password));
            (url.host, url.port, url.tls, who)
        };
        let is =
            |host: &str, port, tls, who: Option<&str>| (host.to_owned(), port, tls, who.map(str::to_owned));
        assert_eq!(read("smtp://mail.example.org"), is("mail.example.org", 587, Tls::Offered, None));
        assert_eq!(read("smtp://localhost:25/"), is("localhost", 25, Tls::Offered, None));
        assert_eq!(read("smtps://[::1]"), is("::1", 465, Tls::Always, None));
        assert_eq!(
            read("smtp://ada%40example.org:p%3A%2F%40ss@h:2525"),
            is("h", 2525, Tls::Required, Some("ada@example.org p:/@ss")),
        );
    }

    #[test]
    fn what_is_no_such_url_is_refused_and_never_repeated() {
        for (text, says) in [
            ("s3cret", "not a URL"),
            ("http://u:s3cret@h", "must begin with smtp://"),
            ("smtp://:s3cret@h", "without a user"),
            ("smtp://s3cret@h", "without a password"),
            ("smtp://u:s3cret@h/path", "after the host"),
            ("smtp://u:s3cret@h?tls=none", "after the host"),
            ("smtp://u:s3cret@h#x", "after the host"),
            ("smtp://u:s3cret%0d%0aRSET@h", "not valid text"),
            ("smtp://u:s3cret%ff@h", "not valid text"),
            ("smtp:s3cret", "no host"),
        ] {
            let error = text.parse::<SmtpUrl>().expect_err(text).to_string();
            assert!(error.contains(says) && !error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn it_never_prints() {
        let url: SmtpUrl = "smtps://ada:s3cret@mail.example.org".parse().expect("a URL");
        assert_eq!(format!("{url:?}"), "SmtpUrl(…)");
    }
}
