//! All paths, one line each. The router serves from this list, a 405 takes its `Allow` from it, and
//! the tests go through it: a path that is not here does not exist.

use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use http::Method;

use crate::api::{admin, audit, auth, nodes, notices, pats, user, webhooks};
use crate::error::ApiError;
use crate::pages::{self, assets, developer, login, profile, revoke, rotate, setup, token};
use crate::state::AppState;
use crate::{api, mcp, oauth, openapi, ops};

/// By which customs a path answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// JSON, `{"value"}` or `{"error"}`; described by the OpenAPI document.
    Rest,
    /// OAuth (RFC 6749 §5.2): a form, and failures as `{"error","error_description"}`; described by
    /// the OpenAPI document.
    OAuth,
    /// HTML, for people.
    Page,
    /// JSON-RPC over streamable HTTP: bearer tokens only, and no limits but the relay's own.
    Mcp,
}

impl Door {
    /// An error, in the shape that this door's callers read.
    pub(crate) fn error(self, error: ApiError) -> Response {
        match self {
            Self::Page => pages::failed(error),
            Self::OAuth => oauth::failed(error),
            Self::Rest => error.into_response(),
            Self::Mcp => error.into_json_rpc(),
        }
    }
}

/// A path and what it answers to.
pub struct Route {
    /// The path; `{name}` stands for one segment.
    pub path: &'static str,
    /// By which customs it answers.
    pub door: Door,
    /// The methods that it answers to. `HEAD` comes with `GET`.
    pub methods: Vec<Method>,
    pub(crate) handlers: MethodRouter<AppState>,
}

impl Route {
    fn new(door: Door, path: &'static str) -> Self {
        Self { path, door, methods: Vec::new(), handlers: MethodRouter::new() }
    }

    fn get<T: 'static>(mut self, handler: impl Handler<T, AppState>) -> Self {
        self.methods.extend([Method::GET, Method::HEAD]);
        self.handlers = self.handlers.get(handler);
        self
    }

    fn post<T: 'static>(mut self, handler: impl Handler<T, AppState>) -> Self {
        self.methods.push(Method::POST);
        self.handlers = self.handlers.post(handler);
        self
    }

    fn patch<T: 'static>(mut self, handler: impl Handler<T, AppState>) -> Self {
        self.methods.push(Method::PATCH);
        self.handlers = self.handlers.patch(handler);
        self
    }

    fn put<T: 'static>(mut self, handler: impl Handler<T, AppState>) -> Self {
        self.methods.push(Method::PUT);
        self.handlers = self.handlers.put(handler);
        self
    }

    fn delete<T: 'static>(mut self, handler: impl Handler<T, AppState>) -> Self {
        self.methods.push(Method::DELETE);
        self.handlers = self.handlers.delete(handler);
        self
    }

    /// The value of `Allow`.
    pub fn allow(&self) -> String {
        self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
    }
}

fn rest(path: &'static str) -> Route {
    Route::new(Door::Rest, path)
}

fn page(path: &'static str) -> Route {
    Route::new(Door::Page, path)
}

/// The relay itself refuses the methods that the protocol does not have, once it knows who asks.
fn mcp<T: 'static>(path: &'static str, handler: impl Handler<T, AppState>) -> Route {
    let methods = vec![Method::GET, Method::POST, Method::DELETE];
    Route { methods, handlers: routing::any(handler), ..Route::new(Door::Mcp, path) }
}

pub(crate) const METRICS: &str = "/metrics";
pub(crate) const HEALTH_CHECKS: [&str; 2] = ["/healthz", "/readyz"];

