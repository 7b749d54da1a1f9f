//! A network, as limits and trusted proxies name it: an address and the number of its bits that
//! count (RFC 4632 §3.1, RFC 4291 §2.3).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// Longest text of a network: eight groups of IPv6, the last two written as IPv4, and `/128`.
const MAX_BYTES: usize = 49;
/// `::ffff:0:0/96`, where IPv6 writes the addresses of IPv4 (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// A network of IPv4 or of IPv6.
///
/// ```
/// use trustrelay_token::Network;
///
/// let office: Network = "192.0.2.0/24".parse().unwrap();
/// assert!(office.contains("192.0.2.7".parse().unwrap()));
/// assert!(office.contains("::ffff:192.0.2.7".parse().unwrap()));
/// assert!("192.0.2.7/24".parse::<Network>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpNet);

/// A text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// No address and prefix length.
    #[error("{0} is not an IP range; use CIDR notation, such as 10.0.0.0/8 or 2001:db8::/32")]
    Unreadable(Quoted),
    /// An address within a network, where the network itself belongs.
    #[error("{0} is an address inside an IP range; use {1} for the range, or {2} for the single address")]
    HostBits(Quoted, Network, Network),
}

/// The given text, as far as it may be repeated. A text with other characters than a network has
/// could be a secret, and is not repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted(Option<String>);

