//! E-mail, handed in over SMTP: one connection for each mail, since there are few.

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

/// Longest subject, in characters: with its encoding it stays well below the 998 bytes that a line may have.
const MAX_SUBJECT: usize = 180;
/// How long a server that has taken a mail may take to say good-bye. If it does not, nothing is lost.
const GOOD_BYE: Duration = Duration::from_secs(1);

/// How long sending one mail may take.
#[derive(Debug, Clone, Copy)]
pub struct MailTimes {
    /// Until there is a connection.
    pub connect: Duration,
    /// Altogether. RFC 5321 (section 4.5.3.2) would wait for minutes; what is late here is tried again.
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
    /// What the mail is about: the same each time that it is sent, so that who gets it twice can tell.
    pub id: Uuid,
    /// The recipient's address.
    pub to: &'a str,
    /// One line.
    pub subject: &'a str,
    /// Lines, ended by `\n`.
    pub body: &'a str,
    /// Now.
    pub at: Timestamp,
}

/// `--mail-from` is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address that mail can come from; write relay@example.org or TrustRelay <relay@example.org>"
)]
pub struct BadSender(String);

/// Hands mail in to one server.
pub struct Mailer {
    url: SmtpUrl,
    from: Mailbox,
    times: MailTimes,
    trusted: Vec<CertificateDer<'static>>,
}

impl Mailer {
    /// Mail through the server at `url`, from `from`: an address, perhaps with a name.
    pub fn new(url: SmtpUrl, from: &str) -> Result<Self, BadSender> {
        let is_plain = !from.contains(char::is_control);
        let from = from.parse().ok().filter(|_| is_plain).ok_or_else(|| BadSender(one_line(from, 100)))?;
        Ok(Self { url, from, times: MailTimes::default(), trusted: Vec::new() })
    }

    /// With other times.
    #[must_use]
    pub fn within(mut self, times: MailTimes) -> Self {
        self.times = times;
        self
    }

    /// Trusts these authorities' certificates beside the system's.
    #[must_use]
    pub fn trusting(mut self, authorities: Vec<CertificateDer<'static>>) -> Self {
        self.trusted = authorities;
        self
    }

    /// Hands one mail in. `Ok` once the server has taken it. If an answer is lost, a mail may be taken and be sent again.
    pub async fn send(&self, mail: &Mail<'_>) -> Result<(), Failure> {
        let (envelope, message) = self.compose(mail)?;
        let sent = timeout(self.times.whole, self.hand_in(&envelope, &message)).await;
        let mut connection = sent.map_err(|_| Failure::later("the mail server did not answer in time"))??;
        // What it says of that changes nothing: the mail is its own now.
        let _ = timeout(GOOD_BYE, connection.quit()).await;
        Ok(())
    }

    async fn hand_in(&self, envelope: &Envelope, message: &[u8]) -> Result<AsyncSmtpConnection, Failure> {
        // Up to here a refusal is about us and not about the mail: an operator can mend it, so all of it is tried again.
        let mut connection = self.connect().await.map_err(|error| Failure::later(describe(&error)))?;
        match connection.send(envelope, message).await {
            Ok(_) => Ok(connection),
            Err(error) if error.is_permanent() => Err(Failure::permanent(describe(&error))),
            Err(error) => Err(Failure::later(describe(&error))),
        }
    }

    /// A connection that mail can be handed in on.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let SmtpUrl { host, port, tls, credentials } = &self.url;
        // Our own name for ourselves may be anything inside a container; the sender's domain is a name that exists.
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
            mail.to.parse().map_err(|_| Failure::permanent("the account's address takes no mail"))?;
        let seconds = u64::try_from(mail.at.as_second()).unwrap_or(0);
        let domain = self.from.email.domain();
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(one_line(mail.subject, MAX_SUBJECT))
            .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .message_id(Some(format!("<{}@{domain}>", mail.id)))
            // RFC 3834: no absence notes in answer to it.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".into(),
            ))
            .singlepart(SinglePart::builder().header(ContentType::TEXT_PLAIN).body(mail.body.to_owned()))
            .map_err(|error| Failure::permanent(format_args!("the mail cannot be written: {error}")))?;
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to])
            .map_err(|error| Failure::permanent(format_args!("the mail cannot be addressed: {error}")))?;
        Ok((envelope, message.formatted()))
    }
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer").field("from", &self.from.email).finish_non_exhaustive()
    }
}

/// What went wrong, in words for who looks into the delivery log.
fn describe(error: &Error) -> String {
    let said = |error: &Error| std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match error.status() {
        Some(code) => format!("the mail server said {code} {}", said(error)),
        None if error.is_timeout() => "the mail server did not answer in time".into(),
        None if error.is_tls() => format!("TLS to the mail server failed: {}", said(error)),
        None if error.is_response() => {
            "the mail server ended the conversation or said what is no SMTP".into()
        }
        // What it cannot do: STARTTLS, a way to log in, an address that is not ASCII.
        None if error.is_client() => format!("the mail server cannot do what is needed: {}", said(error)),
        None => format!("the mail server is not reached: {}", said(error)),
    }
}
