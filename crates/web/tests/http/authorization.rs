//! Who may what: one row for each method of each route. A route without a row fails, and so does a
//! row without a route.

mod held;
mod power;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::json;
use trustrelay_authority::Issued;

use crate::support::{ADA, Call, EVE, PASSWORD, Setting, World};

/// Calls nothing: the account that the rows of `{user_id}` are about.
const BOB: &str = "bob@example.org";

/// `{pat_id}` is a token of Ada's that none of the callers came with. `ada` and `eve` are browsers,
/// the scopes are tokens of Ada's that hold it alone, `all` one that holds them all, `eve's` the
/// same of Eve's.
const CALLERS: [&str; 11] =
    ["none", "ada", "eve", "mcp", "one", "mcp:read", "api:read", "api", "tokens", "all", "eve's"];
const TABLE: &str = "
                                                         none   ada   eve   mcp   one reads api:r   api token   all eve's
POST   /api/auth/login                                    200   200   200   200   200   200   200   200   200   200   200
POST   /api/auth/logout                                   401   200   200   400   400   400   400   400   400   400   400
POST   /api/auth/verify                                   401   200   200   200   200   200   200   200   200   200   200
GET    /api/user                                          401   200   200   200   200   200   200   200   200   200   200
GET    /api/user/personal-access-tokens                   401   200   200   403   403   403   403   403   200   200   200
POST   /api/user/personal-access-tokens                   401   201   201   403   403   403   403   403   403   201   201
GET    /api/user/personal-access-tokens/{pat_id}          401   200   404   403   403   403   403   403   200   200   404
DELETE /api/user/personal-access-tokens/{pat_id}          401   200   404   403   403   403   403   403   200   200   404
GET    /api/user/personal-access-tokens/{pat_id}/activity 401   200   404   403   403   403   403   403   200   200   404
POST   /api/user/personal-access-tokens/{pat_id}/rotate   401   200   404   403   403   403   403   403   404   404   404
POST   /api/revoke                                        200   200   200   200   200   200   200   200   200   200   200
POST   /api/leaks                                         200   200   200   200   200   200   200   200   200   200   200
GET    /api/user/audit                                    401   200   200   403   403   403   200   200   403   200   200
GET    /api/admin/audit                                   401   200   403   403   403   403   200   200   403   200   403
GET    /api/admin/audit/export                            401   200   403   403   403   403   200   200   403   200   403
GET    /api/user/notices                                  401   200   200   403   403   403   200   200   403   200   200
GET    /api/user/webhooks                                 401   200   200   403   403   403   200   200   403   200   200
POST   /api/user/webhooks                                 401   201   201   403   403   403   403   403   403   403   403
DELETE /api/user/webhooks/{webhook_id}                    401   200   404   403   403   403   403   403   403   403   403
POST   /api/user/webhooks/{webhook_id}/test               401   200   404   403   403   403   403   403   403   403   403
GET    /api/admin/notices                                 401   200   403   403   403   403   200   200   403   200   403
GET    /api/admin/webhooks                                401   200   403   403   403   403   200   200   403   200   403
POST   /api/admin/webhooks                                401   201   403   403   403   403   403   403   403   403   403
DELETE /api/admin/webhooks/{webhook_id}                   401   200   403   403   403   403   403   403   403   403   403
POST   /api/admin/webhooks/{webhook_id}/test              401   200   403   403   403   403   403   403   403   403   403
GET    /api/admin/users                                   401   200   403   403   403   403   200   200   403   200   403
POST   /api/admin/users                                   401   201   403   403   403   403   403   403   403   201   403
GET    /api/admin/users/{user_id}                         401   200   403   403   403   403   200   200   403   200   403
PATCH  /api/admin/users/{user_id}                         401   200   403   403   403   403   403   200   403   200   403
GET    /api/admin/invites                                 401   200   403   403   403   403   200   200   403   200   403
DELETE /api/admin/invites/{invite_id}                     401   404   403   403   403   403   403   404   403   404   403
GET    /api/admin/personal-access-tokens                  401   200   403   403   403   403   403   403   403   200   403
POST   /api/admin/personal-access-tokens/revoke           401   200   403   403   403   403   403   403   403   200   403
GET    /api/admin/personal-access-tokens/{pat_id}         401   200   403   403   403   403   403   403   403   200   403
DELETE /api/admin/personal-access-tokens/{pat_id}         401   200   403   403   403   403   403   403   403   200   403
GET    /api/admin/policy                                  401   200   403   403   403   403   200   200   403   200   403
PUT    /api/admin/policy                                  401   200   403   403   403   403   403   200   403   200   403
GET    /api/admin/nodes                                   401   200   403   403   403   403   200   200   403   200   403
GET    /api/openapi.json                                  200   200   200   200   200   200   200   200   200   200   200
GET    /healthz                                           200   200   200   200   200   200   200   200   200   200   200
GET    /readyz                                            200   200   200   200   200   200   200   200   200   200   200
GET    /metrics                                           200   200   200   200   200   200   200   200   200   200   200
GET    /mcp                                               401   401   401   404   404   404   403   403   403   404   404
POST   /mcp                                               401   401   401   200   200   200   403   403   403   200   200
DELETE /mcp                                               401   401   401   404   404   404   403   403   403   404   404
GET    /api/mcp                                           401   401   401   404   404   404   403   403   403   404   404
POST   /api/mcp                                           401   401   401   200   200   200   403   403   403   200   200
DELETE /api/mcp                                           401   401   401   404   404   404   403   403   403   404   404
GET    /mcp/{name}                                        401   401   401   404   403   404   403   403   403   404   404
POST   /mcp/{name}                                        401   401   401   200   403   200   403   403   403   200   200
DELETE /mcp/{name}                                        401   401   401   404   403   404   403   403   403   404   404
GET    /api/mcp/{name}                                    401   401   401   404   403   404   403   403   403   404   404
POST   /api/mcp/{name}                                    401   401   401   200   403   200   403   403   403   200   200
DELETE /api/mcp/{name}                                    401   401   401   404   403   404   403   403   403   404   404
GET    /                                                  303   303   303   303   303   303   303   303   303   303   303
GET    /login                                             200   200   200   200   200   200   200   200   200   200   200
POST   /login                                             303   303   303   303   303   303   303   303   303   303   303
POST   /logout                                            303   303   303   303   303   303   303   303   303   303   303
GET    /setup                                             404   404   404   404   404   404   404   404   404   404   404
POST   /setup                                             404   404   404   404   404   404   404   404   404   404   404
GET    /invite                                            404   404   404   404   404   404   404   404   404   404   404
POST   /invite                                            404   404   404   404   404   404   404   404   404   404   404
GET    /admin                                             303   303   403   303   303   303   303   303   303   303   303
GET    /admin/people                                      303   200   403   303   303   303   303   303   303   303   303
POST   /admin/people                                      303   303   403   303   303   303   303   303   303   303   303
GET    /admin/people/{user_id}                            303   200   403   303   303   303   303   303   303   303   303
POST   /admin/people/{user_id}                            303   303   403   303   303   303   303   303   303   303   303
GET    /admin/people/{user_id}/disable                    303   200   403   303   303   303   303   303   303   303   303
POST   /admin/people/{user_id}/disable                    303   303   403   303   303   303   303   303   303   303   303
GET    /admin/people/{user_id}/demote                     303   303   403   303   303   303   303   303   303   303   303
POST   /admin/people/{user_id}/demote                     303   303   403   303   303   303   303   303   303   303   303
GET    /admin/tokens                                      303   200   403   303   303   303   303   303   303   303   303
GET    /admin/tokens/revoke                               303   200   403   303   303   303   303   303   303   303   303
POST   /admin/tokens/revoke                               303   303   403   303   303   303   303   303   303   303   303
GET    /admin/tokens/{pat_id}/revoke                      303   200   403   303   303   303   303   303   303   303   303
POST   /admin/tokens/{pat_id}/revoke                      303   303   403   303   303   303   303   303   303   303   303
POST   /admin/invites/{invite_id}/withdraw                303   404   403   303   303   303   303   303   303   303   303
GET    /admin/policy                                      303   200   403   303   303   303   303   303   303   303   303
POST   /admin/policy                                      303   303   403   303   303   303   303   303   303   303   303
GET    /settings/profile                                  303   200   200   303   303   303   303   303   303   303   303
POST   /settings/profile/password                         303   303   303   303   303   303   303   303   303   303   303
POST   /settings/profile/sign-out-everywhere              303   303   303   303   303   303   303   303   303   303   303
GET    /settings/developer                                303   200   200   303   303   303   303   303   303   303   303
POST   /settings/developer                                303   303   303   303   303   303   303   303   303   303   303
GET    /settings/developer/{pat_id}                       303   200   404   303   303   303   303   303   303   303   303
GET    /settings/developer/{pat_id}/rotate                303   200   404   303   303   303   303   303   303   303   303
POST   /settings/developer/{pat_id}/rotate                303   303   404   303   303   303   303   303   303   303   303
GET    /settings/developer/{pat_id}/revoke                303   200   404   303   303   303   303   303   303   303   303
POST   /settings/developer/{pat_id}/revoke                303   303   404   303   303   303   303   303   303   303   303
GET    /settings/notices                                  303   200   200   303   303   303   303   303   303   303   303
POST   /settings/notices                                  303   303   303   303   303   303   303   303   303   303   303
POST   /settings/notices/{webhook_id}/test                303   200   404   303   303   303   303   303   303   303   303
GET    /settings/notices/{webhook_id}/remove              303   200   404   303   303   303   303   303   303   303   303
POST   /settings/notices/{webhook_id}/remove              303   303   404   303   303   303   303   303   303   303   303
GET    /admin/notices                                     303   200   403   303   303   303   303   303   303   303   303
POST   /admin/notices                                     303   303   403   303   303   303   303   303   303   303   303
POST   /admin/notices/{webhook_id}/test                   303   200   403   303   303   303   303   303   303   303   303
GET    /admin/notices/{webhook_id}/remove                 303   200   403   303   303   303   303   303   303   303   303
POST   /admin/notices/{webhook_id}/remove                 303   303   403   303   303   303   303   303   303   303   303
GET    /settings/audit                                    303   200   200   303   303   303   303   303   303   303   303
GET    /admin/audit                                       303   200   403   303   303   303   303   303   303   303   303
GET    /assets/{name}                                     200   200   200   200   200   200   200   200   200   200   200
";

