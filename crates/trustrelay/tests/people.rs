//! Stories of the commands about people: who administers, and who is invited.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use support::{EMAIL, PASSWORD, Place};

const ROOT: &str = "root@example.org";

/// Ada, and an administrator.
fn with_root() -> Place {
    let place = Place::with_account();
    place.run(&["user", "add", ROOT, "--password-stdin", "--admin"]).stdin(PASSWORD).done().good();
    place
}

#[test]
fn the_role_goes_from_one_to_another_and_never_from_the_last() {
    let place = with_root();
    let user = |what: &str, who: &str| place.run(&["user", what, who]).done();
    for what in ["demote", "disable"] {
        let refused = user(what, ROOT).refused();
        assert!(refused.contains("the last enabled administrator") && refused.contains(ROOT), "{refused}");
    }
    assert_eq!(user("promote", EMAIL).good(), format!("promoted {EMAIL}\n"));
    assert_eq!(user("promote", EMAIL).good(), format!("promoted {EMAIL}\n"), "again is no harm");
    assert_eq!(user("demote", ROOT).good(), format!("demoted {ROOT}\n"));
    let list = place.run(&["user", "list"]).done().good();
    assert!(list.contains(&format!("{EMAIL}\tadmin")) && list.contains(&format!("{ROOT}\tuser")), "{list}");
    assert!(user("demote", EMAIL).refused().contains("make another account an administrator first"));
    assert!(user("promote", "nobody@example.org").refused().contains("nobody@example.org"));
}

#[test]
fn an_invitation_is_a_link_alone_on_standard_output() {
    let place = with_root();
    let invite = |args: &[&str]| place.run(&[&["user", "invite", "eve@example.org"], args].concat()).done();
    let link = invite(&[]).good();
    let secret = link.strip_prefix("http://127.0.0.1:8080/invite?token=").expect("a link");
    assert_eq!(secret.trim_end().len(), 43, "32 bytes in base64url");
    let public = invite(&["--admin", "--public-url", "https://relay.example.org/"]).good();
    assert!(public.starts_with("https://relay.example.org/invite?token="), "{public}");
    let list = place.run(&["user", "list"]).done().good();
    assert!(!list.contains("eve@example.org"), "nobody is there before it is accepted");
    let taken = place.run(&["user", "invite", EMAIL]).done().refused();
    assert!(taken.contains("already exists"), "{taken}");
    assert!(place.run(&["user", "invite", "nobody"]).done().refused().contains("must be an email address"));
}
