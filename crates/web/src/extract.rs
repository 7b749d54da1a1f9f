//! What a request says in its path and its query, with our own answers where it says it wrongly:
//! the ones that come with axum are plain text.
//!
//! [`Asked`] is for pages alone and answers with HTML; so does what [`OnPage`] is put around.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::response::Response;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::redact::without_secrets;
use crate::routes::Door;
use crate::state::AppState;

/// `{pat_id}` and the like: the one parameter of a path, percent-decoded.
pub(crate) struct Segment(pub(crate) String);

impl FromRequestParts<AppState> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(ApiError::bad_request(match error.into_kind() {
                    ErrorKind::InvalidUtf8InPathParam { key } => {
                        format!("`{key}` in the path is not valid UTF-8 after percent-decoding")
                    }
                    _ => "the path cannot be read".to_owned(),
                }))
            }
            Err(_) => Err(ApiError::internal()),
        }
    }
}

/// The query of an endpoint.
pub(crate) struct Queried<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Queried<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => {
                let text = without_secrets(&error.body_text());
                Err(ApiError::bad_request(format!("the query cannot be read: {text}")))
            }
        }
    }
}

/// The query of a list that is whole: nothing may be asked, so that whoever asks for a part of it
/// does not take the whole for that.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whole {}

/// The query of a page.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Response> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => {
                let text = without_secrets(&error.body_text());
                Err(Door::Page.error(ApiError::bad_request(format!("the query cannot be read: {text}"))))
            }
        }
    }
}

/// One of the above on a page: what is wrong is said in HTML.
pub(crate) struct OnPage<E>(pub(crate) E);

impl<E: FromRequestParts<AppState, Rejection = ApiError>> FromRequestParts<AppState> for OnPage<E> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        E::from_request_parts(parts, state).await.map(Self).map_err(|error| Door::Page.error(error))
    }
}