/// What everybody may call. This list may only shrink: whoever adds to it answers for it.
const PUBLIC: [&str; 15] = [
    "POST /api/auth/login",
    "POST /api/revoke",
    "POST /api/leaks",
    "GET /api/openapi.json",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /login",
    "POST /login",
    "POST /logout",
    "GET /setup",
    "POST /setup",
    "GET /invite",
    "POST /invite",
    "GET /assets/{name}",
];

/// The statuses of each row, by `METHOD /path`.
fn table() -> BTreeMap<String, Vec<u16>> {
    let rows = TABLE.lines().skip(2).map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = format!("{} {}", words.next().expect("a method"), words.next().expect("a path"));
        let statuses: Vec<_> = words.map(|word| word.parse().expect("a status")).collect();
        assert_eq!(statuses.len(), CALLERS.len(), "{name}");
        (name, statuses)
    });
    rows.collect()
}

/// `METHOD /path` of every route. HEAD comes with GET.
fn served() -> BTreeSet<String> {
    let routes = trustrelay_web::routes();
    let methods = routes.iter().flat_map(|route| route.methods.iter().map(|method| (method, route.path)));
    let names = methods.filter(|(method, _)| **method != Method::HEAD);
    names.map(|(method, path)| format!("{method} {path}")).collect()
}

