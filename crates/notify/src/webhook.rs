//! Webhook delivery: one POST to an address that was checked beforehand.
//!
//! The host is resolved once, every address found is checked, and the connection goes to one of
//! those. A second look-up could return a different address (DNS rebinding), so there is none.
//! Proxies are not used and redirects are not followed. Only the status of the response counts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use trustrelay_authority::WebhookSecret;
use url::{Host, Url};

use crate::addresses::{Reach, reach};
use crate::failure::Failure;
use crate::signature::sign;
use crate::webhook_url::{WebhookUrl, refusal};

/// Maximum number of a host's addresses to try.
const MAX_TRIED: usize = 4;
/// Maximum size of a response's head, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Maximum number of headers in a response.
const MAX_HEADERS: usize = 64;

/// Time limits for one delivery.
#[derive(Debug, Clone, Copy)]
pub struct WebhookTimes {
    /// Limit for connecting to one address.
    pub connect: Duration,
    /// Limit for the whole delivery, until the head of the response has arrived.
    pub whole: Duration,
}

impl Default for WebhookTimes {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), whole: Duration::from_secs(15) }
    }
}

/// Resolves host names.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// Returns all addresses of a host.
    ///
    /// # Errors
    ///
    /// Returns the resolver's error if the name cannot be resolved.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A message for one receiver, with the secret that signs it.
#[derive(Debug, Clone)]
pub struct Hook<'a> {
    /// Identifies the message. It is the same on each attempt.
    pub id: &'a str,
    /// The receiver's URL, as the user entered it.
    pub url: &'a str,
    /// The message, as JSON.
    pub body: &'a str,
    /// The secret that signs the message.
    pub secret: &'a WebhookSecret,
    /// The current time. Receivers refuse messages that were signed long ago.
    pub at: Timestamp,
}

/// Sends webhooks.
pub struct Webhooks {
    private_networks: bool,
    times: WebhookTimes,
    resolver: Arc<dyn Resolve>,
    trusted: Vec<CertificateDer<'static>>,
    /// Created on first use, because that loads the system's certificates.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Webhooks {
    /// Creates a sender. `private_networks` says whether receivers in private networks are allowed.
    pub fn new(private_networks: bool) -> Self {
        Self {
            private_networks,
            times: WebhookTimes::default(),
            resolver: Arc::new(SystemResolver),
            trusted: Vec::new(),
            tls: OnceLock::new(),
        }
    }

    /// Replaces the time limits.
    #[must_use]
    pub fn within(mut self, times: WebhookTimes) -> Self {
        self.times = times;
        self
    }

    /// Replaces the resolver.
    #[must_use]
    pub fn resolving(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Trusts these certificate authorities in addition to the system's.
    #[must_use]
    pub fn trusting(mut self, authorities: Vec<CertificateDer<'static>>) -> Self {
        self.trusted = authorities;
        self
    }

    /// Parses and checks a URL for a webhook.
    ///
    /// # Errors
    ///
    /// Returns [`BadWebhookUrl`](crate::BadWebhookUrl) if a webhook may not have this URL.
    pub fn check(&self, url: &str) -> Result<WebhookUrl, crate::BadWebhookUrl> {
        WebhookUrl::parse(url, self.private_networks)
    }

    /// Sends one message. Returns `Ok` if the receiver accepted it with a status from 200 to 299.
    ///
    /// # Errors
    ///
    /// Returns [`Failure::Permanent`] if the URL or an address behind it is not allowed, or if the
    /// receiver answered 410. Returns [`Failure::Later`] for other statuses, timeouts and
    /// connection errors.
    pub async fn send(&self, hook: &Hook<'_>) -> Result<(), Failure> {
        // The configuration may have changed since the webhook was added.
        let url = self.check(hook.url).map_err(Failure::permanent)?;
        let sent = timeout(self.times.whole, self.post(url.url(), hook)).await;
        let status = sent.map_err(|_| Failure::later("the receiver did not answer in time"))??;
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err(Failure::permanent(
                "the receiver answered 410, which means that it wants no more notices",
            )),
            status if status.is_redirection() => Err(Failure::later(format_args!(
                "the receiver answered {}, but redirects are not followed; use the URL that it redirects to",
                status.as_u16()
            ))),
            status => Err(Failure::later(format_args!("the receiver answered {}", status.as_u16()))),
        }
    }

