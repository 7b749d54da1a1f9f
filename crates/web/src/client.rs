//! Where a request comes from: the one place that answers it.
//!
//! It is the peer of the connection, unless that is a proxy that is trusted by its network; then it
//! is whom the proxy names, in the one header that it was said to write. What the client itself has
//! written there stands to the left of that, and is never reached.

mod forwarded;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::header::FORWARDED;
use http::{Extensions, HeaderMap, HeaderName};
use trustrelay_token::Network;

use self::forwarded::{last_of_forwarded, last_of_list};
use crate::nodes::CarriedFor;
use crate::state::AppState;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies in front.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    /// Where they are. Nobody else is believed.
    pub networks: Vec<Network>,
    /// What they write.
    pub header: ProxyHeader,
}

/// The header in which the proxies say whom they speak for. The other one is ignored: a proxy that
/// writes one of them passes the other on as the client has sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: addresses, each added at the end.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Where a request comes from, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address; if a trusted proxy keeps that to itself, the nearest one to it that is known.
    /// `None` only where there is no connection.
    pub(crate) address: Option<IpAddr>,
    /// Whether that is somebody nearer to us: a trusted proxy did not say, or not legibly, whom it
    /// speaks for. What is allowed by an address is not allowed then.
    pub(crate) is_hidden: bool,
}

impl TrustedProxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Goes from the peer to the left, from one trusted proxy to whom it names, until somebody is
    /// not trusted.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let mut address = peer.to_canonical();
        if !self.trusts(address) {
            return Client { address: Some(address), is_hidden: false };
        }
        let name = match self.header {
            ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
            ProxyHeader::Forwarded => FORWARDED,
        };
        for line in headers.get_all(name).iter().rev() {
            let mut hops = Some(line.as_bytes());
            while let Some(left) = hops {
                let (named, before) = match self.header {
                    ProxyHeader::XForwardedFor => last_of_list(left),
                    ProxyHeader::Forwarded => last_of_forwarded(left),
                };
                let Some(named) = named else { return Client { address: Some(address), is_hidden: true } };
                address = named.to_canonical();
                if !self.trusts(address) {
                    return Client { address: Some(address), is_hidden: false };
                }
                hops = before;
            }
        }
        // All of them are trusted: the farthest has sent it.
        Client { address: Some(address), is_hidden: false }
    }
}

/// Where a request comes from.
pub(crate) fn client(state: &AppState, extensions: &Extensions, headers: &HeaderMap) -> Client {
    if let Some(CarriedFor(client)) = extensions.get() {
        return *client;
    }
    match extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(peer)) => state.config.proxies.client(peer.ip(), headers),
        None => Client { address: None, is_hidden: false },
    }
}