#[test]
fn every_route_has_its_row_and_every_row_its_route() {
    let rows: BTreeSet<_> = table().into_keys().collect();
    assert_eq!(rows, served());
}

#[test]
fn what_is_public_is_named_here() {
    // A redirect to the sign-in page, or a refusal, is no service.
    let refuses = |statuses: &[u16]| statuses[0] == 401 || (statuses[0] == 303 && statuses[1] != 303);
    let rows = table();
    let open = rows.iter().filter(|(_, statuses)| !refuses(statuses)).map(|(name, _)| name.as_str());
    // `/` and `/admin` only lead on, a person has no role to take, and forms lead to the page that
    // shows what they did: all send strangers to sign in, which `judged` looks at.
    const LEADING_ON: [&str; 19] = [
        "GET /",
        "GET /admin",
        "GET /admin/people/{user_id}/demote",
        "POST /admin/people",
        "POST /admin/people/{user_id}",
        "POST /admin/people/{user_id}/disable",
        "POST /admin/people/{user_id}/demote",
        "POST /admin/policy",
        "POST /settings/profile/password",
        "POST /settings/profile/sign-out-everywhere",
        "POST /settings/developer",
        "POST /settings/developer/{pat_id}/rotate",
        "POST /settings/notices",
        "POST /admin/tokens/revoke",
        "POST /admin/tokens/{pat_id}/revoke",
        "POST /settings/developer/{pat_id}/revoke",
        "POST /settings/notices/{webhook_id}/remove",
        "POST /admin/notices",
        "POST /admin/notices/{webhook_id}/remove",
    ];
    let open = open.filter(|name| !LEADING_ON.contains(name));
    assert_eq!(open.collect::<BTreeSet<_>>(), BTreeSet::from(PUBLIC));
}

