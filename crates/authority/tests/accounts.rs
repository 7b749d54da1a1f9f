//! Stories of accounts and browser sessions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{EMAIL, PASSWORD, World};
use trustrelay_authority::*;
use zeroize::Zeroizing;

#[tokio::test]
async fn signing_in_and_out() {
    let world = World::new().await;
    let (cookie, expires_at) =
        world.authority.login(" ADA@example.org", PASSWORD.into(), None).await.expect("in");
    assert!(world.authority.authenticate_session(cookie.expose()).await.expect("asks").is_some());
    assert!(world.authority.authenticate_session("nonsense").await.expect("asks").is_none());
    assert!(!format!("{cookie:?}").contains(&cookie.expose()[..8]));
    world.authority.logout(cookie.expose(), None).await.expect("out");
    assert!(world.authority.authenticate_session(cookie.expose()).await.expect("asks").is_none());

    let (cookie, _) = world.authority.login(EMAIL, PASSWORD.into(), None).await.expect("in");
    world.clock.advance(Duration::try_from(expires_at.duration_since(world.clock.now())).expect("ahead"));
    assert!(world.authority.authenticate_session(cookie.expose()).await.expect("asks").is_none(), "expired");
}

#[tokio::test]
async fn a_wrong_password_an_unknown_and_a_disabled_account_are_alike() {
    let world = World::new().await;
    world.add("off@example.org").await;
    world.authority.set_disabled("off@example.org", true).await.expect("disabled");
    for (email, password) in
        [(EMAIL, "wrong"), ("nobody@example.org", PASSWORD), ("off@example.org", PASSWORD)]
    {
        let refused = world.authority.login(email, password.into(), None).await.expect_err(email);
        assert_eq!(refused.to_string(), AuthorityError::WrongCredentials.to_string());
    }
}

#[tokio::test]
async fn guessing_is_throttled_known_account_or_not() {
    let world = World::new().await;
    let from = Some("192.0.2.1".parse().expect("address"));
    for email in [EMAIL, "nobody@example.org"] {
        for _ in 0..5 {
            let refused = world.authority.login(email, "wrong".into(), from).await;
            assert!(matches!(refused, Err(AuthorityError::WrongCredentials)));
        }
        let refused = world.authority.login(email, PASSWORD.into(), from).await;
        assert!(matches!(refused, Err(AuthorityError::Throttled { .. })), "{email}");
    }
    let elsewhere = Some("192.0.2.2".parse().expect("address"));
    world
        .authority
        .login(EMAIL, PASSWORD.into(), elsewhere)
        .await
        .expect("the owner elsewhere is not locked out");
    world.clock.advance(Duration::from_secs(15 * 60));
    world.authority.login(EMAIL, PASSWORD.into(), from).await.expect("and here later");
}

#[tokio::test]
async fn changing_the_password_ends_the_other_sessions() {
    let world = World::new().await;
    let (here, _) = world.authority.login(EMAIL, PASSWORD.into(), None).await.expect("in");
    let (there, _) = world.authority.login(EMAIL, PASSWORD.into(), None).await.expect("in");
    let by = world.authority.authenticate_session(here.expose()).await.expect("asks").expect("stands");
    let by = By::new(Arc::new(by), None);
    let wrong = world
        .authority
        .change_password(&by, here.expose(), "wrong".into(), "a new long password".into())
        .await;
    assert!(matches!(wrong, Err(AuthorityError::Invalid { field: "current_password", .. })));
    let short = world.authority.change_password(&by, here.expose(), PASSWORD.into(), "short".into()).await;
    assert!(matches!(short, Err(AuthorityError::Invalid { field: "new_password", .. })));
    world
        .authority
        .change_password(&by, here.expose(), PASSWORD.into(), "a new long password".into())
        .await
        .expect("changed");
    assert!(world.authority.authenticate_session(here.expose()).await.expect("asks").is_some());
    assert!(world.authority.authenticate_session(there.expose()).await.expect("asks").is_none());
    assert!(world.authority.login(EMAIL, PASSWORD.into(), None).await.is_err());
    assert_eq!(world.authority.sign_out_everywhere(&by, None).await.expect("out"), 1);
}

#[tokio::test]
async fn the_set_up_link_works_once() {
    let world = World::new().await;
    let secret = world.authority.open_setup().expect("opens");
    assert!(world.authority.setup_is_open(&secret));
    assert!(!world.authority.setup_is_open("guess"));
    let late = world.authority.set_up(&secret, "first@example.org".into(), PASSWORD.into(), None).await;
    assert!(matches!(late, Err(AuthorityError::Conflict(_))), "there is an account already");
    assert!(!world.authority.setup_is_open(&secret));
}

#[tokio::test]
async fn wrong_accounts_are_named() {
    let world = World::new().await;
    for (email, password, field) in [
        ("ada", PASSWORD, "email"),
        ("a b@example.org", PASSWORD, "email"),
        ("@", PASSWORD, "email"),
        ("new@example.org", "elevenchars", "password"),
    ] {
        let new =
            NewAccount { email: email.into(), password: Zeroizing::new(password.into()), is_admin: false };
        let refused = world.authority.add_account(new).await;
        assert!(
            matches!(refused, Err(AuthorityError::Invalid { field: found, .. }) if found == field),
            "{email}"
        );
    }
    let again = NewAccount {
        email: "Ada@Example.org".into(),
        password: Zeroizing::new(PASSWORD.into()),
        is_admin: false,
    };
    assert!(matches!(world.authority.add_account(again).await, Err(AuthorityError::Conflict(_))));
}

#[tokio::test]
async fn another_secret_is_refused() {
    let world = World::new().await;
    let wrong = ServerSecret::generate().expect("random");
    let opened = Authority::open(
        world.store.clone(),
        std::slice::from_ref(&wrong),
        world.clock.clone(),
        support::config(),
    )
    .await;
    assert!(matches!(opened.err(), Some(AuthorityError::Conflict(_))));
    let both = [wrong, world.secret.clone()];
    Authority::open(world.store.clone(), &both, world.clock.clone(), support::config())
        .await
        .expect("one of them fits");
}
