//! Mail submission over SMTP. Each mail uses its own connection, because mails are few.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::{Error, extension::ClientId};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;
use uuid::Uuid;

use crate::failure::{Failure, one_line};
use crate::smtp_url::{SmtpUrl, Tls};

/// Maximum length of a subject, in characters. Encoded, it stays well below SMTP's limit of 998
/// bytes a line.
const MAX_SUBJECT: usize = 180;
/// How long the client waits for the reply to `QUIT` once the server has accepted a mail. Nothing
/// is lost if the reply never comes.
const GOOD_BYE: Duration = Duration::from_secs(1);

/// Time limits for sending one mail.
#[derive(Debug, Clone, Copy)]
pub struct MailTimes {
    /// Limit for establishing a connection.
    pub connect: Duration,
    /// Limit for the whole delivery. RFC 5321 (section 4.5.3.2) recommends waiting for minutes;
    /// here a delivery that takes longer than this limit is retried later.
    pub whole: Duration,
}

impl Default for MailTimes {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), whole: Duration::from_secs(60) }
    }
}

/// A mail, as plain text.
#[derive(Debug, Clone)]
pub struct Mail<'a> {
    /// Identifies the mail. It is the same on each attempt, so that a recipient can recognize a
    /// duplicate.
    pub id: Uuid,
    /// The recipient's address.
    pub to: &'a str,
    /// The subject, one line.
    pub subject: &'a str,
    /// The text, in lines that end with `\n`.
    pub body: &'a str,
    /// The current time.
    pub at: Timestamp,
}

/// The value of `--mail-from` is not a valid sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid sender address; use relay@example.org or TrustRelay <relay@example.org>")]
pub struct BadSender(String);

/// Submits mail to one server.
pub struct Mailer {
    url: SmtpUrl,
    from: Mailbox,
    times: MailTimes,
    trusted: Vec<CertificateDer<'static>>,
}

impl Mailer {
    /// Creates a mailer for the server at `url`. `from` is an address, optionally with a display
    /// name.
    ///
    /// # Errors
    ///
    /// Returns [`BadSender`] if `from` is not a mailbox or contains control characters.
    pub fn new(url: SmtpUrl, from: &str) -> Result<Self, BadSender> {
        let is_plain = !from.contains(char::is_control);
        let from = from.parse().ok().filter(|_| is_plain).ok_or_else(|| BadSender(one_line(from, 100)))?;
        Ok(Self { url, from, times: MailTimes::default(), trusted: Vec::new() })
    }

    /// Replaces the time limits.
    #[must_use]
    pub fn within(mut self, times: MailTimes) -> Self {
        self.times = times;
        self
    }

    /// Trusts these certificate authorities in addition to the system's.
    #[must_use]
    pub fn trusting(mut self, authorities: Vec<CertificateDer<'static>>) -> Self {
        self.trusted = authorities;
        self
    }

    /// Submits one mail and returns `Ok` once the server has accepted it. Delivery is at least
    /// once: if the server's reply is lost, an accepted mail may be sent again.
    ///
    /// # Errors
    ///
    /// Returns [`Failure::Permanent`] if the mail cannot be composed or the server permanently
    /// refuses it. Returns [`Failure::Later`] for every other failure: no connection, no TLS, a
    /// failed login, a timeout or a temporary refusal.
    pub async fn send(&self, mail: &Mail<'_>) -> Result<(), Failure> {
        let (envelope, message) = self.compose(mail)?;
        let sent = timeout(self.times.whole, self.hand_in(&envelope, &message)).await;
        let mut connection = sent.map_err(|_| Failure::later("the mail server did not answer in time"))??;
        // The reply to `QUIT` is ignored: the server has already accepted the mail.
        let _ = timeout(GOOD_BYE, connection.quit()).await;
        Ok(())
    }

    async fn hand_in(&self, envelope: &Envelope, message: &[u8]) -> Result<AsyncSmtpConnection, Failure> {
        // A refusal before the mail itself concerns this server's configuration, which an operator
        // can fix. All such failures are therefore retried.
        let mut connection = self.connect().await.map_err(|error| Failure::later(describe(&error)))?;
        match connection.send(envelope, message).await {
            Ok(_) => Ok(connection),
            Err(error) if error.is_permanent() => Err(Failure::permanent(describe(&error))),
            Err(error) => Err(Failure::later(describe(&error))),
        }
    }

    /// Opens a connection that is ready for mail: encrypted and logged in as the URL requires.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let SmtpUrl { host, port, tls, credentials } = &self.url;
        // Inside a container the local host name may be anything. The sender's domain is a name
        // that exists.
        let hello = ClientId::Domain(self.from.email.domain().to_owned());
        let wrapped = match tls {
            Tls::Always => Some(self.tls_parameters()?),
            Tls::Required | Tls::Offered => None,
        };
        let connect = Some(self.times.connect);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1((host.as_str(), *port), connect, &hello, wrapped, None)
                .await?;
        if *tls == Tls::Required || (*tls == Tls::Offered && connection.can_starttls()) {
            connection.starttls(self.tls_parameters()?, &hello).await?;
        }
        if let Some((user, password)) = credentials {
            let credentials = Credentials::new(user.clone(), password.as_str().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        Ok(connection)
    }

    fn tls_parameters(&self) -> Result<TlsParameters, Error> {
        let mut parameters = TlsParameters::builder(self.url.host.clone());
        for authority in &self.trusted {
            parameters = parameters.add_root_certificate(Certificate::from_der(authority.to_vec())?);
        }
        parameters.build()
    }

    fn compose(&self, mail: &Mail<'_>) -> Result<(Envelope, Vec<u8>), Failure> {
        let to: Address =
            mail.to.parse().map_err(|_| Failure::permanent("the account's address cannot receive mail"))?;
        let seconds = u64::try_from(mail.at.as_second()).unwrap_or(0);
        let domain = self.from.email.domain();
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(one_line(mail.subject, MAX_SUBJECT))
            .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .message_id(Some(format!("<{}@{domain}>", mail.id)))
            // Suppresses automatic replies such as absence notes (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".into(),
            ))
            .singlepart(SinglePart::builder().header(ContentType::TEXT_PLAIN).body(mail.body.to_owned()))
            .map_err(|error| Failure::permanent(format_args!("the mail could not be created: {error}")))?;
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to])
            .map_err(|error| Failure::permanent(format_args!("the mail could not be addressed: {error}")))?;
        Ok((envelope, message.formatted()))
    }
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer").field("from", &self.from.email).finish_non_exhaustive()
    }
}

/// Describes an error for a reader of the delivery log.
fn describe(error: &Error) -> String {
    let said = |error: &Error| std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match error.status() {
        Some(code) => format!("the mail server answered {code} {}", said(error)),
        None if error.is_timeout() => "the mail server did not answer in time".into(),
        None if error.is_tls() => format!("TLS to the mail server failed: {}", said(error)),
        None if error.is_response() => {
            "the mail server closed the connection or sent an invalid SMTP answer".into()
        }
        // The server lacks a required feature: STARTTLS, a login method, or non-ASCII addresses.
        None if error.is_client() => {
            format!("the mail server does not support what is needed: {}", said(error))
        }
        None => format!("the mail server could not be reached: {}", said(error)),
    }
}
