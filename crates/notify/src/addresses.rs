//! The network addresses that a webhook may reach. A webhook's URL comes from a user. Without this
//! check, a user could make the server call hosts that only the server can reach (SSRF).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of network that an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The public internet.
    Public,
    /// A private network: allowed only if private networks are allowed.
    Private(&'static str),
    /// Never allowed as a webhook's receiver.
    Never(&'static str),
}

use Reach::{Never, Private, Public};

/// The special-purpose IPv4 networks (IANA's registry, RFC 6890). The first entry that contains an
/// address decides.
const V4: [(Ipv4Addr, u32, Reach); 18] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, Never("this network")),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Private("private")),
    (Ipv4Addr::new(100, 100, 100, 200), 32, Never("a cloud's metadata")),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Private("carrier-grade NAT")),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Private("loopback")),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Never("link-local")),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Private("private")),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Never("protocol assignments")),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Never("documentation")),
    (Ipv4Addr::new(192, 31, 196, 0), 24, Never("AS112")),
    (Ipv4Addr::new(192, 52, 193, 0), 24, Never("AMT")),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Never("6to4 relay")),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Private("private")),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Never("benchmarking")),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Never("documentation")),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Never("documentation")),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Never("multicast")),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Never("reserved")),
];

/// The special-purpose IPv6 networks. An address in none of them and outside 2000::/3 is
/// unassigned.
const V6: [(Ipv6Addr, u32, Reach); 12] = [
    (Ipv6Addr::UNSPECIFIED, 128, Never("unspecified")),
    (Ipv6Addr::LOCALHOST, 128, Private("loopback")),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32, Never("a cloud's metadata")),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Private("unique local")),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Never("link-local")),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Never("multicast")),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Never("protocol assignments")),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Never("documentation")),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, Never("6to4")),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48, Never("AS112")),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Never("documentation")),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, Public),
];

/// IPv4 addresses embedded in IPv6, where the connection goes to the IPv4 address: IPv4-mapped (RFC
/// 4291) and the well-known prefix of NAT64 (RFC 6052). On an IPv6-only network every public IPv4
/// host has a NAT64 address.
const MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// Classifies an address by the network that it belongs to.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) if is_in_v6(address, MAPPED, 96) || is_in_v6(address, NAT64, 96) => {
            let [.., a, b, c, d] = address.octets();
            reach_v4(Ipv4Addr::new(a, b, c, d))
        }
        IpAddr::V6(address) => {
            let found = V6.iter().find(|(network, prefix, _)| is_in_v6(address, *network, *prefix));
            found.map_or(Never("not assigned"), |(_, _, reach)| *reach)
        }
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let differ = |network: Ipv4Addr| address.to_bits() ^ network.to_bits();
    let found = V4.iter().find(|(network, prefix, _)| differ(*network).leading_zeros() >= *prefix);
    found.map_or(Public, |(_, _, reach)| *reach)
}

fn is_in_v6(address: Ipv6Addr, network: Ipv6Addr, prefix: u32) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reach_of(text: &str) -> Reach {
        reach(text.parse().expect(text))
    }

    #[test]
    fn each_network_of_one_s_own_is_private_from_its_first_address_to_its_last() {
        for (first, last) in [
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("::1", "::1"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::ffff:10.0.0.0", "::ffff:10.255.255.255"),
            ("::ffff:127.0.0.1", "::ffff:192.168.0.1"),
            ("64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1"),
        ] {
            for text in [first, last] {
                assert!(matches!(reach_of(text), Private(_)), "{text}: {:?}", reach_of(text));
            }
        }
    }

    #[test]
    fn no_special_network_is_ever_a_receiver_s() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("100.100.100.200", "100.100.100.200"),
            ("169.254.0.0", "169.254.255.255"),
            ("169.254.169.254", "169.254.170.2"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.31.196.0", "192.31.196.255"),
            ("192.52.193.0", "192.52.193.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "239.255.255.255"),
            ("240.0.0.0", "255.255.255.255"),
            ("::", "::"),
            ("::2", "::ffff"),
            // IPv4-compatible and IPv4-translated addresses are no longer in use.
            ("::10.0.0.1", "::ffff:0:127.0.0.1"),
            ("::ffff:0.0.0.0", "::ffff:169.254.169.254"),
            ("64:ff9b::169.254.169.254", "64:ff9b::255.255.255.255"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
            ("100::", "100::ffff:ffff:ffff:ffff"),
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("4000::", "5f00::1"),
            ("fd00:ec2::254", "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            for text in [first, last] {
                assert!(matches!(reach_of(text), Never(_)), "{text}: {:?}", reach_of(text));
            }
        }
    }

    #[test]
    fn the_addresses_beside_them_are_public() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2000::",
            "2001:200::",
            "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db9::",
            "2003::",
            "2606:4700:4700::1111",
            "3fff:1000::",
        ] {
            assert_eq!(reach_of(text), Public, "{text}");
        }
    }

    /// Arbitrary addresses, and addresses near the edges of the tables' networks.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let v4_edge =
            (prop::sample::select(V4.to_vec()), any::<u32>(), -1_i64..=1).prop_map(|(row, host, by)| {
                let mask = u32::MAX.checked_shr(row.1).unwrap_or(0);
                let at = i64::from(row.0.to_bits() | (host & mask)) + by;
                IpAddr::from(Ipv4Addr::from_bits(u32::try_from(at).unwrap_or(u32::MAX)))
            });
        let v6_edge = (prop::sample::select(V6.to_vec()), any::<u128>()).prop_map(|(row, host)| {
            let mask = u128::MAX.checked_shr(row.1).unwrap_or(0);
            IpAddr::from(Ipv6Addr::from_bits(row.0.to_bits() | (host & mask)))
        });
        let v4 = any::<Ipv4Addr>();
        let mapped = any::<Ipv4Addr>().prop_map(|address| IpAddr::from(address.to_ipv6_mapped()));
        prop_oneof![
            v4.prop_map(IpAddr::from),
            any::<Ipv6Addr>().prop_map(IpAddr::from),
            mapped,
            v4_edge,
            v6_edge
        ]
    }

    fn is_special_to_std(address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                address.is_private()
                    || address.is_loopback()
                    || address.is_link_local()
                    || address.is_multicast()
                    || address.is_broadcast()
                    || address.is_documentation()
                    || address.is_unspecified()
            }
            IpAddr::V6(address) => {
                address.is_loopback()
                    || address.is_multicast()
                    || address.is_unspecified()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_the_standard_library_knows_as_special_is_never_public(address in addresses()) {
            if is_special_to_std(address) {
                prop_assert_ne!(reach(address), Public);
            }
            // An IPv4 address and its IPv6 spellings lead to the same host, so they are classified
            // alike.
            prop_assert_eq!(reach(address), reach(address.to_canonical()));
            if let IpAddr::V4(address) = address {
                let nat64 = Ipv6Addr::from_bits(NAT64.to_bits() | u128::from(address.to_bits()));
                prop_assert_eq!(reach(IpAddr::from(nat64)), reach(IpAddr::from(address)));
            }
        }
    }
}
