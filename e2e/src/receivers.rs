//! Where notices arrive: a mail server (`aiosmtpd`) and a receiver of webhooks.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::process::Command;

use crate::process::Process;
use crate::tools;

/// Both, running.
#[derive(Debug)]
pub struct Receivers {
    /// The port of the mail server.
    pub smtp: u64,
    /// The port of the receiver of webhooks.
    pub http: u64,
    process: Process,
}

impl Receivers {
    /// Starts them; both listen then.
    pub async fn start() -> Result<Self> {
        let mut command = Command::new(tools::python()?);
        command.arg(tools::root().join("e2e/clients/receivers.py"));
        let mut process = Process::start("the receivers", &mut command)?;
        let ports: Value = serde_json::from_str(&process.line().await?)?;
        let port = |name: &str| ports[name].as_u64().context("no port");
        Ok(Self { smtp: port("smtp")?, http: port("http")?, process })
    }

    /// What arrives next: `{"mail": …}` or `{"webhook": …}`.
    pub async fn next(&mut self) -> Result<Value> {
        Ok(serde_json::from_str(&self.process.line().await?)?)
    }

    /// The next mail and the next request, whichever comes first; two of a kind are an error.
    pub async fn one_of_each(&mut self) -> Result<(Value, Value)> {
        let (mut first, mut second) = (self.next().await?, self.next().await?);
        if first["mail"].is_null() {
            std::mem::swap(&mut first, &mut second);
        }
        if first["mail"].is_null() || second["webhook"].is_null() {
            bail!("not a mail and a request: {first}, {second}");
        }
        Ok((first["mail"].take(), second["webhook"].take()))
    }
}

/// Checks a request's signature as the Standard Webhooks specification says, and reads its body.
pub fn verified(webhook: &Value, secret: &str) -> Result<Value> {
    let header = |name: &str| webhook["headers"][name].as_str().context(name.to_owned());
    let body = webhook["body"].as_str().context("no body")?;
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").context("no secret")?)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)?;
    mac.update(format!("{}.{}.{body}", header("webhook-id")?, header("webhook-timestamp")?).as_bytes());
    let signature = header("webhook-signature")?.strip_prefix("v1,").context("of another version")?;
    mac.verify_slice(&BASE64_STANDARD.decode(signature)?).ok().context("the signature is another's")?;
    Ok(serde_json::from_str(body)?)
}
