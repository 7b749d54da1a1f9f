//! `/api/user/webhooks`: the caller's. `/api/admin/webhooks`: those for all accounts. Changes take
//! a browser session.

pub(crate) mod add;
pub(crate) mod list;
pub(crate) mod remove;
pub(crate) mod test;

use jiff::Timestamp;
use serde::Serialize;
use trustrelay_authority::WebhookRecord;
use uuid::Uuid;

/// A webhook, as the API shows it. Of its URL only the origin: path and query often hold a secret.
#[derive(Serialize)]
pub(crate) struct Webhook {
    webhook_id: Uuid,
    origin: String,
    created_at: Timestamp,
}

impl From<WebhookRecord> for Webhook {
    fn from(record: WebhookRecord) -> Self {
        Self { webhook_id: record.webhook_id, origin: record.origin, created_at: record.created_at }
    }
}

/// `{webhook_id}` of a path. What is no id is the id of no webhook, so that who may not ask is told
/// that first.
pub(crate) fn webhook_id(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_default()
}
