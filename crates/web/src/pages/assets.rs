//! The style sheet, the script and the mark, out of the binary.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use rust_embed::RustEmbed;

use crate::extract::{OnPage, Segment};
use crate::pages::not_found;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Assets;

/// `GET /assets/{name}`. The pages name them with the program's version, so that they may be kept
/// for long.
pub(crate) async fn serve(OnPage(Segment(name)): OnPage<Segment>) -> Response {
    let Some(file) = Assets::get(&name) else {
        return not_found();
    };
    let kind = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=86400")], file.data.into_owned()).into_response()
}
