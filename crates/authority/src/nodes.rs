//! The nodes of this TrustRelay, for its administrators.

use trustrelay_token::{Principal, Scope};

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::store::NodeRecord;

/// The nodes, and how far the log has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// The number of the latest log entry.
    pub log_head: u64,
    /// Every node that the store knows of.
    pub nodes: Vec<NodeRecord>,
}

impl Authority {
    /// The nodes, for an administrator. A caller with a token needs the scope `api:read`.
    pub async fn nodes(&self, by: &Principal) -> Result<Nodes, AuthorityError> {
        self.require(by, &Scope::ApiRead)?;
        if !by.is_admin() {
            return Err(AuthorityError::NotAdministrator);
        }
        self.all_nodes().await
    }

    /// The nodes: what the operator at the machine may see, and what is counted.
    pub async fn all_nodes(&self) -> Result<Nodes, AuthorityError> {
        Ok(Nodes { log_head: self.store.log_head().await?, nodes: self.store.nodes().await? })
    }

    /// This node's id, as the store has it.
    pub fn node_id(&self) -> uuid::Uuid {
        self.fence.node_id
    }
}
