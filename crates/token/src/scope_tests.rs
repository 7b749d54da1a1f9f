#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

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
    // The upstream declares whether a tool only reads, and may change that.
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

/// Upstreams and tools. No scope names the last of each, because a sum of narrow scopes is never as
/// much as a wide one.
const UPSTREAMS: [&str; 3] = ["a", "ab", "unnamed"];
const TOOLS: [&str; 3] = ["t", "t/u", "unnamed"];

/// A deed, as narrow as it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    /// To call a tool, of which its upstream may say that it only reads.
    Call {
        upstream: &'static str,
        tool: &'static str,
        only_reads: bool,
    },
    /// To read an upstream's resources and prompts.
    Resources(&'static str),
    ApiGet,
    ApiChange,
    ManageTokens,
    RotateItself,
}

/// All that can be done.
fn deeds() -> Vec<Deed> {
    let mut all = vec![Deed::ApiGet, Deed::ApiChange, Deed::ManageTokens, Deed::RotateItself];
    for upstream in UPSTREAMS {
        all.push(Deed::Resources(upstream));
        for tool in TOOLS {
            all.extend([false, true].map(|only_reads| Deed::Call { upstream, tool, only_reads }));
        }
    }
    all
}

/// Returns whether a scope opens a deed, by the documentation of [`Scope`] and without its code.
fn opens(scope: &str, deed: Deed) -> bool {
    match (scope, deed) {
        ("mcp", Deed::Call { .. } | Deed::Resources(_)) => true,
        ("mcp:read", Deed::Call { only_reads, .. }) => only_reads,
        ("mcp:read", Deed::Resources(_)) => true,
        ("api", Deed::ApiGet | Deed::ApiChange) | ("api:read", Deed::ApiGet) => true,
        ("tokens", Deed::ManageTokens | Deed::RotateItself) | ("rotate", Deed::RotateItself) => true,
        (scope, Deed::Call { upstream, tool, .. }) => {
            scope == format!("mcp:{upstream}") || scope == format!("mcp:{upstream}/{tool}")
        }
        (scope, Deed::Resources(upstream)) => scope == format!("mcp:{upstream}"),
        _ => false,
    }
}

fn opened(scopes: &[&str]) -> BTreeSet<Deed> {
    deeds().into_iter().filter(|deed| scopes.iter().any(|scope| opens(scope, *deed))).collect()
}

fn some_scopes() -> impl Strategy<Value = Vec<&'static str>> {
    let all = vec![
        "mcp",
        "mcp:read",
        "mcp:a",
        "mcp:ab",
        "mcp:a/t",
        "mcp:a/t/u",
        "mcp:ab/t",
        "mcp:ab/t/u",
        "api",
        "api:read",
        "tokens",
        "rotate",
    ];
    prop::collection::vec(prop::sample::select(all), 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn one_set_is_within_another_just_if_it_opens_nothing_more(one in some_scopes(), other in some_scopes()) {
        let (mine, theirs) = (opened(&one), opened(&other));
        prop_assert_eq!(set(&one.join(" ")).is_within(&set(&other.join(" "))), mine.is_subset(&theirs));
        for scope in one {
            let is_opened = opened(&[scope]).is_subset(&theirs);
            prop_assert_eq!(set(&other.join(" ")).allows(&scope.parse().unwrap()), is_opened, "{}", scope);
        }
    }

    #[test]
    fn a_set_answers_each_question_by_what_it_opens(scopes in some_scopes()) {
        let (set, opened) = (set(&scopes.join(" ")), opened(&scopes));
        for upstream in UPSTREAMS {
            for tool in TOOLS {
                let calls = |only_reads| opened.contains(&Deed::Call { upstream, tool, only_reads });
                let reach = match (calls(false), calls(true)) {
                    (true, true) => Reach::Whole,
                    (false, true) => Reach::ReadOnly,
                    (false, false) => Reach::Nothing,
                    (true, false) => return Err(TestCaseError::fail("a tool that only reads is a tool")),
                };
                prop_assert_eq!(set.reach(upstream, tool), reach, "{}/{}", upstream, tool);
            }
            let is_of_it = |deed: &Deed| match deed {
                Deed::Call { upstream: of, .. } | Deed::Resources(of) => *of == upstream,
                _ => false,
            };
            let of_it: Vec<_> = deeds().into_iter().filter(is_of_it).collect();
            prop_assert_eq!(set.allows_upstream(upstream), of_it.iter().all(|deed| opened.contains(deed)));
            prop_assert_eq!(set.touches_upstream(upstream), of_it.iter().any(|deed| opened.contains(deed)));
            prop_assert_eq!(set.reads_upstream(upstream), opened.contains(&Deed::Resources(upstream)));
        }
        let is_mcp = |deed: &Deed| matches!(deed, Deed::Call { .. } | Deed::Resources(_));
        prop_assert_eq!(set.allows_any_mcp(), opened.iter().any(is_mcp));
    }
}