    async fn post(&self, url: &Url, hook: &Hook<'_>) -> Result<StatusCode, Failure> {
        let request = request(url, hook)?;
        let stream = self.connect(url).await?;
        if url.scheme() != "https" {
            return ask(stream, request).await;
        }
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name)
            .map_err(|_| Failure::permanent("the URL's host is not a valid name"))?;
        let stream = TlsConnector::from(self.tls()?)
            .connect(name, stream)
            .await
            .map_err(|error| Failure::later(format_args!("TLS to the receiver failed: {error}")))?;
        ask(stream, request).await
    }

    /// Connects to one of the host's addresses after checking all of them.
    async fn connect(&self, url: &Url) -> Result<TcpStream, Failure> {
        let addresses = match url.host() {
            Some(Host::Ipv4(address)) => vec![IpAddr::V4(address)],
            Some(Host::Ipv6(address)) => vec![IpAddr::V6(address)],
            Some(Host::Domain(name)) => self
                .resolver
                .addresses(name)
                .await
                .map_err(|_| Failure::later("the receiver's host name does not resolve to an address"))?,
            None => Vec::new(),
        };
        // A single forbidden address rules out the host. A mixture of allowed and forbidden
        // addresses suggests a probe of which address the server picks.
        for address in &addresses {
            let reached = reach(*address);
            if let Some(why) = refusal(reached, self.private_networks) {
                return Err(Failure::permanent(format_args!("the webhook's URL {why}")));
            }
            if url.scheme() == "http" && reached == Reach::Public {
                return Err(Failure::permanent(
                    "the webhook's URL begins with http:// and its host is on the internet; notices go there over https:// only",
                ));
            }
        }
        let port = url.port_or_known_default().unwrap_or(443);
        let mut why = Failure::later("the receiver's host name does not resolve to an address");
        for address in addresses.into_iter().take(MAX_TRIED) {
            let connected =
                timeout(self.times.connect, TcpStream::connect(SocketAddr::new(address, port))).await;
            match connected {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    why = Failure::later(format_args!("the receiver could not be reached: {}", error.kind()));
                }
                Err(_) => why = Failure::later("the receiver could not be reached: connection timed out"),
            }
        }
        Err(why)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(tls) = self.tls.get() {
            return Ok(Arc::clone(tls));
        }
        let wrong =
            |error| Failure::later(format_args!("this server's certificates cannot be used: {error}"));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let trusted = self.trusted.iter().cloned();
        let verifier =
            rustls_platform_verifier::Verifier::new_with_extra_roots(trusted, Arc::clone(&provider))
                .map_err(wrong)?;
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(tls))))
    }
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks").field("private_networks", &self.private_networks).finish_non_exhaustive()
    }
}

fn request(url: &Url, hook: &Hook<'_>) -> Result<Request<Full<Bytes>>, Failure> {
    let mut host = url.host_str().unwrap_or_default().to_owned();
    if let Some(port) = url.port() {
        host = format!("{host}:{port}");
    }
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("TrustRelay/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .header("webhook-id", hook.id)
        .header("webhook-timestamp", hook.at.as_second())
        .header("webhook-signature", sign(hook.secret, hook.id, hook.at, hook.body))
        .body(Full::from(hook.body.to_owned()))
        .map_err(|_| Failure::permanent("the webhook's URL is not valid"))
}

/// Sends the request and waits for the head of the response. The connection is closed before the
/// body, which is not needed.
async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| {
        let what = match () {
            () if error.is_parse() || error.is_parse_too_large() => {
                "its answer is not valid HTTP, or its headers are too large"
            }
            () => "it closed the connection before it answered",
        };
        Failure::later(format_args!("the receiver did not accept the notice: {what}"))
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let _driven = AbortOnDropHandle::new(tokio::spawn(connection));
    Ok(sender.send_request(request).await.map_err(broken)?.status())
}
