//! The REST interface, as a script would use it.

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

/// A token that was made, and its id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Made {
    pub id: String,
    pub token: String,
}

/// The REST interface, for one token.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: String,
}

const TOKENS: &str = "/api/user/personal-access-tokens";

impl Api {
    pub fn new(client: Client, base: &str, token: &str) -> Self {
        Self { client, base: base.to_owned(), token: token.to_owned() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("answers")
    }

    /// Status and body of `GET /api/user`.
    pub async fn whoami(&self) -> (u16, Value) {
        let answer = self.get("/api/user").await;
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// Makes a child token; `None` if there was no (whole) answer.
    pub async fn create(&self, scope: &str) -> Option<Made> {
        let body = json!({ "pat_name": "by-rest", "pat_scope": scope });
        let answer = self.request(Method::POST, TOKENS).json(&body).send().await.ok()?;
        assert_eq!(answer.status(), 201);
        let body: Value = answer.json().await.ok()?;
        let text = |key: &str| body["value"][key].as_str().expect(key).to_owned();
        Some(Made { id: text("pat_id"), token: text("pat_token") })
    }

    /// Revokes a token; the answer's `value`, or `None` if there was no (whole) answer.
    pub async fn revoke(&self, id: &str) -> Option<Value> {
        let answer = self.request(Method::DELETE, &format!("{TOKENS}/{id}")).send().await.ok()?;
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.ok()?;
        Some(body["value"].clone())
    }
}
