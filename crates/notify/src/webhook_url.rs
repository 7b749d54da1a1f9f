//! Checks on a webhook's URL that need no name resolution.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use crate::addresses::{Reach, reach};

/// Maximum length of a URL, in bytes.
pub const MAX_WEBHOOK_URL: usize = 2048;

/// The URL of a webhook: `https://`, or `http://` into a private network.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

/// The text is not a URL that a webhook may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the webhook's URL {0}")]
pub struct BadWebhookUrl(String);

impl BadWebhookUrl {
    /// Returns the problem, phrased to follow "the webhook's URL".
    pub fn why(&self) -> &str {
        &self.0
    }
}

impl WebhookUrl {
    /// Parses a URL. `private_networks` says whether receivers in private networks are allowed. The
    /// addresses of a host name are checked on delivery.
    ///
    /// # Errors
    ///
    /// Returns [`BadWebhookUrl`] if the URL is too long, cannot be parsed or may not be a
    /// webhook's.
    pub fn parse(text: &str, private_networks: bool) -> Result<Self, BadWebhookUrl> {
        let bad = |what: &str| Err(BadWebhookUrl(what.to_owned()));
        if text.len() > MAX_WEBHOOK_URL {
            return Err(BadWebhookUrl(format!("is longer than {MAX_WEBHOOK_URL} bytes")));
        }
        let Ok(url) = Url::parse(text) else {
            return bad("is not valid; use a URL such as https://example.org/hooks/tokens");
        };
        match url.scheme() {
            "https" => {}
            "http" if private_networks => {}
            "http" => return bad("begins with http://; notices are sent over https:// only"),
            _ => return bad("must begin with https://"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return bad(
                "contains a user or a password; remove them (receivers verify the signature instead)",
            );
        }
        if url.fragment().is_some() {
            return bad("contains a `#` fragment; remove it");
        }
        if url.port() == Some(0) {
            return bad("has the port 0");
        }
        let reached = match url.host() {
            None => return bad("has no host"),
            Some(Host::Ipv4(address)) => Some(reach(IpAddr::V4(address))),
            Some(Host::Ipv6(address)) => Some(reach(IpAddr::V6(address))),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                (name == "localhost" || name.ends_with(".localhost")).then_some(Reach::Private("loopback"))
            }
        };
        match reached {
            Some(reached) => match refusal(reached, private_networks) {
                Some(why) => Err(BadWebhookUrl(why)),
                None => Ok(Self(url)),
            },
            None => Ok(Self(url)),
        }
    }

    /// Returns the URL as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the scheme, the host and the port.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

/// Returns the reason why an address may not be called, if there is one.
pub(crate) fn refusal(reached: Reach, private_networks: bool) -> Option<String> {
    match reached {
        Reach::Public => None,
        Reach::Private(_) if private_networks => None,
        Reach::Private(what) => Some(format!(
            "leads into a private network ({what}); an operator can allow this with --webhook-private-networks"
        )),
        Reach::Never(what) => Some(format!("leads to an address that cannot receive notices ({what})")),
    }
}

/// A URL may contain secrets, so only the host is shown.
impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({}…)", self.0.host_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_on_https() {
        for good in [
            "https://example.org/hooks?key=1",
            "https://example.org:8443/",
            "https://1.1.1.1/",
            "https://[2606:4700:4700::1111]/",
            "https://bücher.example/",
        ] {
            assert!(WebhookUrl::parse(good, false).is_ok(), "{good}");
        }
        for (bad, says) in [
            ("http://example.org/", "https:// only"),
            ("ftp://example.org/", "must begin with https://"),
            ("file:///etc/passwd", "must begin with https://"),
            ("example.org", "is not valid"),
            ("https://", "is not valid"),
            ("https://ada:s3cret@example.org/", "a user or a password"),
            ("https://ada@example.org/", "a user or a password"),
            ("https://example.org/#part", "`#`"),
            ("https://example.org:0/", "port 0"),
            ("https://example.org:99999/", "is not valid"),
        ] {
            let error = WebhookUrl::parse(bad, false).expect_err(bad).to_string();
            assert!(error.contains(says) && !error.contains("s3cret"), "{bad}: {error}");
        }
        let long = format!("https://example.org/{}", "a".repeat(MAX_WEBHOOK_URL));
        assert!(WebhookUrl::parse(&long, false).is_err());
    }

    #[test]
    fn an_address_of_a_private_network_is_seen_in_every_spelling() {
        for spelling in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://017700000001/",
            "https://127.0.0.1./",
            "https://１２７.0.0.1/",
            "https://%31%32%37.0.0.1/",
            "https://[::1]/",
            "https://[0:0:0:0:0:0:0:1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[fd12:3456::1]/",
            "https://10.0.0.8/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://db.localhost/",
        ] {
            let error = WebhookUrl::parse(spelling, false).expect_err(spelling).to_string();
            assert!(error.contains("--webhook-private-networks"), "{spelling}: {error}");
            assert!(WebhookUrl::parse(spelling, true).is_ok(), "{spelling}");
            let plain = spelling.replace("https", "http");
            assert!(WebhookUrl::parse(&plain, true).is_ok(), "{plain}");
        }
    }

    #[test]
    fn where_no_receiver_can_be_is_refused_always() {
        for (url, what) in [
            ("https://0.0.0.0/", "this network"),
            ("https://0/", "this network"),
            ("https://169.254.169.254/latest/meta-data", "link-local"),
            ("https://0xa9fea9fe/", "link-local"),
            ("https://[fe80::1]/", "link-local"),
            ("https://[fd00:ec2::254]/", "metadata"),
            ("https://224.0.0.1/", "multicast"),
            ("https://[2002:7f00:1::]/", "6to4"),
            ("https://[2001:db8::1]/", "documentation"),
        ] {
            for private_networks in [false, true] {
                let error = WebhookUrl::parse(url, private_networks).expect_err(url).to_string();
                assert!(error.contains(what), "{url}: {error}");
            }
        }
    }

    #[test]
    fn what_follows_the_host_is_not_in_debug_output() {
        let url = WebhookUrl::parse("https://example.org/hooks/s3cret", false).expect("good");
        assert_eq!(format!("{url:?}"), "WebhookUrl(example.org…)");
    }
}
