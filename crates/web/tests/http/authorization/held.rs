//! Power that is taken away while the last byte of a request is held back: nothing is done with it
//! any more.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use trustrelay_authority::{Clock as _, Expiry, Issued, NewPat};

use super::{BOB, PUBLIC, request, table, webhook};
use crate::support::{ADA, Answer, EVE, PASSWORD, Setting, World, path_of};

/// What is taken from Ada. Bob administers too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    AccountDisabled,
    RoleTaken,
    PasswordChanged,
    SignedOutEverywhere,
    TokenRevoked,
    SecretReplaced,
    TokenExpired,
    PolicyNarrowed,
}

impl Loss {
    const OF_BROWSER: [Self; 4] =
        [Self::AccountDisabled, Self::RoleTaken, Self::PasswordChanged, Self::SignedOutEverywhere];
    const OF_TOKEN: [Self; 6] = [
        Self::AccountDisabled,
        Self::RoleTaken,
        Self::TokenRevoked,
        Self::SecretReplaced,
        Self::TokenExpired,
        Self::PolicyNarrowed,
    ];

    async fn happen(self, world: &World, token: Option<&Issued>) {
        let bob = world.browser_of(BOB).await;
        let ada = format!("/api/admin/users/{}", world.id_of(ADA).await);
        let path = token.map(path_of).unwrap_or_default();
        let answer = match self {
            Self::AccountDisabled => {
                world.patch(&ada).session(&bob).json(json!({ "is_disabled": true })).send().await
            }
            Self::RoleTaken => {
                world.patch(&ada).session(&bob).json(json!({ "is_admin": false })).send().await
            }
            Self::PasswordChanged => {
                let form = format!("current_password={PASSWORD}&new_password={PASSWORD}");
                world
                    .post("/settings/profile/password")
                    .session(&world.browser().await)
                    .form(&form)
                    .send()
                    .await
            }
            Self::SignedOutEverywhere => {
                let call = world.post("/settings/profile/sign-out-everywhere");
                call.session(&world.browser().await).send().await
            }
            Self::TokenRevoked => world.delete(&path).session(&world.browser().await).send().await,
            Self::SecretReplaced => {
                let call = world.post(&format!("{path}/rotate")).session(&world.browser().await);
                call.json(json!({ "overlap_seconds": 0 })).send().await
            }
            Self::TokenExpired => {
                world.clock.advance(Duration::from_secs(61));
                return;
            }
            Self::PolicyNarrowed => {
                let policy = json!({
                    "max_days": null, "default_days": null, "allowed_scopes": [], "unused_days": null,
                    "allowed_networks": ["198.51.100.0/24"],
                });
                world.put("/api/admin/policy").session(&bob).json(policy).send().await
            }
        };
        assert!(answer.status.is_success() || answer.status == 303, "{self:?}: {answer}");
    }
}

async fn world() -> World {
    let world = World::with(Setting { accounts: &[ADA, EVE, BOB], ..Setting::default() }).await;
    let bob = format!("/api/admin/users/{}", world.id_of(BOB).await);
    let call = world.patch(&bob).session(&world.browser().await);
    assert_eq!(call.json(json!({ "is_admin": true })).send().await.status, 200);
    world
}

/// How many changes the audit log tells of. Each is there in its own transaction.
async fn changes(world: &World) -> usize {
    let log = world.audit().await;
    log.iter().filter(|entry| !entry.action.starts_with("refused.")).count()
}

fn is_refused(name: &str, loss: Loss, answer: &Answer) -> bool {
    let to_sign_in = answer.status == 303 && answer.header("location") == "/login";
    match loss {
        // What ends by its time or by the policy is said so at the next request.
        Loss::TokenExpired | Loss::PolicyNarrowed if name.contains("/mcp") => answer.status == 503,
        Loss::RoleTaken | Loss::PolicyNarrowed => answer.status == 403,
        // Its pages are for browsers.
        _ if name.contains("/api/") || name.contains("/mcp") => answer.status == 401,
        _ => to_sign_in,
    }
}

