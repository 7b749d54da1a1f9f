//! The courier: delivers the authority's notices by mail and webhook.

use async_trait::async_trait;
use trustrelay_authority::{CheckedUrl, Courier, Outgoing, To, Undelivered};
use url::Url;

use crate::failure::Failure;
use crate::mail::{Mail, Mailer};
use crate::text::tell;
use crate::webhook::{Hook, Webhooks};

/// Delivers notices by mail, if a mail server is configured, and to webhooks.
#[derive(Debug)]
pub struct Post {
    mailer: Option<Mailer>,
    webhooks: Webhooks,
    base: Url,
}

impl Post {
    /// Creates a courier. `base` is the URL of this TrustRelay's pages.
    pub fn new(mailer: Option<Mailer>, webhooks: Webhooks, base: Url) -> Self {
        Self { mailer, webhooks, base }
    }
}

#[async_trait]
impl Courier for Post {
    fn has_mail(&self) -> bool {
        self.mailer.is_some()
    }

    fn check_webhook(&self, url: &str) -> Result<CheckedUrl, String> {
        let url = self.webhooks.check(url).map_err(|error| error.why().to_owned())?;
        Ok(CheckedUrl { url: url.as_str().to_owned(), origin: url.origin() })
    }

    async fn carry(&self, outgoing: Outgoing<'_>) -> Result<(), Undelivered> {
        let Outgoing { notice, email, to, at } = outgoing;
        let text = tell(notice, email, &self.base);
        let carried = match (to, &self.mailer) {
            (To::Mail(to), Some(mailer)) => {
                let mail = Mail { id: notice.notice_id, to, subject: &text.subject, body: &text.body, at };
                mailer.send(&mail).await
            }
            // Happens when this node is configured differently from the node that created the
            // notice.
            (To::Mail(_), None) => Err(Failure::later("this server is not set up to send mail (--smtp-url)")),
            (To::Webhook { url, secret }, _) => {
                let id = notice.notice_id.to_string();
                self.webhooks.send(&Hook { id: &id, url, body: &text.json, secret, at }).await
            }
        };
        carried.map_err(|failure| match failure {
            Failure::Later(why) => Undelivered::Later(why),
            Failure::Permanent(why) => Undelivered::ForGood(why),
        })
    }
}