impl Network {
    /// Returns whether an address is in the network. An IPv4 address is the same in either
    /// notation.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Returns the number of bits of its address that count.
    pub fn bits(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Returns the network around an address that usually has one holder: a /24 of IPv4, a /48 of
    /// IPv6 (RFC 6177 §2).
    pub fn around(address: IpAddr) -> Self {
        let alone = IpNet::from(address.to_canonical());
        let bits = if alone.addr().is_ipv4() { 24 } else { 48 };
        Self(IpNet::new(alone.addr(), bits).map_or(alone, |network| network.trunc()))
    }

    /// Returns whether the other network lies within this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }
}

impl From<IpAddr> for Network {
    /// The address alone.
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    /// Reads a network, or an address, which is a network of one.
    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let unreadable = || BadNetwork::Unreadable(Quoted::of(text));
        if text.len() > MAX_BYTES {
            return Err(unreadable());
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let given = Self(canonical(read(text).ok_or_else(unreadable)?));
        let network = Self(given.0.trunc());
        if network != given {
            return Err(BadNetwork::HostBits(Quoted::of(text), network, given.0.addr().into()));
        }
        Ok(network)
    }
}

/// Strictly: `010.0.0.0` is 10 to some and 8 to others.
fn read(text: &str) -> Option<IpNet> {
    let (address, bits) = text.split_once('/')?;
    let is_number = bits == "0" || bits.starts_with(|first: char| matches!(first, '1'..='9'));
    IpNet::new(address.parse().ok()?, bits.parse().ok().filter(|_| is_number)?).ok()
}

/// A network of IPv4, however it is written.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else { return network };
    let (Some(address), Some(bits)) =
        (six.addr().to_ipv4_mapped(), six.prefix_len().checked_sub(MAPPED_BITS))
    else {
        return network;
    };
    Ipv4Net::new(address, bits).map_or(network, IpNet::V4)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Quoted {
    fn of(text: &str) -> Self {
        let is_plain =
            text.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'/'));
        Self((is_plain && text.len() <= MAX_BYTES).then(|| text.to_owned()))
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(text) => write!(f, "`{text}`"),
            None => f.write_str("the value"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    #[test]
    fn a_network_reads_back_as_it_is_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.7/32", "2001:db8::/32", "::/0", "::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
        // An address is a network of one, and one of IPv4 is that however it is written.
        for (text, canonical) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:DB8::1", "2001:db8::1/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_network_is_refused_and_repeated_only_if_it_can_be_no_secret() {
        for text in [
            "",
            "10.0.0.0/33",
            "2001:db8::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/08x",
            "/8",
            "010.0.0.0/8",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let error = "10.0.0.0/33".parse::<Network>().expect_err("33 bits").to_string();
        assert!(error.starts_with("`10.0.0.0/33` is not an IP range"), "{error}");
        for secret in [["tr_pat_", &"x".repeat(38)].concat(), "fe80::1%eth0".into(), "1".repeat(50)] {
            let error = secret.parse::<Network>().expect_err("no network").to_string();
            assert!(!error.contains(&secret) && error.contains("10.0.0.0/8"), "{error}");
        }
    }

    #[test]
    fn an_address_within_a_network_is_refused_and_the_network_named() {
        for (text, meant, alone) in [
            ("10.1.2.3/8", "10.0.0.0/8", "10.1.2.3/32"),
            ("2001:db8::1/32", "2001:db8::/32", "2001:db8::1/128"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8", "10.1.2.3/32"),
        ] {
            let error = text.parse::<Network>().expect_err(text).to_string();
            assert!(error.contains(&format!("use {meant} for the range")), "{error}");
            assert!(error.contains(&format!("{alone} for the single address")), "{error}");
        }
    }

    #[test]
    fn a_network_of_one_kind_holds_nothing_of_the_other() {
        assert!(!network("::/0").contains("192.0.2.7".parse().expect("an address")));
        assert!(!network("0.0.0.0/0").contains("2001:db8::1".parse().expect("an address")));
        assert!(!network("::/0").covers(&network("0.0.0.0/0")));
        assert!(network("0.0.0.0/0").contains("::ffff:192.0.2.7".parse().expect("an address")));
    }

    /// Returns whether two addresses agree in their first bits: another definition of a network.
    fn agree(one: u128, other: u128, bits: u8, of: u8) -> bool {
        (0..bits).all(|bit| one >> (of - 1 - bit) & 1 == other >> (of - 1 - bit) & 1)
    }

    /// The addresses of IPv4 or of IPv6 that differ in their last six bits.
    fn corner(is_six: bool) -> impl Iterator<Item = IpAddr> {
        (0_u8..64).map(move |last| match is_six {
            false => IpAddr::from([192, 0, 2, 64 + last]),
            true => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 64 + u16::from(last)]),
        })
    }

    /// A network in a corner: its first address, of which so many last bits do not count.
    #[derive(Debug)]
    struct InACorner {
        is_six: bool,
        is_mapped: bool,
        first: u8,
        free: u8,
    }

    impl InACorner {
        fn members(&self) -> Vec<IpAddr> {
            corner(self.is_six).skip(self.first.into()).take(1 << self.free).collect()
        }

        fn text(&self) -> String {
            match (self.members()[0], self.is_mapped) {
                (IpAddr::V4(four), true) => format!("{}/{}", four.to_ipv6_mapped(), 128 - self.free),
                (IpAddr::V4(four), false) => format!("{four}/{}", 32 - self.free),
                (IpAddr::V6(six), _) => format!("{six}/{}", 128 - self.free),
            }
        }
    }

    fn in_a_corner() -> impl Strategy<Value = InACorner> {
        (any::<bool>(), any::<bool>(), 0_u8..64, 0_u8..=6).prop_map(|(is_six, is_mapped, near, free)| {
            InACorner { is_six, is_mapped, first: near - near % (1 << free), free }
        })
    }

    proptest! {
        #[test]
        fn it_holds_just_those_who_agree_with_it_in_its_bits(base: u32, other: u32, bits in 0u8..=32) {
            let base = (u64::from(base) >> (32 - bits) << (32 - bits)) as u32;
            let network = network(&format!("{}/{bits}", Ipv4Addr::from_bits(base)));
            let other_address = IpAddr::V4(Ipv4Addr::from_bits(other));
            let expected = agree(base.into(), other.into(), bits, 32);
            prop_assert_eq!(network.contains(other_address), expected);
            prop_assert_eq!(network.covers(&other_address.into()), expected);
        }

        #[test]
        fn it_holds_a_network_just_if_it_holds_its_first_and_last(base: u128, bits in 0u8..=128, more in 0u8..=128) {
            let masked = |value: u128, bits: u8| value.checked_shr(128 - u32::from(bits)).map_or(0, |kept| {
                kept.checked_shl(128 - u32::from(bits)).unwrap_or(0)
            });
            let text = |value: u128, bits: u8| format!("{}/{bits}", Ipv6Addr::from_bits(value));
            let outer = network(&text(masked(base, bits), bits));
            let inner = Ipv6Addr::from_bits(masked(base ^ 1 << 127 >> (more / 2), more));
            prop_assume!(inner.to_ipv4_mapped().is_none());
            let inner_net = network(&text(inner.to_bits(), more));
            let last = inner.to_bits() | u128::MAX.checked_shr(more.into()).unwrap_or(0);
            let holds = |value: u128| outer.contains(IpAddr::V6(Ipv6Addr::from_bits(value)));
            prop_assert_eq!(outer.covers(&inner_net), holds(inner.to_bits()) && holds(last));
        }

        /// All addresses of a corner of each kind are gone through, so that nothing is left to
        /// arithmetic with bits.
        #[test]
        fn one_network_covers_another_just_if_it_has_all_of_its_addresses(one in in_a_corner(), other in in_a_corner()) {
            let (own, theirs) = (network(&one.text()), network(&other.text()));
            let (mine, others) = (one.members(), other.members());
            prop_assert_eq!(own.covers(&theirs), others.iter().all(|address| mine.contains(address)));
            for address in corner(false).chain(corner(true)) {
                prop_assert_eq!(own.contains(address), mine.contains(&address), "{}", address);
                if let IpAddr::V4(four) = address {
                    prop_assert_eq!(own.contains(four.to_ipv6_mapped().into()), mine.contains(&address));
                }
            }
            prop_assert_eq!(own == theirs, mine == others);
        }

        #[test]
        fn whatever_is_read_has_one_way_of_being_written(text in "[0-9a-f:./]{0,50}") {
            if let Ok(network) = text.parse::<Network>() {
                prop_assert_eq!(network.to_string().parse(), Ok(network));
            }
        }
    }

    #[test]
    fn an_address_has_a_network_around_it_however_it_is_written() {
        for (address, around) in [
            ("192.0.2.7", "192.0.2.0/24"),
            ("::ffff:192.0.2.255", "192.0.2.0/24"),
            ("2001:db8:1:2::7", "2001:db8:1::/48"),
        ] {
            assert_eq!(Network::around(address.parse().unwrap()).to_string(), around);
        }
    }
}