/// One request whose last byte comes when the power is gone. `None` if the route reads no body.
async fn told_too_late(name: &str, loss: Loss, by_token: bool) -> Option<Result<(), String>> {
    let world = world().await;
    let (session, token) = if by_token {
        let expires_at = world.clock.now() + Duration::from_secs(60);
        let new = NewPat {
            name: "ci-pipeline".into(),
            scope: "mcp api tokens".into(),
            expiry: Expiry::At(expires_at),
            ..NewPat::default()
        };
        (None, Some(world.authority.issue_for(ADA, new).await.expect("issued")))
    } else {
        (Some(world.browser().await), None)
    };
    let id = webhook(&world, name).await;
    // A token can rotate itself, and what it has made.
    let subject = match &token {
        Some(token) => token.record.pat_id,
        None => world.token("mcp").await.record.pat_id,
    };
    let path = name.split_once(' ').expect("a method and a path").1;
    let path = path.replace("{pat_id}", &subject.to_string()).replace("{name}", "github");
    let path = path.replace("{webhook_id}", &id).replace("{user_id}", &world.id_of(EVE).await);
    let path = path.replace("{invite_id}", &subject.to_string());
    let path = path.replace("/admin/tokens/revoke", "/admin/tokens/revoke?owner=nobody%40");
    let call = request(&world, name, &path);
    let call = session.iter().fold(call, |call, session| call.session(session));
    let call = token.iter().fold(call, |call, token| call.bearer(token));
    let (call, mut held) = call.held().await;
    let mut answer = Box::pin(call.send());
    tokio::select! {
        answer = &mut answer => {
            let acted = answer.status.is_success() || answer.status.is_redirection() || answer.status == 404;
            assert!(acted, "{name}: {answer}");
            return None;
        }
        // A body that is not read is dropped, and nobody waits for its end.
        Ok(()) = &mut held.awaited => {}
    }
    loss.happen(&world, token.as_ref()).await;
    let before = changes(&world).await;
    held.release();
    let answer = answer.await;
    if !is_refused(name, loss, &answer) {
        return Some(Err(format!("{name} {loss:?}: {answer}")));
    }
    let after = changes(&world).await;
    Some(if after == before { Ok(()) } else { Err(format!("{name} {loss:?}: something was changed")) })
}

/// Every changing route and every loss that it must feel.
#[tokio::test]
async fn nothing_is_done_when_the_last_byte_comes_after_the_power_has_gone() {
    let (mut reading, mut wrong, mut tried) = (BTreeSet::new(), Vec::new(), 0);
    let rows = table().into_iter().filter(|(name, _)| !name.starts_with("GET"));
    for (name, statuses) in rows.filter(|(name, _)| !PUBLIC.contains(&name.as_str())) {
        let may = |caller: usize| [200, 201, 303, 404].contains(&statuses[caller]);
        let is_page = !name.contains("/api/") && !name.contains("/mcp");
        let browser = may(1).then_some((false, &Loss::OF_BROWSER[..]));
        let token = (may(9) && !is_page).then_some((true, &Loss::OF_TOKEN[..]));
        for (by_token, losses) in browser.into_iter().chain(token) {
            for loss in losses {
                if *loss == Loss::RoleTaken && !name.contains("/admin") {
                    continue;
                }
                match told_too_late(&name, *loss, by_token).await {
                    // Without a body there is nothing to hold back, whatever is taken away.
                    None => break,
                    Some(outcome) => {
                        tried += 1;
                        reading.insert(name.clone());
                        wrong.extend(outcome.err());
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Routes that read a body. Whoever adds one that changes something finds it here.
    let expected = READING.map(str::to_owned);
    assert_eq!(reading, BTreeSet::from(expected));
    assert!(tried > 80, "{tried}");
}

const READING: [&str; 21] = [
    "PATCH /api/admin/users/{user_id}",
    "POST /admin/notices",
    "POST /admin/people",
    "POST /admin/people/{user_id}",
    "POST /admin/policy",
    "POST /admin/tokens/revoke",
    "POST /api/admin/personal-access-tokens/revoke",
    "POST /api/admin/users",
    "POST /api/admin/webhooks",
    "POST /api/mcp",
    "POST /api/mcp/{name}",
    "POST /api/user/personal-access-tokens",
    "POST /api/user/personal-access-tokens/{pat_id}/rotate",
    "POST /api/user/webhooks",
    "POST /mcp",
    "POST /mcp/{name}",
    "POST /settings/developer",
    "POST /settings/developer/{pat_id}/rotate",
    "POST /settings/notices",
    "POST /settings/profile/password",
    "PUT /api/admin/policy",
];
