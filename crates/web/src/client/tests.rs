//! Whom a request comes from, as a proxy's word, a client's lie and a proxy's silence have it.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// The balancer's network, and the one proxy before it.
const TRUSTED: [&str; 3] = ["10.0.0.0/24", "192.0.2.1", "2001:db8:1::/48"];
const BALANCER: &str = "10.0.0.5";

fn proxies(header: ProxyHeader) -> TrustedProxies {
    let networks = TRUSTED.iter().map(|text| text.parse().expect("a network")).collect();
    TrustedProxies { networks, header }
}

fn asked(header: ProxyHeader, peer: &str, lines: &[(&HeaderName, &[u8])]) -> Client {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value).expect("a value"));
    }
    proxies(header).client(peer.parse().expect("an address"), &headers)
}

fn named<'l>(name: &'l HeaderName, lines: &[&'l str]) -> Vec<(&'l HeaderName, &'l [u8])> {
    lines.iter().map(|line| (name, line.as_bytes())).collect()
}

fn by_list(lines: &[&str]) -> Client {
    asked(ProxyHeader::XForwardedFor, BALANCER, &named(&X_FORWARDED_FOR, lines))
}

fn by_forwarded(lines: &[&str]) -> Client {
    asked(ProxyHeader::Forwarded, BALANCER, &named(&FORWARDED, lines))
}

fn known(address: &str) -> Client {
    Client { address: Some(address.parse().expect("an address")), is_hidden: false }
}

/// All that is known is the proxy that was last to speak legibly.
fn hidden_behind(address: &str) -> Client {
    Client { is_hidden: true, ..known(address) }
}

#[test]
fn who_is_no_trusted_proxy_speaks_for_nobody() {
    for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
        for (peer, is) in
            [("203.0.113.9", "203.0.113.9"), ("10.0.1.5", "10.0.1.5"), ("::ffff:203.0.113.9", "203.0.113.9")]
        {
            let lines: [(&HeaderName, &[u8]); 2] =
                [(&X_FORWARDED_FOR, b"10.0.0.7"), (&FORWARDED, b"for=10.0.0.7")];
            assert_eq!(asked(header, peer, &lines), known(is));
        }
    }
    let nobody = TrustedProxies::default();
    let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("203.0.113.9"))]);
    assert_eq!(nobody.client(BALANCER.parse().expect("an address"), &headers), known(BALANCER));
}

#[test]
fn a_trusted_proxy_names_its_client() {
    assert_eq!(by_list(&["203.0.113.9"]), known("203.0.113.9"));
    assert_eq!(by_forwarded(&["for=203.0.113.9"]), known("203.0.113.9"));
    // As a listener for both kinds sees it.
    let line: [(&HeaderName, &[u8]); 1] = [(&X_FORWARDED_FOR, b"203.0.113.9")];
    assert_eq!(asked(ProxyHeader::XForwardedFor, "::ffff:10.0.0.5", &line), known("203.0.113.9"));
}

#[test]
fn a_proxy_that_names_nobody_asks_for_itself() {
    assert_eq!(by_list(&[]), known(BALANCER));
    assert_eq!(by_forwarded(&[]), known(BALANCER));
}

#[test]
fn the_header_that_the_proxies_do_not_write_is_the_clients_and_is_ignored() {
    let lies: [(&HeaderName, &[u8]); 2] = [(&FORWARDED, b"for=10.0.0.7"), (&X_FORWARDED_FOR, b"203.0.113.9")];
    assert_eq!(asked(ProxyHeader::XForwardedFor, BALANCER, &lies), known("203.0.113.9"));
    let lies: [(&HeaderName, &[u8]); 2] = [(&X_FORWARDED_FOR, b"10.0.0.7"), (&FORWARDED, b"for=203.0.113.9")];
    assert_eq!(asked(ProxyHeader::Forwarded, BALANCER, &lies), known("203.0.113.9"));
    assert_eq!(asked(ProxyHeader::Forwarded, BALANCER, &lies[..1]), known(BALANCER));
}