/// The callers of a row, made anew for each: a call may end what it came with.
struct Caller {
    session: Option<String>,
    token: Option<Issued>,
}

impl Caller {
    async fn of(world: &World, name: &str) -> Self {
        let all = "mcp api tokens";
        let (session, token) = match name {
            "none" => (None, None),
            "ada" => (Some(world.browser().await), None),
            "eve" => (Some(world.browser_of(EVE).await), None),
            "one" => (None, Some(world.token("mcp:elsewhere").await)),
            "all" => (None, Some(world.token(all).await)),
            "eve's" => (None, Some(world.token_of(EVE, all).await)),
            scope => (None, Some(world.token(scope).await)),
        };
        Self { session, token }
    }

    fn sends<'w>(&self, call: Call<'w>) -> Call<'w> {
        let call = self.session.iter().fold(call, |call, session| call.session(session));
        self.token.iter().fold(call, Call::bearer)
    }
}

/// A request that would succeed if its caller may make it.
fn request<'w>(world: &'w World, name: &str, path: &str) -> Call<'w> {
    let (method, route) = name.split_once(' ').expect("a method and a path");
    let call = world.call(method, path);
    match (method, route) {
        ("POST", "/api/auth/login") => call.json(json!({ "email": ADA, "password": PASSWORD })),
        ("POST", "/api/user/personal-access-tokens") => {
            call.json(json!({ "pat_name": "n", "pat_scope": "mcp" }))
        }
        ("POST", "/api/user/webhooks" | "/api/admin/webhooks") => {
            call.json(json!({ "url": "https://hooks.example.org/new" }))
        }
        ("POST", "/api/revoke") => call.form("token=tr_pat_x"),
        ("POST", "/api/leaks") => call.json(json!({ "candidates": [] })),
        ("POST", "/login") => call.form(&format!("email={ADA}&password={PASSWORD}")),
        ("POST", "/invite") => call.form("token=x&password=correct+horse+battery"),
        ("POST", "/api/admin/users") => {
            call.json(json!({ "email": format!("{}@example.net", uuid::Uuid::now_v7()) }))
        }
        ("POST", "/api/admin/personal-access-tokens/revoke") => {
            call.json(json!({ "owner": "nobody@", "expected": 0 }))
        }
        ("PATCH", "/api/admin/users/{user_id}") => call.json(json!({ "is_admin": false })),
        ("PUT", "/api/admin/policy") => call.json(json!({
            "max_days": null, "default_days": null, "allowed_scopes": [], "unused_days": null, "allowed_networks": [],
        })),
        ("POST", "/admin/policy") => call.form("max_days="),
        ("POST", "/admin/people") => call.form(&format!("email={}%40example.net", uuid::Uuid::now_v7())),
        ("POST", "/admin/people/{user_id}") => call.form("change=all-upstreams"),
        ("POST", "/setup") => call.form("token=x&email=a@b&password=correct+horse+battery"),
        ("POST", "/settings/profile/password") => {
            call.form(&format!("current_password={PASSWORD}&new_password={PASSWORD}"))
        }
        ("POST", "/admin/tokens/revoke") => call.form("expected=0"),
        ("POST", "/settings/notices" | "/admin/notices") => {
            call.form("url=https%3A%2F%2Fhooks.example.org%2Fnew")
        }
        ("POST", "/settings/developer") => call.form("pat_name=n&scope=mcp"),
        ("POST", "/settings/developer/{pat_id}/rotate") => call.form("overlap=day"),
        ("POST", "/mcp" | "/api/mcp" | "/mcp/{name}" | "/api/mcp/{name}") => crate::mcp::initialize(call),
        ("GET" | "DELETE", _) if route.contains("mcp") => {
            call.header("accept", "text/event-stream").header("mcp-session-id", "none")
        }
        _ => call,
    }
}

