//! The eras of the protocol, and which of them this server speaks.

use std::borrow::Cow;

use rmcp::model::ProtocolVersion;

/// What `--era` chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Era {
    /// Up to 2025-11-25: `initialize`, sessions, requests from the server. Knows nothing of later
    /// revisions.
    Session,
    /// 2026-07-28 and nothing before it: every request stands alone.
    Stateless,
    /// Both, chosen by how the client opens.
    Both,
}

impl Era {
    /// The revisions that it speaks, oldest first.
    pub(crate) fn versions(self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(match self {
            Era::Session => ProtocolVersion::known_up_to(&ProtocolVersion::LATEST_WITH_INITIALIZE),
            Era::Stateless => &[ProtocolVersion::V_2026_07_28],
            Era::Both => ProtocolVersion::KNOWN_VERSIONS,
        })
    }

    /// Whether it speaks this revision.
    pub(crate) fn speaks(self, version: &str) -> bool {
        self.versions().iter().any(|known| known.as_str() == version)
    }

    /// The revisions that it speaks, for a message.
    pub(crate) fn named(self) -> String {
        self.versions().iter().map(ProtocolVersion::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a request of this revision is of the stateless era. A request without a revision is not.
pub(crate) fn is_stateless(version: Option<&ProtocolVersion>) -> bool {
    version.is_some_and(|version| !version.has_initialize())
}
