//! What commands ask of a server with a token: which token, and how it answers.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use trustrelay_token::Token;
use url::{Host, Url};
use zeroize::Zeroizing;

/// How much is read where a token is expected.
const MAX_INPUT: u64 = 4096;
/// How often a request that may safely be repeated is sent, if no answer comes.
const TRIES: u32 = 3;
/// Before it is sent again, the first time.
const PAUSE: Duration = Duration::from_millis(500);

/// The token of a command: from `file`, standard input (`-`, or nothing where there is no
/// TRUSTRELAY_TOKEN), or TRUSTRELAY_TOKEN.
pub(crate) fn token(file: Option<&Path>) -> anyhow::Result<Token> {
    let text = read(file)?;
    text.trim().parse().map_err(|error| anyhow::anyhow!("not a token: {error}"))
}

fn read(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    match file {
        Some(path)
            if path.as_os_str().as_encoded_bytes().starts_with(trustrelay_token::PREFIX.as_bytes()) =>
        {
            bail!(
                "FILE is a token, which other users can see on the command line; pass the token on standard input or in TRUSTRELAY_TOKEN"
            )
        }
        Some(path) if path != Path::new("-") => {
            let file =
                std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
            file.take(MAX_INPUT)
                .read_to_string(&mut text)
                .with_context(|| format!("{} is not valid text", path.display()))?;
        }
        _ => match std::env::var("TRUSTRELAY_TOKEN") {
            Ok(token) if file.is_none() => *text = token,
            _ => {
                std::io::stdin()
                    .take(MAX_INPUT)
                    .read_to_string(&mut text)
                    .context("standard input is not valid text")?;
            }
        },
    }
    Ok(text)
}

/// A server, as the holder of a token sees it.
pub(crate) struct Remote<'a> {
    server: &'a Url,
    token: &'a Token,
    client: Client,
}

impl<'a> Remote<'a> {
    pub(crate) fn new(server: &'a Url, token: &'a Token) -> anyhow::Result<Self> {
        let client =
            Client::builder().timeout(Duration::from_secs(10)).redirect(reqwest::redirect::Policy::none());
        let client = if may_use_proxy(server) { client } else { client.no_proxy() };
        let client = client.build().context("the HTTP client could not be started")?;
        Ok(Self { server, token, client })
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        self.server.join(path).context("--server is not a base URL")
    }

    /// The `value` of what is at a path.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.client.get(self.url(path)?)).await?.map_err(|lost| lost.0)
    }

    /// Posts JSON. With an idempotency key it is sent again if no answer comes: the server then
    /// does it once.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Value,
        idempotency_key: Option<&str>,
    ) -> anyhow::Result<Value> {
        let mut tried = 1;
        loop {
            let request = self.client.post(self.url(path)?).json(body);
            let request = idempotency_key
                .into_iter()
                .fold(request, |request, key| request.header("idempotency-key", key));
            match self.answer(request).await? {
                Ok(value) => return Ok(value),
                Err(_) if idempotency_key.is_some() && tried < TRIES => {
                    tokio::time::sleep(PAUSE * tried).await;
                    tried += 1;
                }
                Err(lost) => return Err(lost.0),
            }
        }
    }

    /// What it answers; or that nothing is known of what it did.
    async fn answer(&self, request: RequestBuilder) -> anyhow::Result<Result<Value, Lost>> {
        let server = self.server;
        let sent = request.bearer_auth(self.token.expose()).send().await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                return Ok(Err(Lost(anyhow::anyhow!("{server} does not answer: {}", error.without_url()))));
            }
        };
        let status = answer.status();
        let mut body: Value = answer.json().await.unwrap_or_default();
        if status.is_success() {
            return Ok(Ok(body["value"].take()));
        }
        let message = body["error"]["message"].as_str().unwrap_or(
            "the answer is not from a TrustRelay server; check the URL and any proxy in front of the server",
        );
        let error = anyhow::anyhow!("{server} answered {}: {message}", status.as_u16());
        if status.is_server_error() { Ok(Err(Lost(error))) } else { Err(error) }
    }
}

/// Whether a proxy of the environment (`https_proxy`, `all_proxy`) may be used: only for https,
/// where it carries a tunnel. A request for plain http is given to the proxy whole, with the token
/// in clear. This machine itself is reached without one.
fn may_use_proxy(server: &Url) -> bool {
    let is_loopback = match server.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    };
    server.scheme() == "https" && !is_loopback
}

/// Whether it was done is not known.
struct Lost(anyhow::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_used_for_https_alone_and_never_for_this_machine() {
        for (server, may) in [
            ("https://relay.example.org", true),
            ("https://192.0.2.7:8443", true),
            ("http://relay.example.org", false),
            ("http://192.0.2.7:8080", false),
            ("https://localhost", false),
            ("https://dev.localhost.", false),
            ("https://127.0.0.1:8443", false),
            ("https://127.1.2.3", false),
            ("https://[::1]", false),
            ("https://[::ffff:127.0.0.1]", false),
        ] {
            assert_eq!(may_use_proxy(&server.parse().expect("a URL")), may, "{server}");
        }
    }
}
