#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn set(text: &str) -> ScopeSet {
    text.parse().unwrap()
}

#[test]
fn every_scope_of_the_grammar_reads_and_prints_alike() {
    let text = "mcp mcp:read mcp:github mcp:github/search api api:read tokens rotate";
    assert_eq!(set(text).to_string(), text);
    assert_eq!(set("  tokens   mcp mcp ").to_string(), "mcp tokens");
}

#[test]
fn what_is_not_a_scope_is_refused_with_the_list_of_those_there_are() {
    for wrong in [
        "mpc",
        "MCP",
        "api:write",
        "mcp,api",
        "mcp\tapi",
        "*",
        "mcp:Git",
        "mcp:",
        "mcp:a_b",
        "mcp:x/",
        "mcp:/t",
    ] {
        assert!(wrong.parse::<ScopeSet>().is_err(), "{wrong}");
    }
    let message = "mpc".parse::<ScopeSet>().unwrap_err().to_string();
    assert!(message.contains("`mpc`") && message.contains("mcp:<upstream>/<tool>"), "{message}");
    assert_eq!("  ".parse::<ScopeSet>().unwrap_err(), BadScope::Empty);
}

#[test]
fn a_token_pasted_as_a_scope_is_not_repeated() {
    let token = crate::Token::generate().unwrap();
    let message = token.expose().parse::<ScopeSet>().unwrap_err().to_string();
    assert!(!message.contains(&token.expose()[7..12]), "{message}");
}

#[test]
fn too_many_scopes_are_refused() {
    let many = (0..65).map(|n| format!("mcp:u{n}")).collect::<Vec<_>>().join(" ");
    assert_eq!(many.parse::<ScopeSet>().unwrap_err(), BadScope::TooMany);
    assert_eq!("mcp ".repeat(2000).parse::<ScopeSet>().unwrap_err(), BadScope::TooMany);
}

#[test]
fn a_scope_opens_what_it_says_and_nothing_beside() {
    for (scopes, reach) in [
        ("mcp", Reach::Whole),
        ("mcp:a", Reach::Whole),
        ("mcp:ab", Reach::Nothing),
        ("mcp:a/t", Reach::Whole),
        ("mcp:a/tt", Reach::Nothing),
        ("mcp:read", Reach::ReadOnly),
        ("mcp:read mcp:a/t", Reach::Whole),
        ("mcp:read mcp:a/tt", Reach::ReadOnly),
        ("api api:read tokens", Reach::Nothing),
    ] {
        assert_eq!(set(scopes).reach("a", "t"), reach, "{scopes}");
    }
    assert!(!set("mcp:read").allows_upstream("a"));
    assert!(set("mcp:read").reads_upstream("a") && set("mcp:a").reads_upstream("a"));
    assert!(!set("mcp:a/t").reads_upstream("a"));
    assert!(set("mcp:read").touches_upstream("a"));
    assert!(!set("mcp:a/t").allows_upstream("a"));
    assert!(set("mcp:a/t").touches_upstream("a"));
    assert!(!set("api tokens").allows_any_mcp());
    assert!(set("api").allows(&Scope::ApiRead));
    assert!(!set("api:read").allows(&Scope::Api));
    assert!(!set("api").allows(&Scope::Tokens));
}

#[test]
fn a_child_is_within_its_parent() {
    assert!(set("mcp:a/t api:read").is_within(&set("mcp:a api")));
    assert!(!set("mcp").is_within(&set("mcp:a")));
    assert!(!set("tokens").is_within(&set("mcp api")));
    assert!(set("mcp:read").is_within(&set("mcp")));
    // Whether a single tool only reads is the upstream's word, and may change.
    assert!(!set("mcp:a/t").is_within(&set("mcp:read")));
    assert!(!set("mcp:read").is_within(&set("mcp:a")));
}

proptest! {
    #[test]
    fn reading_what_was_printed_gives_the_same(text in "(mcp|api|tokens|api:read|mcp:[a-z0-9-]{1,8}|mcp:[a-z]{1,4}/[a-zA-Z_./]{1,9})( (mcp|api|mcp:[a-z]{1,3})){0,5}") {
        let parsed = set(&text);
        prop_assert_eq!(set(&parsed.to_string()), parsed);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,80}") {
        let _ = text.parse::<ScopeSet>();
    }
}
