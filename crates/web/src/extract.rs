//! What a request says in its path, its query and its body, with our own answers where it says it wrongly: the ones that
//! come with axum are plain text.
//!
//! [`Asked`] and [`Filled`] are for pages alone and answer with HTML; so does what [`OnPage`] is put around.

use axum::body::{Body, Bytes};
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{Form, FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::ApiError;
use crate::redact::without_secrets;
use crate::routes::Door;
use crate::state::AppState;

/// Largest body of the REST API and the pages: a name, scopes and some room.
pub(crate) const MAX_BODY: usize = 64 * 1024;

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
                        format!("`{key}` in the path is not UTF-8 once its percent-encoding is undone")
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

/// The query of a list that is whole: nothing may be asked, so that whoever asks for a part of it does not take the whole for that.
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

/// A JSON body, decoded; where there is none, what is asked for by default.
pub(crate) struct JsonOrNothing<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<AppState> for JsonOrNothing<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = read(body, state).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        let Json(read) = Json::from_request(Request::from_parts(parts, Body::from(body)), state).await?;
        Ok(Self(read))
    }
}

/// A JSON body, decoded.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        expect_kind(request.headers(), "application/json", "JSON")?;
        decoded(&read(request.into_body(), state).await?).map(Self)
    }
}

/// A JSON object.
pub(crate) fn decoded<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // serde would read a list as the fields in their order.
    beginning_with(b'{', "a JSON object, `{…}`", body)
}

/// A JSON array.
pub(crate) fn listed<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, ApiError> {
    beginning_with(b'[', "a JSON array, `[…]`", body)
}

fn beginning_with<T: DeserializeOwned>(first: u8, what: &str, body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii_start().first() != Some(&first) {
        return Err(match serde_json::from_slice::<IgnoredAny>(body) {
            Ok(_) => ApiError::bad_request(format!("the body must be {what}")),
            Err(error) => wrong(".", &error),
        });
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        wrong(&field, error.inner())
    })?;
    json.end().map_err(|error| wrong(".", &error))?;
    Ok(read)
}

/// What is wrong, with which field. Values that serde would repeat are clipped, since they may be secrets.
fn wrong(field: &str, error: &serde_json::Error) -> ApiError {
    let text = without_value(&error.to_string()).replace("expected i64", "expected a whole number");
    ApiError::bad_request(match error.classify() {
        serde_json::error::Category::Data if field == "." || text.contains("unknown field") => {
            without_secrets(&text)
        }
        serde_json::error::Category::Data => {
            format!("`{}`: {}", without_secrets(field), without_secrets(&text))
        }
        _ => format!("the body is not JSON: {text}"),
    })
}

/// A message of serde without the value that it repeats.
fn without_value(message: &str) -> String {
    match (message.find("string \""), message.rfind(", expected")) {
        (Some(start), Some(end)) if start < end => {
            format!("{}a string{}", &message[..start], &message[end..])
        }
        _ => message.to_owned(),
    }
}

/// A form of a page, decoded.
pub(crate) struct Filled<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Filled<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Response> {
        form(request, state).await.map(Self).map_err(|error| Door::Page.error(error))
    }
}

/// A form, decoded.
pub(crate) async fn form<T: DeserializeOwned>(request: Request, state: &AppState) -> Result<T, ApiError> {
    expect_kind(request.headers(), "application/x-www-form-urlencoded", "a form")?;
    let (parts, body) = request.into_parts();
    let body = read(body, state).await?;
    match Form::from_request(Request::from_parts(parts, Body::from(body)), state).await {
        Ok(Form(form)) => Ok(form),
        Err(error) => {
            let text = without_secrets(&without_value(&error.body_text()));
            Err(ApiError::bad_request(format!("the form cannot be read: {text}")))
        }
    }
}

/// Refuses a body of another kind.
pub(crate) fn expect_kind(headers: &HeaderMap, wanted: &str, name: &str) -> Result<(), ApiError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let message = format!("send the body as {name}, with `Content-Type: {wanted}`");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

async fn read(body: Body, state: &AppState) -> Result<Bytes, ApiError> {
    read_up_to(body, state, MAX_BODY).await
}

/// The whole body, if it is no longer than that and comes within half of what the request may take: the other half is for the work.
pub(crate) async fn read_up_to(body: Body, state: &AppState, most: usize) -> Result<Bytes, ApiError> {
    let patience = state.time_limit / 2;
    let Ok(body) = tokio::time::timeout(patience, Limited::new(body, most).collect()).await else {
        let message = format!("the body did not arrive within {patience:?}; send it again, faster");
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message));
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {most} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message))
        }
        Err(_) => Err(ApiError::new(StatusCode::BAD_REQUEST, "body_not_read", "the body broke off")),
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