#[test]
fn what_the_client_has_written_stands_left_of_the_first_who_is_not_trusted() {
    for lie in ["10.0.0.7", "198.51.100.1", "198.51.100.1, 10.0.0.7", "unknown", "garbage", "", ",,,"] {
        assert_eq!(by_list(&[&format!("{lie}, 203.0.113.9")]), known("203.0.113.9"), "{lie}");
        assert_eq!(by_list(&[lie, "203.0.113.9"]), known("203.0.113.9"), "{lie}");
        assert_eq!(by_list(&[&format!("{lie}, 203.0.113.9, 192.0.2.1")]), known("203.0.113.9"), "{lie}");
    }
    for lie in ["for=10.0.0.7", "for=\"", "for=\"\\", "\"", "for=\"x\\\"", "x", "", "for=10.0.0.7;by=\"a,b"] {
        assert_eq!(by_forwarded(&[&format!("{lie}, for=203.0.113.9")]), known("203.0.113.9"), "{lie}");
        assert_eq!(by_forwarded(&[lie, "for=203.0.113.9"]), known("203.0.113.9"), "{lie}");
    }
    // Bytes that are no text.
    let line: [(&HeaderName, &[u8]); 1] = [(&X_FORWARDED_FOR, b"\xff\xfe, 203.0.113.9")];
    assert_eq!(asked(ProxyHeader::XForwardedFor, BALANCER, &line), known("203.0.113.9"));
    let line: [(&HeaderName, &[u8]); 1] = [(&FORWARDED, b"for=\xff, for=203.0.113.9")];
    assert_eq!(asked(ProxyHeader::Forwarded, BALANCER, &line), known("203.0.113.9"));
}

#[test]
fn trusted_proxies_in_a_row_are_passed_whether_on_one_line_or_on_several() {
    assert_eq!(by_list(&["203.0.113.9, 2001:db8:1::7, 192.0.2.1"]), known("203.0.113.9"));
    assert_eq!(by_list(&["203.0.113.9", "2001:db8:1::7", "192.0.2.1"]), known("203.0.113.9"));
    assert_eq!(by_list(&["203.0.113.9 ,\t192.0.2.1 "]), known("203.0.113.9"));
    assert_eq!(
        by_list(&["203.0.113.9, 192.0.2.2"]),
        known("192.0.2.2"),
        "a neighbour of a trusted one is not trusted"
    );
    assert_eq!(
        by_forwarded(&["for=203.0.113.9;proto=https", "For=\"[2001:db8:1::7]:443\";by=_b, for=192.0.2.1"]),
        known("203.0.113.9")
    );
}

#[test]
fn if_all_are_trusted_the_farthest_has_sent_it() {
    assert_eq!(by_list(&["10.0.0.9, 192.0.2.1"]), known("10.0.0.9"));
    assert_eq!(by_forwarded(&["for=10.0.0.9, for=192.0.2.1"]), known("10.0.0.9"));
}

