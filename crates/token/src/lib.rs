//! The personal access token of TrustRelay: its format, what a store may keep of it, what it may
//! open, and who it stands for.
//!
//! This crate does no I/O and knows no async runtime. Its promises do not change: the prefix, the
//! length, the alphabet and the checksum of a token (see [`Token`]), so that a token found in a
//! file ten years from now is still recognized.
//!
//! ```
//! use trustrelay_token::{Reach, ScopeSet, Token};
//!
//! let token = Token::generate().unwrap();
//! assert_eq!(token.expose().len(), 45);
//! let scopes: ScopeSet = "mcp:github api:read".parse().unwrap();
//! assert_eq!(scopes.reach("github", "search"), Reach::Whole);
//! ```

mod digest;
mod format;
mod limits;
mod network;
mod principal;
mod scope;
mod verifier;

pub use digest::{DigestKey, KeyId, TokenDigest};
pub use format::{MalformedToken, PREFIX, RandomSourceFailed, TOKEN_LEN, Token};
pub use limits::{Beyond, Limits};
pub use network::{BadNetwork, Network, Quoted};
pub use principal::{Account, Pat, Principal, Role, Standing, Upstreams};
pub use scope::{BadScope, Reach, Scope, ScopeSet, UpstreamName};
pub use verifier::{Denied, Verification, Verifier};
