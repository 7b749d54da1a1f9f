//! Delivery of notices by mail and webhook.
//!
//! - [`Mailer`] submits mail over SMTP; [`Webhooks`] posts signed messages (Standard Webhooks).
//!   Each makes one attempt within a bounded time. A [`Failure`] says whether to try again.
//! - [`Post`] combines both into the [`Courier`](trustrelay_authority::Courier) that the authority
//!   uses.
//! - [`tell`] renders a notice as a mail and as JSON.
//! - [`addresses`] decides which network addresses a webhook may reach.

#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

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
