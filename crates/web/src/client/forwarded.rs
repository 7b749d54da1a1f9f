//! The two headers of proxies, read from the right: what the nearest proxy has written is read
//! first, and nothing that stands to the left of it, which may be the client's own and any bytes,
//! can change how.
//!
//! An empty element is not legible, though lists may have them (RFC 9110 §5.6.1): a proxy that
//! knows no address and writes nothing would else lend its word to what the client has written
//! before it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The last address of an `X-Forwarded-For`, and what stands before it. No address: it is none.
pub(super) fn last_of_list(hops: &[u8]) -> (Option<IpAddr>, Option<&[u8]>) {
    let comma = hops.iter().rposition(|byte| *byte == b',');
    let (last, before) = comma.map_or((hops, None), |at| (&hops[at + 1..], Some(&hops[..at])));
    (text(last).and_then(node), before)
}

/// Whom the last element of a `Forwarded` speaks for (RFC 7239 §4), and what stands before it. No
/// address: it has no `for`, or several, or it is hidden (`unknown`, `_name`), or not legible.
pub(super) fn last_of_forwarded(hops: &[u8]) -> (Option<IpAddr>, Option<&[u8]>) {
    let (element, before) = last_split(hops, b',');
    (forwarded_for(element), before)
}

/// What stands behind the last separator that is in no quoted string, and what before it. Seen from
/// the right a quote begins a string, and the next one that is not escaped ends it.
fn last_split(bytes: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    let mut is_quoted = false;
    for at in (0..bytes.len()).rev() {
        if bytes[at] == b'"' {
            let escapes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            is_quoted ^= escapes % 2 == 0;
        } else if bytes[at] == separator && !is_quoted {
            return (&bytes[at + 1..], Some(&bytes[..at]));
        }
    }
    (bytes, None)
}

fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(pairs) = rest {
        let (pair, before) = last_split(pairs, b';');
        let at = pair.iter().position(|byte| *byte == b'=')?;
        if text(&pair[..at])?.eq_ignore_ascii_case("for") && found.replace(text(&pair[at + 1..])?).is_some() {
            return None;
        }
        rest = before;
    }
    // A token holds no `:` and no `[`, so that ports and IPv6 stand in quotes (RFC 7239 §6). An
    // address has nothing to escape.
    let value = found?;
    match value.strip_prefix('"') {
        Some(quoted) => node(quoted.strip_suffix('"')?),
        None => node(value),
    }
}

/// Without the spaces around it.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().map(|text| text.trim_matches([' ', '\t']))
}

/// An address, perhaps with a port; one of IPv6 stands in brackets then (RFC 7239 §6), and may do
/// so without.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_node = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| is_node).map(IpAddr::V6);
    }
    let (address, port) = text.split_once(':')?;
    address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port)).map(IpAddr::V4)
}

/// Digits, or a name instead of them (RFC 7239 §6.3).
fn is_port(port: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    port.strip_prefix('_').map_or_else(
        || (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
        is_name,
    )
}
