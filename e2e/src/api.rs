//! The REST API, as a script would use it.

use anyhow::{Context, Result, bail};
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderValue, SET_COOKIE};
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use crate::server::{EMAIL, PASSWORD, Server};

const TOKENS: &str = "/api/user/personal-access-tokens";

/// Someone signed in with the account of the tests.
#[derive(Debug)]
pub struct Api<'a> {
    server: &'a Server,
    client: reqwest::Client,
    cookie: HeaderValue,
}

/// A token as it was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its id.
    pub id: String,
    /// Its text.
    pub token: String,
}

impl<'a> Api<'a> {
    /// Signs in.
    pub async fn sign_in(server: &'a Server) -> Result<Self> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let body = json!({ "email": EMAIL, "password": PASSWORD });
        let answer =
            client.post(server.at("/api/auth/login")?).json(&body).send().await?.error_for_status()?;
        let cookie = answer.headers().get(SET_COOKIE).context("no cookie")?.to_str()?;
        let cookie = HeaderValue::from_str(cookie.split(';').next().unwrap_or_default())?;
        Ok(Self { server, client, cookie })
    }

    /// Makes a token.
    pub async fn create(&self, name: &str, scope: &str) -> Result<Made> {
        let body = json!({ "pat_name": name, "pat_scope": scope });
        let request = self.client.post(self.server.at(TOKENS)?).header(COOKIE, &self.cookie).json(&body);
        let value = value(request.send().await?).await?;
        let text = |field: &str| value[field].as_str().map(str::to_owned).context(field.to_owned());
        Ok(Made { id: text("pat_id")?, token: text("pat_token")? })
    }

    /// Revokes a token; answers how many sessions that ended.
    pub async fn revoke(&self, id: &str) -> Result<u64> {
        let request = self.client.delete(self.server.at(&format!("{TOKENS}/{id}"))?);
        let value = value(request.header(COOKIE, &self.cookie).send().await?).await?;
        value["sessions_terminated"].as_u64().context("no number of sessions")
    }

    /// Submits a form of the pages; answers the page that comes back.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Result<String> {
        let form = Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.client.post(self.server.at(path)?).header(COOKIE, &self.cookie);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        Ok(request.send().await?.error_for_status()?.text().await?)
    }
}

async fn value(answer: reqwest::Response) -> Result<Value> {
    let status = answer.status();
    let mut body: Value = answer.json().await?;
    if !status.is_success() {
        bail!("{status}: {}", body["error"]["message"]);
    }
    Ok(body["value"].take())
}
