//! A request, and what is true of every answer.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tower::ServiceExt;
use trustrelay_authority::Issued;

use super::{Answer, World, described};

/// The last byte of a body, held back.
pub(crate) struct Held {
    /// Done when the server waits for the byte.
    pub(crate) awaited: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Held {
    pub(crate) fn release(self) {
        // The server may have refused the request meanwhile.
        let _ = self.release.send(());
    }
}

pub(crate) struct Call<'w> {
    world: &'w World,
    request: Request<Body>,
    is_ops: bool,
}

impl<'w> Call<'w> {
    pub(super) fn new(world: &'w World, method: &str, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path).header(HOST, "relay.example");
        let mut request = request.body(Body::empty()).expect("a request");
        let from: SocketAddr = "192.0.2.7:40000".parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(from));
        Self { world, request, is_ops: false }
    }

    /// To the operators' own address.
    pub(crate) fn at_ops(mut self) -> Self {
        self.is_ops = true;
        self
    }

    pub(crate) fn bearer(self, issued: &Issued) -> Self {
        self.authorization(&format!("Bearer {}", issued.token.expose()))
    }

    pub(crate) fn authorization(self, value: &str) -> Self {
        self.header(AUTHORIZATION, value)
    }

    pub(crate) fn session(self, cookie: &str) -> Self {
        self.header(COOKIE, &format!("session={cookie}"))
    }

    /// One more header; an earlier one of the name stays.
    pub(crate) fn header(
        mut self,
        name: impl TryInto<HeaderName, Error: std::fmt::Debug>,
        value: &str,
    ) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        self.request.headers_mut().append(name.try_into().expect("a header name"), value);
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        self.request.headers_mut().insert(HOST, host.parse().expect("a header value"));
        self
    }

    /// As in HTTP/2, where the address names it.
    pub(crate) fn without_host(mut self) -> Self {
        self.request.headers_mut().remove(HOST);
        *self.request.version_mut() = http::Version::HTTP_2;
        self
    }

    pub(crate) fn version(mut self, version: http::Version) -> Self {
        *self.request.version_mut() = version;
        self
    }

    pub(crate) fn coming_from(mut self, address: &str) -> Self {
        let address: IpAddr = address.parse().expect("an address");
        self.request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address, 40000)));
        self
    }

    pub(crate) fn body(mut self, kind: &str, body: impl Into<Body>) -> Self {
        self.request.headers_mut().insert(CONTENT_TYPE, kind.parse().expect("a header value"));
        *self.request.body_mut() = body.into();
        self
    }

    /// More headers, whatever they are.
    pub(crate) fn headers(mut self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Self {
        for (name, value) in headers {
            self.request.headers_mut().append(name, value);
        }
        self
    }

    /// A body of no said kind.
    pub(crate) fn with(mut self, body: impl Into<Body>) -> Self {
        *self.request.body_mut() = body.into();
        self
    }

    /// Holds the last byte of the body back until [`Held::release`].
    pub(crate) async fn held(mut self) -> (Self, Held) {
        let body = std::mem::take(self.request.body_mut()).collect().await.expect("a body").to_bytes();
        let (begun, last) = body.split_at(body.len().saturating_sub(1));
        let (begun, last) = (Bytes::copy_from_slice(begun), Bytes::copy_from_slice(last));
        let (is_awaited, awaited) = oneshot::channel();
        let (release, released) = oneshot::channel::<()>();
        let rest = async move {
            // The other end is gone if the test does not wait for it.
            let _ = is_awaited.send(());
            let _ = released.await;
            Ok::<_, Infallible>(last)
        };
        let chunks = futures_util::stream::iter([Ok(begun)]).chain(futures_util::stream::once(rest));
        *self.request.body_mut() = Body::from_stream(chunks);
        (self, Held { awaited, release })
    }

    pub(crate) fn json(self, body: impl ToString) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn form(self, body: &str) -> Self {
        self.body("application/x-www-form-urlencoded", body.to_owned())
    }

    /// Sends it, and checks what is true of every answer.
    pub(crate) async fn send(self) -> Answer {
        let (method, uri) = (self.request.method().clone(), self.request.uri().clone());
        let may_repeat = self.request.headers().contains_key("idempotency-key");
        let router = if self.is_ops { &self.world.ops_router } else { &self.world.router };
        let response = router.clone().oneshot(self.request).await.expect("infallible");
        let answer = Answer::read(response).await;
        let mut secrets = self.world.secrets.lock().clone();
        if may_repeat {
            // The one answer that holds a secret twice: to who asks again because the first was
            // lost.
            let again = answer.new_token();
            secrets.retain(|secret| Some(secret) != again.as_ref());
        }
        answer.check(&method, uri.path(), &secrets);
        described::check(&answer, &method, uri.path());
        if let Some(token) = answer.new_token() {
            self.world.keep_secret(&token);
        }
        answer
    }
}
