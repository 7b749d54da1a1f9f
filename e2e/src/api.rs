//! The REST API, as a script would use it.

use anyhow::{Context, Result, bail};
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderValue, LOCATION, SET_COOKIE};
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::server::{EMAIL, PASSWORD, Server};

const TOKENS: &str = "/api/user/personal-access-tokens";

/// Someone signed in with the account of the tests.
#[derive(Debug)]
pub struct Api {
    base: Url,
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

impl Api {
    /// Signs in.
    pub async fn sign_in(server: &Server) -> Result<Self> {
        Self::sign_in_at(&server.base).await
    }

    /// Signs in at this address.
    pub async fn sign_in_at(base: &Url) -> Result<Self> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let body = json!({ "email": EMAIL, "password": PASSWORD });
        let answer =
            client.post(base.join("/api/auth/login")?).json(&body).send().await?.error_for_status()?;
        let cookie = answer.headers().get(SET_COOKIE).context("no cookie")?.to_str()?;
        let cookie = HeaderValue::from_str(cookie.split(';').next().unwrap_or_default())?;
        Ok(Self { base: base.clone(), client, cookie })
    }

    /// Makes a token.
    pub async fn create(&self, name: &str, scope: &str) -> Result<Made> {
        let body = json!({ "pat_name": name, "pat_scope": scope });
        let request = self.client.post(self.base.join(TOKENS)?).header(COOKIE, &self.cookie).json(&body);
        let value = value(request.send().await?).await?;
        let text = |field: &str| value[field].as_str().map(str::to_owned).context(field.to_owned());
        Ok(Made { id: text("pat_id")?, token: text("pat_token")? })
    }

    /// The same person at another address: the cookie is good at each node.
    pub fn at(&self, base: &Url) -> Self {
        Self { base: base.clone(), client: self.client.clone(), cookie: self.cookie.clone() }
    }

    /// The session's secret: what a browser has in its cookie.
    pub fn session(&self) -> Result<&str> {
        self.cookie.to_str()?.strip_prefix("session=").context("another cookie")
    }

    /// Whether the session still stands.
    pub async fn is_signed_in(&self) -> Result<bool> {
        let request = self.client.get(self.base.join("/api/user")?).header(COOKIE, &self.cookie);
        Ok(request.send().await?.status().is_success())
    }

    /// Asks for something; answers its value.
    pub async fn get(&self, path: &str) -> Result<Value> {
        value(self.client.get(self.base.join(path)?).header(COOKIE, &self.cookie).send().await?).await
    }

    /// Posts something; answers the value that comes back.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.post(self.base.join(path)?).header(COOKIE, &self.cookie).json(body);
        value(request.send().await?).await
    }

    /// Puts something in place of what there is; answers the value that comes back.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.put(self.base.join(path)?).header(COOKIE, &self.cookie).json(body);
        value(request.send().await?).await
    }

    /// Lets somebody in, with a password.
    pub async fn let_in(&self, email: &str, password: &str) -> Result<()> {
        let invited = self.post("/api/admin/users", &json!({ "email": email })).await?;
        let link = Url::parse(invited["invite_url"].as_str().context("no link")?)?;
        let (_, secret) = link.query_pairs().find(|(name, _)| name == "token").context("no secret")?;
        self.send("/invite", &[("token", &secret), ("password", password)]).await.map(drop)
    }

    /// The ids of the active tokens.
    pub async fn ids(&self) -> Result<Vec<String>> {
        let request = self.client.get(self.base.join(TOKENS)?).header(COOKIE, &self.cookie);
        let value = value(request.send().await?).await?;
        let tokens = value.as_array().context("no list")?;
        Ok(tokens.iter().filter_map(|token| token["pat_id"].as_str().map(str::to_owned)).collect())
    }

    /// Revokes a token; answers how many sessions that ended.
    pub async fn revoke(&self, id: &str) -> Result<u64> {
        let request = self.client.delete(self.base.join(&format!("{TOKENS}/{id}"))?);
        let value = value(request.header(COOKIE, &self.cookie).send().await?).await?;
        value["sessions_terminated"].as_u64().context("no number of sessions")
    }

    /// Submits a form of the pages, and goes where it leads to, as a browser does; answers the page
    /// that is there.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Result<String> {
        let sent = self.send(path, fields).await?;
        let Some(place) = sent.headers().get(LOCATION) else { return Ok(sent.text().await?) };
        let mut page = self.client.get(self.base.join(place.to_str()?)?).header(COOKIE, &self.cookie);
        if let Some(cookie) = sent.headers().get(SET_COOKIE) {
            page = page.header(COOKIE, cookie.to_str()?.split(';').next().unwrap_or_default());
        }
        Ok(page.send().await?.error_for_status()?.text().await?)
    }

    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Result<reqwest::Response> {
        let form = Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.client.post(self.base.join(path)?).header(COOKIE, &self.cookie);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        Ok(request.send().await?.error_for_status()?)
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
