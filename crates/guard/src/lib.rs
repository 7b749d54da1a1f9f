//! A tower layer that lets through only requests with a valid personal access token (RFC 6750).
//!
//! The layer takes the `Authorization` header out of the request, so that no inner service can
//! forward the token. It has the token judged by a [`Verifier`](trustrelay_token::Verifier) and
//! puts an `Arc<Principal>` into the request's extensions. Other requests are answered with RFC
//! 6750's challenge. The crate depends on `http` and `tower` alone.
//!
//! ```
//! use std::sync::Arc;
//! use tower::{ServiceBuilder, service_fn};
//! use trustrelay_guard::GuardLayer;
//! use trustrelay_token::{Principal, Verifier};
//!
//! fn guarded(verifier: Arc<dyn Verifier>) {
//!     let service = ServiceBuilder::new().layer(GuardLayer::new(verifier)).service(service_fn(
//!         |request: http::Request<()>| async move {
//!             let principal = request.extensions().get::<Arc<Principal>>();
//!             let email = &principal.expect("the guard put it there").email;
//!             Ok::<_, std::convert::Infallible>(http::Response::new(format!("hello {email}")))
//!         },
//!     ));
//!     # drop(service);
//! }
//! ```

mod authorization;
mod challenge;
mod layer;

pub use authorization::{BadAuthorization, bearer};
pub use challenge::{Refusal, TOKEN_EXPIRATION, expiration};
pub use layer::{Guard, GuardLayer};