/// Every path that TrustRelay answers to.
pub fn routes() -> Vec<Route> {
    vec![
        rest("/api/auth/login").post(auth::login::handle),
        rest("/api/auth/logout").post(auth::logout::handle),
        rest("/api/auth/verify").post(auth::verify::handle),
        rest("/api/user").get(user::handle),
        rest("/api/user/personal-access-tokens").get(pats::list::handle).post(pats::create::handle),
        rest("/api/user/personal-access-tokens/{pat_id}").get(pats::get::handle).delete(pats::revoke::handle),
        rest("/api/user/personal-access-tokens/{pat_id}/rotate").post(pats::rotate::handle),
        rest("/api/user/personal-access-tokens/{pat_id}/activity").get(pats::activity::handle),
        Route::new(Door::OAuth, "/api/revoke").post(api::revoke::handle),
        rest("/api/leaks").post(api::leaks::handle),
        rest("/api/user/audit").get(audit::own::handle),
        rest("/api/admin/audit").get(audit::all::handle),
        rest("/api/admin/audit/export").get(audit::export::handle),
        rest("/api/user/notices").get(notices::own),
        rest("/api/user/webhooks").get(webhooks::list::own).post(webhooks::add::own),
        rest("/api/user/webhooks/{webhook_id}").delete(webhooks::remove::own),
        rest("/api/user/webhooks/{webhook_id}/test").post(webhooks::test::own),
        rest("/api/admin/users").get(admin::people::list).post(admin::invites::create),
        rest("/api/admin/users/{user_id}").get(admin::people::get).patch(admin::people::change),
        rest("/api/admin/invites").get(admin::invites::list),
        rest("/api/admin/invites/{invite_id}").delete(admin::invites::withdraw),
        rest("/api/admin/personal-access-tokens").get(admin::pats::list),
        rest("/api/admin/personal-access-tokens/revoke").post(admin::pats::revoke_matching),
        rest("/api/admin/personal-access-tokens/{pat_id}").get(admin::pats::get).delete(admin::pats::revoke),
        rest("/api/admin/policy").get(admin::policy::get).put(admin::policy::put),
        rest("/api/admin/nodes").get(nodes::handle),
        rest("/api/admin/notices").get(notices::everybody),
        rest("/api/admin/webhooks").get(webhooks::list::everybody).post(webhooks::add::everybody),
        rest("/api/admin/webhooks/{webhook_id}").delete(webhooks::remove::everybody),
        rest("/api/admin/webhooks/{webhook_id}/test").post(webhooks::test::everybody),
        rest("/api/openapi.json").get(openapi::handle),
        rest("/healthz").get(ops::healthz),
        rest("/readyz").get(ops::readyz),
        rest(METRICS).get(ops::metrics),
        mcp("/mcp", mcp::all),
        mcp("/api/mcp", mcp::all),
        mcp("/mcp/{name}", mcp::one),
        mcp("/api/mcp/{name}", mcp::one),
        page("/").get(pages::home),
        page("/login").get(login::show).post(login::submit),
        page("/logout").post(login::sign_out),
        page("/setup").get(setup::show).post(setup::submit),
        page("/invite").get(pages::admin::accept::show).post(pages::admin::accept::submit),
        page("/admin").get(pages::admin::home),
        page("/admin/people").get(pages::admin::people::show).post(pages::admin::people::invite),
        page("/admin/people/{user_id}").get(pages::admin::person::show).post(pages::admin::person::change),
        page("/admin/people/{user_id}/disable")
            .get(pages::admin::power::show)
            .post(pages::admin::power::submit),
        page("/admin/people/{user_id}/demote")
            .get(pages::admin::power::show)
            .post(pages::admin::power::submit),
        page("/admin/tokens").get(pages::admin::tokens::show),
        page("/admin/tokens/revoke")
            .get(pages::admin::revoke_all::show)
            .post(pages::admin::revoke_all::submit),
        page("/admin/tokens/{pat_id}/revoke")
            .get(pages::admin::revoke::show)
            .post(pages::admin::revoke::submit),
        page("/admin/invites/{invite_id}/withdraw").post(pages::admin::people::withdraw),
        page("/admin/policy").get(pages::admin::policy::show).post(pages::admin::policy::change),
        page("/settings/profile").get(profile::show),
        page("/settings/profile/password").post(profile::change_password),
        page("/settings/profile/sign-out-everywhere").post(profile::sign_out_everywhere),
        page("/settings/developer").get(developer::show).post(developer::create),
        page("/settings/developer/{pat_id}").get(token::show),
        page("/settings/developer/{pat_id}/rotate").get(rotate::show).post(rotate::submit),
        page("/settings/developer/{pat_id}/revoke").get(revoke::show).post(revoke::submit),
        page("/settings/notices").get(pages::notices::show).post(pages::notices::add),
        page("/settings/notices/{webhook_id}/test").post(pages::notices::test),
        page("/settings/notices/{webhook_id}/remove")
            .get(pages::notices::ask_to_remove)
            .post(pages::notices::remove),
        page("/admin/notices").get(pages::notices::show).post(pages::notices::add),
        page("/admin/notices/{webhook_id}/test").post(pages::notices::test),
        page("/admin/notices/{webhook_id}/remove")
            .get(pages::notices::ask_to_remove)
            .post(pages::notices::remove),
        page("/settings/audit").get(pages::audit::own),
        page("/admin/audit").get(pages::audit::all),
        page("/assets/{name}").get(assets::serve),
    ]
}
