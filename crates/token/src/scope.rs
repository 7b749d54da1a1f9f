//! The scopes of a token: `pat_scope`, space-separated (RFC 6749 §3.3).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Longest `pat_scope` that is read, in bytes: 64 scopes of 100 bytes and their spaces.
const MAX_SCOPE_BYTES: usize = 64 * 101;
/// Most scopes in one set.
const MAX_SCOPES: usize = 64;
/// Longest tool name in a scope, in bytes (MCP 2025-11-25, "Tool Names", allows 128).
const MAX_TOOL_BYTES: usize = 128;

/// The name of an upstream: 1 to 32 characters of `a-z`, `0-9` and `-`.
///
/// It holds no `_`, so that `NAME__tool` splits in one way only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamName(String);

impl UpstreamName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UpstreamName {
    type Err = BadScope;

    fn from_str(name: &str) -> Result<Self, BadScope> {
        let fits = (1..=32).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if fits { Ok(Self(name.to_owned())) } else { Err(BadScope::Upstream(clip(name))) }
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A single scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `mcp`: all tools that the user may use.
    Mcp,
    /// `mcp:read`: the tools of every upstream that declare `readOnlyHint`, its resources and its
    /// prompts.
    McpRead,
    /// `mcp:<upstream>`: all of one upstream.
    McpUpstream(UpstreamName),
    /// `mcp:<upstream>/<tool>`: one tool, by the upstream's own name for it.
    McpTool(UpstreamName, String),
    /// `api`: the REST API as the user.
    Api,
    /// `api:read`: its GETs.
    ApiRead,
    /// `tokens`: manage tokens.
    Tokens,
    /// `rotate`: replace the token's own secret by a new one, and nothing else.
    Rotate,
}

/// The reason why a scope is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadScope {
    /// Nothing but spaces.
    #[error("a token needs at least one scope; known scopes are: {KNOWN}")]
    Empty,
    /// Not a known scope.
    #[error("`{0}` is not a known scope; known scopes are: {KNOWN}")]
    Unknown(String),
    /// Not a name that an upstream can have.
    #[error("`{0}` is not a valid upstream name; use 1 to 32 characters of a-z, 0-9 and `-`")]
    Upstream(String),
    /// Not a name that a tool can have.
    #[error(
        "`{0}` is not a valid tool name; use 1 to 128 printable ASCII characters without spaces, quotes and backslashes"
    )]
    Tool(String),
    /// Too many or too long.
    #[error("a token can have at most 64 scopes, with 6464 characters in total")]
    TooMany,
}

/// The scopes there are, for messages.
const KNOWN: &str = "mcp, mcp:read, mcp:<upstream>, mcp:<upstream>/<tool>, api, api:read, tokens, rotate";

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        match text {
            "mcp" => return Ok(Self::Mcp),
            "mcp:read" => return Ok(Self::McpRead),
            "api" => return Ok(Self::Api),
            "api:read" => return Ok(Self::ApiRead),
            "tokens" => return Ok(Self::Tokens),
            "rotate" => return Ok(Self::Rotate),
            _ => {}
        }
        let Some(rest) = text.strip_prefix("mcp:") else {
            return Err(BadScope::Unknown(clip(text)));
        };
        match rest.split_once('/') {
            None => Ok(Self::McpUpstream(rest.parse()?)),
            Some((upstream, tool)) => {
                // The characters of a scope-token (RFC 6749 §3.3).
                let fits = (1..=MAX_TOOL_BYTES).contains(&tool.len())
                    && tool.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
                if !fits {
                    return Err(BadScope::Tool(clip(tool)));
                }
                Ok(Self::McpTool(upstream.parse()?, tool.to_owned()))
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mcp => f.write_str("mcp"),
            Self::McpRead => f.write_str("mcp:read"),
            Self::McpUpstream(upstream) => write!(f, "mcp:{upstream}"),
            Self::McpTool(upstream, tool) => write!(f, "mcp:{upstream}/{tool}"),
            Self::Api => f.write_str("api"),
            Self::ApiRead => f.write_str("api:read"),
            Self::Tokens => f.write_str("tokens"),
            Self::Rotate => f.write_str("rotate"),
        }
    }
}