/// The id of a webhook for the row, of Ada's or for all, if the row is about one.
async fn webhook(world: &World, name: &str) -> String {
    let path = name.split_once(' ').expect("a method and a path").1;
    let Some((list, _)) = path.split_once("/{webhook_id}") else { return String::new() };
    let list = match list {
        "/settings/notices" => "/api/user/webhooks",
        "/admin/notices" => "/api/admin/webhooks",
        list => list,
    };
    let url = json!({ "url": "https://hooks.example.org/tokens" });
    let added = world.post(list).session(&world.browser().await).json(url).send().await;
    added.value()["webhook_id"].as_str().expect("an id").to_owned()
}

/// What is wrong with one cell of the table.
async fn judged(world: &World, name: &str, webhook: &str, caller: &str, expected: u16) -> Option<String> {
    let subject = world.token("mcp").await;
    let path = name.split_once(' ').expect("a method and a path").1;
    let named = if path.contains("mcp") { "github" } else { "app.css" };
    let path = path.replace("{pat_id}", &subject.record.pat_id.to_string()).replace("{name}", named);
    let path = path.replace("{webhook_id}", webhook);
    // Everybody's are refused: the page wants to know which.
    let path = path.replace("/admin/tokens/revoke", "/admin/tokens/revoke?owner=nobody%40");
    let path = path
        .replace("{user_id}", &world.id_of(BOB).await)
        .replace("{invite_id}", &subject.record.pat_id.to_string());
    let call = Caller::of(world, caller).await.sends(request(world, name, &path));
    // The callers sign in at the same time: more from one address than may try at once.
    let at = CALLERS.iter().position(|known| *known == caller).unwrap_or_default();
    let answer = call.coming_from(&format!("192.0.2.{at}")).send().await;
    if answer.status != expected {
        return Some(format!("{name} {caller}: {} instead of {expected}", answer.status));
    }
    let is_sent_to_sign_in = answer.header("location").starts_with("/login");
    if caller == "none" && expected == 303 && !PUBLIC.contains(&name) && !is_sent_to_sign_in {
        return Some(format!("{name} {caller}: led to {}", answer.header("location")));
    }
    let stands = world.get("/api/user").bearer(&subject).send().await.status == 200;
    let is_revoked =
        (name.starts_with("DELETE") && name.ends_with("/personal-access-tokens/{pat_id}") && expected == 200)
            || (["POST /settings/developer/{pat_id}/revoke", "POST /admin/tokens/{pat_id}/revoke"]
                .contains(&name)
                && caller == "ada");
    (stands == is_revoked).then(|| format!("{name} {caller}: that the token stands is {stands}"))
}

