//! Test servers for SMTP and HTTP, with configurable faults.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// Creates a private certificate authority and a server's TLS configuration for `localhost` and
/// 127.0.0.1.
pub(crate) fn tls() -> (CertificateDer<'static>, Arc<ServerConfig>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let key = KeyPair::generate().expect("a key");
    let certificate =
        CertificateParams::new(names).expect("names").signed_by(&key, &authority).expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a certificate and its key");
    (authority.der().clone(), Arc::new(config))
}

/// The interval between two small writes of a slow server.
const DRIP: Duration = Duration::from_millis(10);

/// The fault of an SMTP test server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Smtp {
    /// No fault.
    Good,
    /// Gives this answer to lines with this prefix. The prefix `""` stands for the greeting, `"."`
    /// for the mail itself.
    Answers(&'static str, &'static str),
    /// Never answers a line with this prefix.
    SilentAt(&'static str),
    /// Closes the connection at a line with this prefix.
    CutsAt(&'static str),
    /// Answers a line with this prefix with continuation lines that never end.
    DripsAt(&'static str),
}

/// A server for one test. It sends each line that it receives to `heard`.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) heard: mpsc::UnboundedReceiver<String>,
    _serving: AbortOnDropHandle<()>,
}

impl Peer {
    /// Waits for the next received line with this prefix.
    pub(crate) async fn hear(&mut self, prefix: &str) -> String {
        loop {
            let line = self.heard.recv().await.expect("it goes on");
            if line.starts_with(prefix) {
                return line;
            }
        }
    }

    /// Returns everything received so far.
    pub(crate) fn heard_so_far(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}

/// Starts an SMTP server. `starttls` says whether it offers STARTTLS; `wrapped` says whether TLS
/// begins at once.
pub(crate) async fn smtp(fault: Smtp, tls: Option<Arc<ServerConfig>>, wrapped: bool) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (say, heard) = mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = smtp_connection(stream, fault, tls.clone(), wrapped, &say).await;
        }
    });
    Peer { address, heard, _serving: AbortOnDropHandle::new(serving) }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn smtp_connection(
    stream: TcpStream,
    fault: Smtp,
    tls: Option<Arc<ServerConfig>>,
    wrapped: bool,
    say: &mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    let mut secure = wrapped;
    let mut stream: Box<dyn Stream> = match (&tls, wrapped) {
        (Some(tls), true) => Box::new(TlsAcceptor::from(Arc::clone(tls)).accept(stream).await?),
        _ => Box::new(stream),
    };
    if !reply(&mut stream, fault, "", "220 peer ESMTP").await? {
        return Ok(());
    }
    let mut stream = BufReader::new(stream);
    let mut is_data = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end_matches(['\r', '\n']);
        let _ = say.send(line.to_owned());
        if is_data && line != "." {
            continue;
        }
        let verb = line.split(' ').next().unwrap_or_default();
        let offer = if tls.is_some() && !secure { "250-STARTTLS\r\n" } else { "" };
        let good = match verb {
            "EHLO" => format!("250-peer\r\n{offer}250 AUTH PLAIN LOGIN"),
            "STARTTLS" => "220 go".into(),
            "AUTH" => "235 welcome".into(),
            "DATA" => "354 go on".into(),
            "QUIT" => "221 bye".into(),
            _ => "250 ok".into(),
        };
        if !reply(stream.get_mut(), fault, line, &good).await? || verb == "QUIT" {
            return Ok(());
        }
        is_data = verb == "DATA" && !matches!(fault, Smtp::Answers("DATA", _));
        if verb == "STARTTLS"
            && let Some(tls) = &tls
        {
            let inner = TlsAcceptor::from(Arc::clone(tls)).accept(stream.into_inner()).await?;
            stream = BufReader::new(Box::new(inner));
            secure = true;
        }
    }
}

/// Answers a line or commits the fault. Returns whether the conversation goes on.
async fn reply(stream: &mut Box<dyn Stream>, fault: Smtp, line: &str, good: &str) -> std::io::Result<bool> {
    let is_at = |step: &str| if step.is_empty() { line.is_empty() } else { line.starts_with(step) };
    match fault {
        Smtp::Answers(step, answer) if is_at(step) => {
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?
        }
        Smtp::SilentAt(step) if is_at(step) => std::future::pending().await,
        Smtp::CutsAt(step) if is_at(step) => return Ok(false),
        Smtp::DripsAt(step) if is_at(step) => loop {
            stream.write_all(b"250-and so on\r\n").await?;
            stream.flush().await?;
            tokio::time::sleep(DRIP).await;
        },
        _ => stream.write_all(format!("{good}\r\n").as_bytes()).await?,
    }
    stream.flush().await?;
    Ok(true)
}

/// The behaviour of an HTTP receiver once it has read a request.
#[derive(Clone, Copy)]
pub(crate) enum Http {
    /// Writes this and closes the connection.
    Answers(&'static str),
    /// Writes the first text, then the second again and again.
    Repeats(&'static str, &'static str),
    /// Never answers.
    Silent,
    /// Closes the connection.
    Cuts,
    /// Does not read the request.
    Deaf,
}

/// Starts an HTTP receiver. It sends each complete request to `heard`.
pub(crate) async fn http(behaviour: Http, tls: Option<Arc<ServerConfig>>) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (say, heard) = mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream: Box<dyn Stream> = match &tls {
                Some(tls) => match TlsAcceptor::from(Arc::clone(tls)).accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => continue,
                },
                None => Box::new(stream),
            };
            let _ = http_connection(&mut stream, behaviour, &say).await;
        }
    });
    Peer { address, heard, _serving: AbortOnDropHandle::new(serving) }
}

async fn http_connection(
    stream: &mut Box<dyn Stream>,
    behaviour: Http,
    say: &mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    if let Http::Deaf = behaviour {
        std::future::pending::<()>().await;
    }
    let mut request = Vec::new();
    let whole = loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await?;
        request.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&request);
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
            break text.into_owned();
        }
        if read == 0 {
            return Ok(());
        }
    };
    let _ = say.send(whole);
    match behaviour {
        Http::Answers(answer) => {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
        }
        Http::Repeats(first, again) => {
            stream.write_all(first.as_bytes()).await?;
            loop {
                stream.write_all(again.as_bytes()).await?;
                stream.flush().await?;
                // Only a slow response can outlast a limit on bytes.
                if again.len() < 8 {
                    tokio::time::sleep(DRIP).await;
                }
            }
        }
        Http::Silent => std::future::pending().await,
        Http::Cuts | Http::Deaf => {}
    }
    Ok(())
}
