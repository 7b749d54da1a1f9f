//! The bodies of requests, together with whoever sends them.
//!
//! A body may take 15 s to arrive, for its sender decides when the last byte comes. Whoever was
//! judged by the head may have lost an account, a role or a token by then. So a handler that
//! changes something takes its caller and the body as one, [`Sent`]: the caller is judged by the
//! head, before anything is read, and once more when all of the body is there. No body can be
//! extracted without saying who sends it.

use axum::body::{Body, Bytes};
use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::response::Response;
use bytes::BytesMut;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::client::{Client, client};
use crate::credential::{Browser, Caller, SameOrigin};
use crate::error::ApiError;
use crate::extract::OnPage;
use crate::pages::Person;
use crate::redact::without_secrets;
use crate::routes::Door;
use crate::state::AppState;

/// Largest body of the REST API and the pages: a name, scopes and some room.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// A sender, judged again after its body had arrived, and the body, decoded.
pub(crate) struct Sent<S, B>(pub(crate) S, pub(crate) B);

impl<S: Sender, B: Decode> FromRequest<AppState> for Sent<S, B> {
    type Rejection = S::Rejection;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, S::Rejection> {
        let (mut parts, body) = request.into_parts();
        let client = client(state, &parts.extensions, &parts.headers);
        let sender = S::from_request_parts(&mut parts, state).await?;
        B::expect(&parts.headers).map_err(S::refuse)?;
        let body = read(body, state).await.map_err(S::refuse)?;
        let sender = sender.rejudged(state, &client).await?;
        Ok(Self(sender, B::decode(parts, body).await.map_err(S::refuse)?))
    }
}

/// Whoever sends a body, as the head of the request says it.
pub(crate) trait Sender: FromRequestParts<AppState> + Send {
    /// A refusal, in the shape that callers of this kind read.
    fn refuse(error: ApiError) -> Self::Rejection;

    /// The sender as it stands now, if it still does.
    fn rejudged(
        self,
        state: &AppState,
        client: &Client,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send;
}

impl Sender for Caller {
    fn refuse(error: ApiError) -> ApiError {
        error
    }

    async fn rejudged(self, state: &AppState, client: &Client) -> Result<Self, ApiError> {
        let from = client.address.filter(|_| !client.is_hidden);
        Ok(Self(state.authority.rejudge(&self.0, from).await?))
    }
}

impl Sender for Person {
    fn refuse(error: ApiError) -> Response {
        Door::Page.error(error)
    }

    async fn rejudged(self, state: &AppState, client: &Client) -> Result<Self, Response> {
        let Browser { by, cookie } = self.0;
        match state.authority.rejudge(&by, client.address).await {
            Ok(by) => Ok(Self(Browser { by, cookie })),
            Err(error) => Err(Self::refused(error.into())),
        }
    }
}

/// What is sent without a credential: there is no power that it could lose.
impl Sender for SameOrigin {
    fn refuse(error: ApiError) -> ApiError {
        error
    }

    async fn rejudged(self, _: &AppState, _: &Client) -> Result<Self, ApiError> {
        Ok(self)
    }
}

impl Sender for OnPage<SameOrigin> {
    fn refuse(error: ApiError) -> Response {
        Door::Page.error(error)
    }

    async fn rejudged(self, _: &AppState, _: &Client) -> Result<Self, Response> {
        Ok(self)
    }
}

/// A body of some kind.
pub(crate) trait Decode: Sized + Send {
    /// Refuses a body of another kind, before it is read.
    fn expect(headers: &HeaderMap) -> Result<(), ApiError>;

    /// Decodes it.
    fn decode(parts: Parts, body: Bytes) -> impl Future<Output = Result<Self, ApiError>> + Send;
}

/// A JSON object.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> Decode for Json<T> {
    fn expect(headers: &HeaderMap) -> Result<(), ApiError> {
        expect_kind(headers, "application/json", "JSON")
    }

    async fn decode(_: Parts, body: Bytes) -> Result<Self, ApiError> {
        decoded(&body).map(Self)
    }
}

/// A JSON object; where there is no body, what is asked for by default.
pub(crate) struct JsonOrNothing<T>(pub(crate) T);

impl<T: DeserializeOwned + Default + Send> Decode for JsonOrNothing<T> {
    /// Nothing is of no kind, and what there is shows when it has been read.
    fn expect(_: &HeaderMap) -> Result<(), ApiError> {
        Ok(())
    }

    async fn decode(parts: Parts, body: Bytes) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        Json::<T>::expect(&parts.headers)?;
        decoded(&body).map(Self)
    }
}

/// A form.
pub(crate) struct Filled<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> Decode for Filled<T> {
    fn expect(headers: &HeaderMap) -> Result<(), ApiError> {
        expect_kind(headers, "application/x-www-form-urlencoded", "a form")
    }

    async fn decode(parts: Parts, body: Bytes) -> Result<Self, ApiError> {
        match Form::from_request(Request::from_parts(parts, Body::from(body)), &()).await {
            Ok(Form(form)) => Ok(Self(form)),
            Err(error) => {
                let text = without_secrets(&without_value(&error.body_text()));
                Err(ApiError::bad_request(format!("the form cannot be read: {text}")))
            }
        }
    }
}

/// The form of a request whose credential is in the form itself.
pub(crate) async fn form<T: DeserializeOwned + Send>(
    request: Request,
    state: &AppState,
) -> Result<T, ApiError> {
    Filled::<T>::expect(request.headers())?;
    let (parts, body) = request.into_parts();
    let body = read(body, state).await?;
    let Filled(form) = Filled::decode(parts, body).await?;
    Ok(form)
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

/// What is wrong, with which field. Values that serde would repeat are clipped, since they may be
/// secrets.
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

/// The whole body, if it is no longer than that and comes within half of what the request may take:
/// the other half is for the work.
pub(crate) async fn read_up_to(body: Body, state: &AppState, most: usize) -> Result<Bytes, ApiError> {
    let patience = state.time_limit / 2;
    let Ok(body) = tokio::time::timeout(patience, collect(Limited::new(body, most), state)).await else {
        let message = format!("the body did not arrive within {patience:?}; send it again");
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message));
    };
    match body {
        Ok(Some(body)) => Ok(body),
        Ok(None) => Err(ApiError::too_many_large_bodies()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {most} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message))
        }
        Err(_) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "body_not_read",
            "the body is incomplete; send it again",
        )),
    }
}

/// The whole body; `None` if it turns out to be larger than usual and there is no room for another
/// of that kind. Room is not waited for: a client decides how long its body takes.
async fn collect(mut body: Limited<Body>, state: &AppState) -> Result<Option<Bytes>, axum::BoxError> {
    let mut whole = BytesMut::new();
    let mut room = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > MAX_BODY && room.is_none() {
            let Ok(permit) = state.large_bodies.try_acquire() else { return Ok(None) };
            room = Some(permit);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}