impl Scope {
    /// Returns whether this scope includes `other`.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mcp, Self::Mcp | Self::McpRead | Self::McpUpstream(_) | Self::McpTool(..)) => true,
            (Self::McpUpstream(mine), Self::McpUpstream(theirs) | Self::McpTool(theirs, _)) => mine == theirs,
            (Self::Api, Self::ApiRead) | (Self::Tokens, Self::Rotate) => true,
            _ => self == other,
        }
    }
}

/// How far a set of scopes reaches to a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Not at all.
    Nothing,
    /// If the tool declares `readOnlyHint` (MCP 2025-11-25, "ToolAnnotations").
    ReadOnly,
    /// Always, for any tool.
    Whole,
}

/// A set of scopes: sorted, without repeats, never empty once parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// Everything a user may do: what a browser session holds.
    pub fn all() -> Self {
        Self(BTreeSet::from([Scope::Mcp, Scope::Api, Scope::Tokens]))
    }

    /// Returns whether the set has `scope`, or a scope that covers it.
    pub fn allows(&self, scope: &Scope) -> bool {
        self.0.iter().any(|held| held.covers(scope))
    }

    /// Returns how far the set reaches to a tool of an upstream, by the upstream's name for it.
    pub fn reach(&self, upstream: &str, tool: &str) -> Reach {
        let reach = self.0.iter().map(|held| match held {
            Scope::Mcp => Reach::Whole,
            Scope::McpUpstream(name) if name.as_str() == upstream => Reach::Whole,
            Scope::McpTool(name, only) if name.as_str() == upstream && only == tool => Reach::Whole,
            Scope::McpRead => Reach::ReadOnly,
            _ => Reach::Nothing,
        });
        reach.max().unwrap_or(Reach::Nothing)
    }

    /// Returns whether all of an upstream (every tool, prompt and resource) is within the set.
    pub fn allows_upstream(&self, upstream: &str) -> bool {
        self.0.iter().any(|held| match held {
            Scope::Mcp => true,
            Scope::McpUpstream(name) => name.as_str() == upstream,
            _ => false,
        })
    }

    /// Returns whether the prompts and resources of an upstream are within the set.
    pub fn reads_upstream(&self, upstream: &str) -> bool {
        self.allows_upstream(upstream) || self.0.contains(&Scope::McpRead)
    }

    /// Returns whether anything of an upstream is within the set.
    pub fn touches_upstream(&self, upstream: &str) -> bool {
        self.0.iter().any(|held| match held {
            Scope::Mcp | Scope::McpRead => true,
            Scope::McpUpstream(name) | Scope::McpTool(name, _) => name.as_str() == upstream,
            _ => false,
        })
    }

    /// Returns whether anything of MCP is within the set.
    pub fn allows_any_mcp(&self) -> bool {
        self.0.iter().any(|held| {
            matches!(held, Scope::Mcp | Scope::McpRead | Scope::McpUpstream(_) | Scope::McpTool(..))
        })
    }

    /// Returns whether each scope of this set is covered by `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|scope| other.allows(scope))
    }

    /// The scopes, in their canonical order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl FromStr for ScopeSet {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        if text.len() > MAX_SCOPE_BYTES {
            return Err(BadScope::TooMany);
        }
        let set = text
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::parse)
            .collect::<Result<BTreeSet<_>, _>>()?;
        match set.len() {
            0 => Err(BadScope::Empty),
            1..=MAX_SCOPES => Ok(Self(set)),
            _ => Err(BadScope::TooMany),
        }
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{scope}")?;
        }
        Ok(())
    }
}

/// Returns the part of an input that an error message repeats: enough to recognize the input, never
/// a whole secret.
fn clip(text: &str) -> String {
    let clipped: String = text.chars().filter(|c| !c.is_control()).take(32).collect();
    if clipped.starts_with(crate::PREFIX) { "(a token, not a scope)".to_owned() } else { clipped }
}

#[cfg(test)]
#[path = "scope_tests.rs"]
mod tests;