#[tokio::test]
async fn each_caller_is_answered_as_the_table_says() {
    let three = async || World::with(Setting { accounts: &[ADA, EVE, BOB], ..Setting::default() }).await;
    let mut world = three().await;
    let mut wrong = Vec::new();
    for (row, (name, statuses)) in table().into_iter().enumerate() {
        // Each cell makes two tokens, and an account has a thousand at most.
        if row % 20 == 19 {
            world = three().await;
        }
        let webhook = webhook(&world, &name).await;
        let cells = CALLERS.iter().zip(statuses);
        let cells = cells.map(|(caller, expected)| judged(&world, &name, &webhook, caller, expected));
        wrong.extend(futures_util::future::join_all(cells).await.into_iter().flatten());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each route and each kind of credential apart: from an address of its own.
#[tokio::test]
async fn whoever_is_refused_what_is_for_administrators_is_in_the_audit_log_with_the_route() {
    let world = World::new().await;
    let mut expected = BTreeSet::new();
    let rows = table().into_iter().filter(|(name, _)| name.contains("/admin"));
    for (row, (name, statuses)) in rows.enumerate() {
        let route = name.split_once(' ').expect("a method and a path").1;
        let id = "0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11";
        let path = ["{pat_id}", "{user_id}", "{invite_id}", "{webhook_id}"]
            .iter()
            .fold(route.to_owned(), |path, segment| path.replace(segment, id));
        for (caller, status) in CALLERS.iter().zip(statuses) {
            let address = match *caller {
                "eve" => format!("192.0.2.{row}"),
                "eve's" => format!("198.51.100.{row}"),
                _ => continue,
            };
            let call = Caller::of(&world, caller).await.sends(request(&world, &name, &path));
            let answer = call.coming_from(&address).send().await;
            assert_eq!(answer.status, status, "{name} {caller}: {answer}");
            if status == 403 {
                expected.insert((address, route.to_owned()));
            }
        }
    }
    assert!(expected.len() > 30, "{expected:?}");
    world.authority.flush_refusals(true).await;
    let eve = Some(world.id_of(EVE).await);
    let told = world.audit().await.into_iter().filter(|entry| entry.action == "refused.admin");
    let told: BTreeSet<_> = told
        .map(|entry| {
            assert_eq!(entry.user_id.map(|id| id.to_string()), eve, "it concerns her own account");
            let address = entry.actor.address.expect("an address").to_string();
            (address, entry.details["path"].clone())
        })
        .collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_refusal_for_want_of_a_scope_names_it() {
    let world = World::new().await;
    let subject = world.token("mcp").await;
    for (name, statuses) in table() {
        for (caller, _) in CALLERS.iter().zip(statuses).filter(|(_, status)| *status == 403) {
            let path = name.split_once(' ').expect("a method and a path").1;
            let path =
                path.replace("{pat_id}", &subject.record.pat_id.to_string()).replace("{name}", "github");
            let path = path.replace("{user_id}", &world.id_of(EVE).await);
            let path = path.replace("{invite_id}", &subject.record.pat_id.to_string());
            let answer = Caller::of(&world, caller).await.sends(request(&world, &name, &path)).send().await;
            let challenge = answer.header("www-authenticate");
            let missing = match path.as_str() {
                // Eve holds the scopes and is no administrator.
                path if path.contains("/admin") && caller.starts_with("eve") => {
                    assert_eq!(challenge, "", "{name} {caller}");
                    continue;
                }
                path if path.contains("/admin/users") || path.contains("/admin/invites") => {
                    match (name.as_str(), *caller) {
                        ("POST /api/admin/users", "api") => "tokens",
                        (name, _) if name.starts_with("GET") => "api:read",
                        _ => "api",
                    }
                }
                path if path.contains("/admin/personal-access-tokens") => match (name.as_str(), *caller) {
                    (_, "api") => "tokens",
                    (name, "api:read") if name.starts_with("GET") => "tokens",
                    (name, _) if name.starts_with("GET") => "api:read",
                    _ => "api",
                },
                path if path.contains("/admin/policy") && name.starts_with("PUT") => "api",
                // Whatever its scopes, a token changes no webhooks.
                path if path.contains("/webhooks")
                    && !name.starts_with("GET")
                    && ["api:read", "api", "all", "eve's"].contains(caller) =>
                {
                    assert_eq!(challenge, "", "{name} {caller}");
                    continue;
                }
                path if ["/admin/", "/audit", "/webhooks", "/notices"]
                    .iter()
                    .any(|part| path.contains(part)) =>
                {
                    "api:read"
                }
                // A token with `tokens` alone may make tokens, but none with a scope that it does
                // not hold.
                path if path.contains("mcp") || *caller == "tokens" => "mcp",
                _ => "tokens",
            };
            assert!(challenge.contains("error=\"insufficient_scope\""), "{name} {caller}: {challenge}");
            assert!(challenge.contains(&format!("scope=\"{missing}")), "{name} {caller}: {challenge}");
        }
    }
}
