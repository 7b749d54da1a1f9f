//! Whoever carries notices out of the house. The authority does not know how.

use std::fmt;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::Notice;

/// What a webhook's requests are signed with. Its owner sees it once.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Zeroizing<[u8; 32]>);

impl WebhookSecret {
    /// A secret of these bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The key. Whoever calls this answers for where it goes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `whsec_` and base64: what receivers are set up with. Whoever calls this answers for where it
    /// goes.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("whsec_{}", BASE64_STANDARD.encode(*self.0)))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// A URL that a webhook may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedUrl {
    /// The URL, normalized.
    pub url: String,
    /// Its scheme, host and port.
    pub origin: String,
}

/// Where something goes.
#[derive(Debug, Clone, Copy)]
pub enum To<'a> {
    /// To a mail address.
    Mail(&'a str),
    /// To a webhook.
    Webhook {
        /// Its URL.
        url: &'a str,
        /// What it is signed with.
        secret: &'a WebhookSecret,
    },
}

/// A notice on its way to one place.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The notice.
    pub notice: &'a Notice,
    /// The address of the account that it is about.
    pub email: &'a str,
    /// Where it goes.
    pub to: To<'a>,
    /// Now.
    pub at: Timestamp,
}

/// Why something was not delivered: one line that its recipient may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// It may go better another time.
    Later(String),
    /// It will not.
    ForGood(String),
}

/// Carries notices.
#[async_trait]
pub trait Courier: Send + Sync + 'static {
    /// Whether there is a way for mail.
    fn has_mail(&self) -> bool;
    /// Whether a webhook may have this URL; if not, why, to be read after "the webhook's URL".
    fn check_webhook(&self, url: &str) -> Result<CheckedUrl, String>;
    /// Tries once, within a bounded time.
    async fn carry(&self, outgoing: Outgoing<'_>) -> Result<(), Undelivered>;
}

/// A [`Courier`] for where nothing is sent: the commands, and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

#[async_trait]
impl Courier for Nobody {
    fn has_mail(&self) -> bool {
        false
    }

    fn check_webhook(&self, _: &str) -> Result<CheckedUrl, String> {
        Err("cannot be used, because this server does not send notices".into())
    }

    async fn carry(&self, _: Outgoing<'_>) -> Result<(), Undelivered> {
        Err(Undelivered::Later("this server does not send notices".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_as_receivers_take_it_and_never_prints() {
        let secret = WebhookSecret::new(Zeroizing::new(std::array::from_fn(|at| at as u8)));
        assert_eq!(&*secret.expose(), "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
    }
}
