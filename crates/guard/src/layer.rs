//! The layer and its service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tower::{Layer, Service};
use trustrelay_token::{Principal, Verifier};

use crate::authorization::bearer;
use crate::challenge::{Refusal, TOKEN_EXPIRATION, expiration};

/// Puts a [`Guard`] in front of a service.
#[derive(Debug, Clone)]
pub struct GuardLayer<V> {
    verifier: V,
    realm: &'static str,
}

impl<V: Verifier + Clone> GuardLayer<V> {
    /// A guard that asks `verifier`; its challenges name the realm `trustrelay`.
    pub fn new(verifier: V) -> Self {
        Self { verifier, realm: "trustrelay" }
    }

    /// Names another realm. It must be printable ASCII without `"` and `\`.
    pub fn realm(self, realm: &'static str) -> Self {
        Self { realm, ..self }
    }
}

impl<S, V: Clone> Layer<S> for GuardLayer<V> {
    type Service = Guard<S, V>;

    fn layer(&self, inner: S) -> Guard<S, V> {
        Guard { inner, verifier: self.verifier.clone(), realm: self.realm }
    }
}

/// See [`GuardLayer`].
#[derive(Debug, Clone)]
pub struct Guard<S, V> {
    inner: S,
    verifier: V,
    realm: &'static str,
}

type Answer<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

impl<S, V, B, R> Service<Request<B>> for Guard<S, V>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    V: Verifier,
    B: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Answer<Response<R>, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let found = bearer(request.headers());
        // Nothing behind the guard can forward it.
        request.headers_mut().remove(AUTHORIZATION);
        let realm = self.realm;
        let verification = match found {
            Ok(Some(token)) => self.verifier.verify(token),
            Ok(None) => return Box::pin(async move { Ok(Refusal::Missing.response(realm)) }),
            Err(bad) => return Box::pin(async move { Ok(Refusal::Bad(bad).response(realm)) }),
        };
        // The service that was polled ready is the one to call.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            let principal: Arc<Principal> = match verification.wait().await {
                Ok(principal) => principal,
                Err(denied) => return Ok(Refusal::Denied(denied).response(realm)),
            };
            let expires = expiration(&principal);
            request.extensions_mut().insert(principal);
            let mut response = inner.call(request).await?;
            if let Some(expires) = expires {
                response.headers_mut().insert(TOKEN_EXPIRATION, expires);
            }
            Ok(response)
        })
    }
}
