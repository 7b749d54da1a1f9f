//! Webhooks: one POST, to an address that was looked at.
//!
//! The host is resolved once, every address that it has is judged, and the connection goes to one of those: no second look-up in
//! between could answer otherwise. There is no proxy, no redirect that is followed, and of the answer nothing counts but its status.

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

/// How many of a host's addresses are tried.
const MAX_TRIED: usize = 4;
/// Most bytes of an answer's head.
const MAX_HEAD: usize = 16 << 10;
/// Most headers of an answer.
const MAX_HEADERS: usize = 64;

/// How long one delivery may take.
#[derive(Debug, Clone, Copy)]
pub struct WebhookTimes {
    /// Until one address has taken the connection.
    pub connect: Duration,
    /// Altogether, until the head of the answer is there.
    pub whole: Duration,
}

impl Default for WebhookTimes {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), whole: Duration::from_secs(15) }
    }
}

/// Finds a host's addresses.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// All of them.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A signed message on its way to one receiver.
#[derive(Debug, Clone)]
pub struct Hook<'a> {
    /// The message: the same each time that it is sent.
    pub id: &'a str,
    /// Where it goes, as it was given.
    pub url: &'a str,
    /// JSON.
    pub body: &'a str,
    /// What it is signed with.
    pub secret: &'a WebhookSecret,
    /// Now: a receiver refuses what was signed long ago.
    pub at: Timestamp,
}

/// Sends webhooks.
pub struct Webhooks {
    private_networks: bool,
    times: WebhookTimes,
    resolver: Arc<dyn Resolve>,
    trusted: Vec<CertificateDer<'static>>,
    /// Made when it is first needed: the system's certificates are read for it.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Webhooks {
    /// `private_networks`: whether receivers there are allowed.
    pub fn new(private_networks: bool) -> Self {
        Self {
            private_networks,
            times: WebhookTimes::default(),
            resolver: Arc::new(SystemResolver),
            trusted: Vec::new(),
            tls: OnceLock::new(),
        }
    }

    /// With other times.
    #[must_use]
    pub fn within(mut self, times: WebhookTimes) -> Self {
        self.times = times;
        self
    }

    /// With another resolver.
    #[must_use]
    pub fn resolving(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Trusts these authorities' certificates beside the system's.
    #[must_use]
    pub fn trusting(mut self, authorities: Vec<CertificateDer<'static>>) -> Self {
        self.trusted = authorities;
        self
    }

    /// Whether a webhook may have this URL.
    pub fn check(&self, url: &str) -> Result<WebhookUrl, crate::BadWebhookUrl> {
        WebhookUrl::parse(url, self.private_networks)
    }

    /// Sends one message. `Ok` if the receiver took it, which is any status from 200 to 299.
    pub async fn send(&self, hook: &Hook<'_>) -> Result<(), Failure> {
        // What was allowed when it was added may no longer be.
        let url = self.check(hook.url).map_err(Failure::permanent)?;
        let sent = timeout(self.times.whole, self.post(url.url(), hook)).await;
        let status = sent.map_err(|_| Failure::later("the receiver did not answer in time"))??;
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => {
                Err(Failure::permanent("the receiver answered 410: it wants no more notices"))
            }
            status if status.is_redirection() => Err(Failure::later(format_args!(
                "the receiver answered {}, and redirects are not followed; give the URL that it leads to",
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
        let name = ServerName::try_from(name).map_err(|_| Failure::permanent("the URL's host is no name"))?;
        let stream = TlsConnector::from(self.tls()?)
            .connect(name, stream)
            .await
            .map_err(|error| Failure::later(format_args!("TLS to the receiver failed: {error}")))?;
        ask(stream, request).await
    }

    /// A connection to one of the addresses that the host has, once all of them have been found fit.
    async fn connect(&self, url: &Url) -> Result<TcpStream, Failure> {
        let addresses = match url.host() {
            Some(Host::Ipv4(address)) => vec![IpAddr::V4(address)],
            Some(Host::Ipv6(address)) => vec![IpAddr::V6(address)],
            Some(Host::Domain(name)) => self
                .resolver
                .addresses(name)
                .await
                .map_err(|_| Failure::later("the receiver's name has no address"))?,
            None => Vec::new(),
        };
        // One that is not fit spoils all: who mixes them wants to see which we take.
        for address in &addresses {
            let reached = reach(*address);
            if let Some(why) = refusal(reached, self.private_networks) {
                return Err(Failure::permanent(format_args!("the webhook's URL {why}")));
            }
            if url.scheme() == "http" && reached == Reach::Public {
                return Err(Failure::permanent(
                    "the webhook's URL begins with http:// and leads into the internet; notices go there over https:// only",
                ));
            }
        }
        let port = url.port_or_known_default().unwrap_or(443);
        let mut why = Failure::later("the receiver's name has no address");
        for address in addresses.into_iter().take(MAX_TRIED) {
            let connected =
                timeout(self.times.connect, TcpStream::connect(SocketAddr::new(address, port))).await;
            match connected {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    why = Failure::later(format_args!("the receiver is not reached: {}", error.kind()));
                }
                Err(_) => why = Failure::later("the receiver is not reached: no connection in time"),
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
        .map_err(|_| Failure::permanent("the webhook's URL cannot be asked for"))
}

/// Sends the request and waits for the head of its answer. The body is nobody's business: the connection ends before it.
async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| {
        let what = match () {
            () if error.is_parse() || error.is_parse_too_large() => {
                "its answer is no HTTP, or its head is too large"
            }
            () => "it ended the connection before it had answered",
        };
        Failure::later(format_args!("the receiver did not take it: {what}"))
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
