//! What is refused to somebody who is known, on its way to the audit log.

use http::Response;
use http::header::WWW_AUTHENTICATE;
use trustrelay_authority::By;
use trustrelay_relay::BadOrigin;

use crate::state::AppState;

/// Goes along with an answer, as an extension, to where it is known who asked.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// The token lacks this scope.
    Scope(String),
    /// It is for administrators.
    Admin,
}

impl Refused {
    /// Notes it for the audit log. `path` is a route as it is written in the program.
    pub(crate) fn note(&self, state: &AppState, by: &By, path: &str) {
        let authority = &state.authority;
        match self {
            Self::Scope(scope) => {
                authority.note_refusal_to(by, "refused.scope", &[("scope", &clipped(scope)), ("path", path)]);
            }
            Self::Admin => authority.note_refusal_to(by, "refused.admin", &[("path", path)]),
        }
    }
}

/// Notes for the audit log what the relay has refused with 403. What an upstream refuses is its own
/// affair.
pub(crate) fn note_of_relay<B>(state: &AppState, by: &By, answer: &Response<B>) {
    if answer.extensions().get::<BadOrigin>().is_some() {
        return state.authority.note_refusal_to(by, "refused.cross_origin", &[("path", "/mcp")]);
    }
    let challenge = answer.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    let ours = challenge.and_then(|challenge| challenge.strip_prefix(SCOPE_IS_MISSING));
    if let Some(scope) = ours.and_then(|rest| rest.split('"').next()) {
        Refused::Scope(scope.to_owned()).note(state, by, "/mcp");
    }
}

/// How the relay's own challenge begins.
const SCOPE_IS_MISSING: &str = "Bearer realm=\"trustrelay\", error=\"insufficient_scope\", scope=\"";

/// Clients choose the names of tools: of those, so many bytes.
fn clipped(text: &str) -> String {
    let end = text.floor_char_boundary(100);
    text[..end].to_owned()
}
