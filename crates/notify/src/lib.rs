//! Notices on their way out.
//!
//! - [`Mailer`] hands mail in over SMTP; [`Webhooks`] posts signed messages (Standard Webhooks). Each sends once, within a bounded
//!   time, and says of what failed whether to try again ([`Failure`]).
//! - [`Post`] is both, as the authority sees them.
//! - [`tell`] says what a notice says.
//! - [`addresses`] says which addresses a webhook may reach.

pub mod addresses;
mod failure;
mod mail;
mod post;
mod signature;
mod smtp_url;
mod text;
mod webhook;
mod webhook_url;

pub use failure::Failure;
pub use mail::{BadSender, Mail, MailTimes, Mailer};
pub use post::Post;
pub use signature::sign;
pub use smtp_url::{BadSmtpUrl, SmtpUrl};
pub use text::{Text, tell};
pub use webhook::{Hook, Resolve, SystemResolver, WebhookTimes, Webhooks};
pub use webhook_url::{BadWebhookUrl, MAX_WEBHOOK_URL, WebhookUrl};
