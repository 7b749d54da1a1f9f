//! How notices go out.

use anyhow::bail;
use trustrelay_notify::{Mailer, SmtpUrl};

use crate::cli::Serve;
use crate::secret_url::SecretUrl;

/// The mail server and the sender of the flags, else of the file. What is wrong with the URL is
/// said without the URL: it may hold a password.
pub(super) fn mailer(
    serve: &Serve,
    url: Option<&SecretUrl>,
    from: Option<&str>,
) -> anyhow::Result<Option<Mailer>> {
    let url = serve.smtp_url.as_ref().or(url);
    let from = serve.mail_from.as_deref().or(from);
    match (url, from) {
        (None, None) => Ok(None),
        (Some(_), None) => {
            bail!("--smtp-url needs --mail-from, the sender's address, such as relay@example.org; use both")
        }
        (None, Some(_)) => {
            bail!("--mail-from needs --smtp-url, the server that sends mail; use both, or neither")
        }
        (Some(url), Some(from)) => {
            let url: SmtpUrl =
                url.expose().parse().map_err(|error| anyhow::anyhow!("--smtp-url: {error}"))?;
            let mailer = Mailer::new(url, from).map_err(|error| anyhow::anyhow!("--mail-from: {error}"))?;
            Ok(Some(mailer))
        }
    }
}