#[test]
fn an_address_may_have_brackets_and_a_port() {
    for (text, is) in [
        ("203.0.113.9:4711", "203.0.113.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("[2001:db8::9]", "2001:db8::9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:1", "203.0.113.9"),
    ] {
        assert_eq!(by_list(&[text]), known(is), "{text}");
        assert_eq!(by_forwarded(&[&format!("by=_a;for=\"{text}\";proto=http")]), known(is), "{text}");
    }
    assert_eq!(by_forwarded(&["for=\"203.0.113.9:_port\""]), known("203.0.113.9"));
    assert_eq!(by_forwarded(&["host=\"a,b;for=10.0.0.7\";FOR=203.0.113.9"]), known("203.0.113.9"));
    assert_eq!(by_forwarded(&["host=\"a\\\"b, for=10.0.0.7\";for=203.0.113.9"]), known("203.0.113.9"));
}

#[test]
fn a_proxy_that_does_not_say_legibly_whom_it_speaks_for_hides_them() {
    for garbage in [
        "unknown",
        "_hidden",
        "",
        "203.0.113",
        "0203.0.113.9",
        "203.0.113.9:",
        "203.0.113.9:123456",
        "203.0.113.9:x",
        "[203.0.113.9]",
        "[2001:db8::9",
        "[2001:db8::9]x",
        "[2001:db8::9]:",
        "fe80::1%eth0",
        "unix:",
        "203.0.113.9 10.0.0.7",
        "localhost",
    ] {
        assert_eq!(by_list(&[garbage]), hidden_behind(BALANCER), "{garbage}");
        assert_eq!(
            by_list(&[&format!("198.51.100.1, {garbage}, 192.0.2.1")]),
            hidden_behind("192.0.2.1"),
            "{garbage}"
        );
        assert_eq!(by_list(&["198.51.100.1", garbage]), hidden_behind(BALANCER), "{garbage}");
        assert_eq!(
            by_forwarded(&[&format!("for=198.51.100.1, for=\"{garbage}\"")]),
            hidden_behind(BALANCER),
            "{garbage}"
        );
    }
    for element in [
        "",
        "for",
        "for=",
        "proto=http",
        "203.0.113.9",
        "for=203.0.113.9;for=198.51.100.1",
        "for=203.0.113.9;",
        ";for=203.0.113.9",
        "for=203.0.113.9\"",
        "for=\"203.0.113.9",
        "for=\"203.0.113.9\\\"",
        "for=\"\"203.0.113.9\"\"",
        "for =203.0.113.9x",
        "for=unknown;proto=https",
    ] {
        assert_eq!(by_forwarded(&["for=198.51.100.1", element]), hidden_behind(BALANCER), "{element}");
    }
}

/// As a proxy writes an address: in every way that there is.
fn written(address: IpAddr, way: u8) -> String {
    match (address, way % 3) {
        (_, 0) => address.to_string(),
        (IpAddr::V4(four), 1) => format!("{four}:4711"),
        (IpAddr::V4(four), _) => four.to_ipv6_mapped().to_string(),
        (IpAddr::V6(six), 1) => format!("[{six}]:4711"),
        (IpAddr::V6(six), _) => format!("[{six}]"),
    }
}

fn stranger() -> impl Strategy<Value = IpAddr> {
    let any = prop_oneof![
        any::<u32>().prop_map(|four| IpAddr::V4(four.into())),
        any::<u128>().prop_map(|six| IpAddr::V6(six.into()))
    ];
    any.prop_filter("a proxy", |address| !proxies(ProxyHeader::Forwarded).trusts(address.to_canonical()))
}

fn proxy() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u8>().prop_map(|last| IpAddr::from([10, 0, 0, last])),
        Just(IpAddr::from([192, 0, 2, 1])),
        any::<u16>().prop_map(|last| IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, last])),
    ]
}

proptest! {
    #[test]
    fn whatever_the_client_writes_it_is_whom_the_first_proxy_has_seen(
        lie in proptest::collection::vec(0x20u8..=0xff, 0..60),
        client in stranger(),
        chain in proptest::collection::vec((proxy(), 0u8..3, any::<bool>()), 0..6),
        way in 0u8..3,
    ) {
        let lie: Vec<u8> = lie.into_iter().filter(|byte| *byte != 0x7f).collect();
        for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
            let element = |address, way| match header {
                ProxyHeader::XForwardedFor => written(address, way),
                ProxyHeader::Forwarded => format!("host=\"a,;\\\"\";for=\"{}\"", written(address, way)),
            };
            // Each proxy adds whom it sees, on the line that is there or on one of its own.
            let mut lines = vec![lie.clone()];
            let seen = std::iter::once((client, way, false)).chain(chain.iter().copied());
            for (address, way, on_its_own) in seen {
                let element = element(address, way).into_bytes();
                match lines.last_mut() {
                    Some(line) if !on_its_own => line.extend([b", ".as_slice(), &element].concat()),
                    _ => lines.push(element),
                }
            }
            let name = if header == ProxyHeader::Forwarded { &FORWARDED } else { &X_FORWARDED_FOR };
            let lines: Vec<_> = lines.iter().map(|line| (name, line.as_slice())).collect();
            let expected = Client { address: Some(client.to_canonical()), is_hidden: false };
            prop_assert_eq!(asked(header, BALANCER, &lines), expected);
        }
    }

    #[test]
    fn whatever_a_proxy_writes_nobody_else_is_believed(
        lines in proptest::collection::vec(proptest::collection::vec(0x20u8..=0xff, 0..80), 0..4),
        peer in stranger(),
    ) {
        for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
            let name = if header == ProxyHeader::Forwarded { &FORWARDED } else { &X_FORWARDED_FOR };
            let lines: Vec<_> = lines.iter().map(|line| line.iter().copied().filter(|byte| *byte != 0x7f).collect::<Vec<u8>>()).collect();
            let lines: Vec<_> = lines.iter().map(|line| (name, line.as_slice())).collect();
            let client = Client { address: Some(peer.to_canonical()), is_hidden: false };
            prop_assert_eq!(asked(header, &peer.to_string(), &lines), client);
            // And from a trusted peer it never panics.
            let _ = asked(header, BALANCER, &lines);
        }
    }
}
