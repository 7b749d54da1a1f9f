//! Notices on their way out.
//!
//! - [`Mailer`] hands mail in over SMTP; [`Webhooks`] posts signed messages (Standard Webhooks). Each sends once, within a bounded
//!   time, and says of what failed whether to try again ([`Failure`]).
//! - [`tell`] says what a notice says.
//! - [`addresses`] says which addresses a webhook may reach.

pub mod addresses;
mod failure;
mod mail;
mod notice;
mod signature;
mod smtp_url;
mod text;
mod webhook;
mod webhook_url;

pub use failure::Failure;
pub use mail::{BadSender, Mail, MailTimes, Mailer};
pub use notice::{Notice, NoticeFacts, NoticeKind};
pub use signature::WebhookSecret;
pub use smtp_url::{BadSmtpUrl, SmtpUrl};
pub use text::{Text, tell};
pub use webhook::{Hook, Resolve, SystemResolver, WebhookTimes, Webhooks};
pub use webhook_url::{BadWebhookUrl, MAX_WEBHOOK_URL, WebhookUrl};
