//! What a node says of the client whose request it carries. Only nodes are believed: what they say
//! is sealed by a key that all of them derive from the secret that they share, and holds for one
//! request, with one credential, for a short time.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use sha2::Sha256;

use crate::client::Client;
use crate::envelope::REQUEST_ID;

/// Says that another node has carried the request here: it goes no further. And for whom, as that
/// node seals it.
pub(crate) const CARRIED: HeaderName = HeaderName::from_static("trustrelay-carried");
/// How far the clocks of two nodes may be apart, and a request be under way.
const FRESH: Duration = Duration::from_secs(60);

/// A seal that is genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    Fresh(Client),
    /// It was made so many seconds before or after now, by this node's time, and vouches for
    /// nothing.
    Stale {
        seconds: u64,
    },
}

/// Seals what nodes say to each other: under the first key, and opens under each, so that the
/// server's secret can be rotated node by node.
#[derive(Clone)]
pub(crate) struct Seal(Vec<Hmac<Sha256>>);

impl Seal {
    /// # Panics
    /// Never: HMAC takes keys of any length (RFC 2104 §3).
    pub(crate) fn new(keys: &[[u8; 32]]) -> Self {
        let keyed = |key: &[u8; 32]| {
            let mut block = [0; 64];
            block[..32].copy_from_slice(key);
            <Hmac<Sha256> as KeyInit>::new((&block).into())
        };
        Self(keys.iter().map(keyed).collect())
    }

    /// The value of [`CARRIED`] for a request with these headers.
    pub(super) fn seal(&self, client: &Client, now: Timestamp, headers: &HeaderMap) -> HeaderValue {
        let address = client.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let said =
            format!("{} {} {address}", now.as_second(), if client.is_hidden { "hidden" } else { "known" });
        // Without a key nothing is sealed, and nobody believes it.
        let Some(key) = self.0.first() else { return HeaderValue::from_static("-") };
        let seal = URL_SAFE_NO_PAD.encode(over(key, &said, headers).finalize().into_bytes());
        HeaderValue::from_str(&format!("{said} {seal}")).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }

    /// The client that a request with these headers was carried for, if a node says so.
    pub(super) fn open(&self, now: Timestamp, headers: &HeaderMap) -> Option<Opened> {
        let mut values = headers.get_all(CARRIED).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (said, seal) = value.to_str().ok()?.rsplit_once(' ')?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok()?;
        self.0.iter().find(|key| over(key, said, headers).verify_slice(&seal).is_ok())?;
        let [at, state, address] = said.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let apart = now.duration_since(Timestamp::from_second(at.parse().ok()?).ok()?).unsigned_abs();
        let address = if address == "-" { None } else { Some(address.parse().ok()?) };
        if apart > FRESH {
            return Some(Opened::Stale { seconds: apart.as_secs() });
        }
        Some(Opened::Fresh(Client { address, is_hidden: state == "hidden" }))
    }
}

/// Over what is said, and the credential and the id of the request that it is said of. Each part is
/// led by its length.
fn over(key: &Hmac<Sha256>, said: &str, headers: &HeaderMap) -> Hmac<Sha256> {
    let mut mac = key.clone();
    let of = |name| headers.get(name).map_or(&[][..], HeaderValue::as_bytes);
    for part in [said.as_bytes(), of(AUTHORIZATION), of(REQUEST_ID)] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn client() -> Client {
        Client { address: "2001:db8::9".parse().ok(), is_hidden: false }
    }

    fn request() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer one"));
        headers.insert(REQUEST_ID, HeaderValue::from_static("an-id"));
        headers
    }

    fn carried(client: &Client) -> HeaderMap {
        let mut headers = request();
        let value = Seal::new(&[[7; 32]]).seal(client, NOW, &headers);
        headers.insert(CARRIED, value);
        headers
    }

    #[test]
    fn a_node_is_told_whom_a_request_is_carried_for() {
        for client in [
            client(),
            Client { address: "192.0.2.7".parse().ok(), is_hidden: true },
            Client { address: None, is_hidden: false },
        ] {
            let opened = Seal::new(&[[7; 32]]).open(NOW, &carried(&client));
            assert_eq!(opened, Some(Opened::Fresh(client)));
        }
    }

    #[test]
    fn who_has_not_the_secret_is_not_believed() {
        assert_eq!(Seal::new(&[[8; 32]]).open(NOW, &carried(&client())), None);
        for claim in ["1", "", "-", "1800000000 known 192.0.2.7", "1800000000 known 192.0.2.7 AAAA"] {
            let mut headers = request();
            headers.insert(CARRIED, HeaderValue::from_static(claim));
            assert_eq!(Seal::new(&[[7; 32]]).open(NOW, &headers), None, "{claim}");
        }
        let mut headers = request();
        assert_eq!(Seal::new(&[[7; 32]]).open(NOW, &headers), None);
        headers = carried(&client());
        headers.append(CARRIED, HeaderValue::from_static("1"));
        assert_eq!(Seal::new(&[[7; 32]]).open(NOW, &headers), None, "two of them");
    }

    #[test]
    fn what_a_node_says_is_of_that_request_and_cannot_be_altered() {
        let seal = Seal::new(&[[7; 32]]);
        for (name, value) in [(AUTHORIZATION, "Bearer two"), (REQUEST_ID, "another-id"), (REQUEST_ID, "")] {
            let mut headers = carried(&client());
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(seal.open(NOW, &headers), None, "{value}");
        }
        let value = carried(&client())[CARRIED].to_str().expect("text").to_owned();
        for (from, to) in [("2001:db8::9", "2001:db8::8"), ("known", "hidden"), ("1800000000", "1800000001")]
        {
            let mut headers = carried(&client());
            headers.insert(CARRIED, value.replace(from, to).parse().expect("a value"));
            assert_eq!(seal.open(NOW, &headers), None, "{to}");
        }
    }

    #[test]
    fn it_holds_for_as_long_as_a_request_is_under_way() {
        let at = |seconds: i64| NOW + jiff::SignedDuration::from_secs(seconds);
        for (seconds, holds) in [(0, true), (60, true), (-60, true), (61, false), (-61, false)] {
            let opened = Seal::new(&[[7; 32]]).open(at(seconds), &carried(&client()));
            let stale = Opened::Stale { seconds: seconds.unsigned_abs() };
            let expected = if holds { Opened::Fresh(client()) } else { stale };
            assert_eq!(opened, Some(expected), "{seconds}");
        }
    }
}
