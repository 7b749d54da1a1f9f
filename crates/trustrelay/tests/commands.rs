//! Stories of the commands: what they print, how they exit, and that a running server heeds them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use support::{EMAIL, PASSWORD, Place};

#[test]
fn accounts_are_added_listed_disabled_and_enabled() {
    let place = Place::new();
    let added = place.run(&["user", "add", " Ada@Example.org", "--password-stdin"]).stdin(PASSWORD).done();
    assert_eq!(added.good(), "added ada@example.org\n");
    let admin = ["user", "add", "root@example.org", "--password-stdin", "--admin"];
    // A line break after the password, as `echo` gives one, is not part of it.
    place.run(&admin).stdin(&format!("{PASSWORD}\r\nand more")).done().good();
    let list = || place.run(&["user", "list"]).done().good();
    assert_eq!(list(), "ada@example.org\tuser\tactive\nroot@example.org\tadmin\tactive\n");
    assert_eq!(place.run(&["user", "disable", EMAIL]).done().good(), format!("disabled {EMAIL}\n"));
    assert_eq!(place.run(&["user", "disable", EMAIL]).done().good(), format!("disabled {EMAIL}\n"));
    assert_eq!(list(), "ada@example.org\tuser\tdisabled\nroot@example.org\tadmin\tactive\n");
    assert_eq!(place.run(&["user", "enable", EMAIL]).done().good(), format!("enabled {EMAIL}\n"));
    let json: Value =
        serde_json::from_str(&place.run(&["user", "list", "--json"]).done().good()).expect("JSON");
    assert_eq!(json[0]["email"], EMAIL);
    assert_eq!((&json[0]["disabled_at"], &json[1]["is_admin"]), (&Value::Null, &Value::Bool(true)));
    assert!(!json.to_string().contains("argon2"), "no hash is shown");
}

#[test]
fn a_token_comes_alone_on_standard_output() {
    let place = Place::with_account();
    let create =
        ["token", "create", "--user", EMAIL, "--name", "ci", "--scope", "mcp api", "--expires-in", "90d"];
    let token = place.run(&create).done().good();
    assert_eq!(token.len(), 46, "45 characters and the end of the line");
    assert!(token.starts_with("tr_pat_") && token.ends_with('\n'));
    assert_ne!(place.run(&create).done().good(), token);

    let list = place.run(&["token", "list", "--user", EMAIL]).done().good();
    assert_eq!(list.lines().count(), 2);
    assert!(list.contains(&format!("...{}\tci\tmcp api\texpires ", &token[41..45])), "{list}");
    let json = place.run(&["token", "list", "--user", EMAIL, "--json"]).done().good();
    assert!(!list.contains("tr_pat_") && !json.contains("tr_pat_"), "it is shown once");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let keys: Vec<_> = json[0].as_object().expect("an object").keys().map(String::as_str).collect();
    let expected =
        ["created_at", "expires_at", "last_used_at", "pat_hint", "pat_id", "pat_name", "pat_scope"];
    assert_eq!(keys, expected);
}

#[test]
fn revoking_again_gives_the_first_time() {
    let place = Place::with_account();
    let made = place.token("mcp");
    let revoked = place.run(&["token", "revoke", &made.id]).done().good();
    assert!(revoked.starts_with(&format!("revoked {} at 20", made.id)), "{revoked}");
    assert_eq!(place.run(&["token", "revoke", &made.id]).done().good(), revoked);
    assert_eq!(place.run(&["token", "list", "--user", EMAIL]).done().good(), "");
}

#[test]
fn a_secret_is_32_bytes_in_base64_and_always_another() {
    let place = Place::new();
    let secret = place.bare(&["secret", "generate"]).done().good();
    assert_eq!((secret.len(), secret.ends_with("=\n")), (45, true), "44 characters and the end of the line");
    assert_ne!(place.bare(&["secret", "generate"]).done().good(), secret);
    assert!(!place.path("trustrelay-data").exists(), "it touches no data");
}

#[test]
fn a_token_is_checked_offline_from_a_file_standard_input_or_the_environment() {
    let place = Place::with_account();
    let token = place.token("mcp").token;
    let file = place.write("token.txt", &format!("  {token}\n"));
    let checks = [
        place.bare(&["token", "check"]).stdin(&token),
        place.bare(&["token", "check", "-"]).stdin(&format!("{token}\n")).env("TRUSTRELAY_TOKEN", "wrong"),
        place.bare(&["token", "check", &file]).env("TRUSTRELAY_TOKEN", "wrong"),
        place.bare(&["token", "check"]).stdin("wrong").env("TRUSTRELAY_TOKEN", &token),
    ];
    for check in checks {
        let says = check.done().good();
        assert!(says.contains(&format!("...{}", &token[41..])) && !says.contains(&token), "{says}");
    }
    let swapped = if token.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{swapped}", &token[..44]);
    for wrong in ["", "wrong", &token[..44], &format!("{token}0"), &mistyped, &format!("{token} {token}")] {
        let says = place.bare(&["token", "check"]).stdin(wrong).done().refused();
        assert!(!says.contains(&token[7..]) && !says.contains(&mistyped[39..]), "{says}");
    }
    let says = place.bare(&["token", "check", "no-such-file"]).done().refused();
    assert!(says.contains("no-such-file"), "{says}");
    let says = place.bare(&["token", "check", &token]).done().refused();
    assert!(says.contains("FILE is a token") && !says.contains(&token[7..]), "{says}");
}

#[test]
fn a_token_is_checked_at_its_server() {
    let place = Place::with_account();
    let made = place.token("api");
    let short = ["token", "create", "--user", EMAIL, "--name", "n", "--scope", "mcp", "--expires-in", "10d"];
    let short = place.run(&short).done().good();
    let server = place.serve(&[]);
    let check = |token: &str, more: &[&str]| {
        let args = [&["token", "check", "--server", &server.base], more].concat();
        place.bare(&args).stdin(token).done()
    };
    let says = check(&made.token, &[]).good();
    assert!(says.contains(EMAIL) && says.contains("364 days left"), "{says}");
    assert!(!says.contains(&made.token));
    // A cron job that warns needs no more than the exit code.
    assert_eq!(check(&short, &[]).code, Some(3), "30 days are the default");
    assert_eq!(check(&short, &["--warn", "11d"]).code, Some(3));
    assert_eq!(check(&short, &["--warn", "9d"]).code, Some(0));

    let unknown = Place::with_account().token("api").token;
    let says = check(&unknown, &[]).refused();
    assert!(says.contains("401"), "{says}");
    place.run(&["token", "revoke", &made.id]).done().good();
    let says = check(&made.token, &[]).refused();
    assert!(says.contains("401") && says.contains("revoked"), "{says}");
    place.run(&["user", "disable", EMAIL]).done().good();
    assert!(check(&short, &[]).refused().contains("disabled"));

    let nobody = ["token", "check", "--server", "http://user:s3cret@127.0.0.1:1/"];
    let says = place.bare(&nobody).stdin(&made.token).done().refused();
    assert!(says.contains("127.0.0.1:1") && says.contains("does not answer"), "{says}");
    assert!(!says.contains("s3cret"), "{says}");
}

#[tokio::test]
async fn a_running_server_honours_a_command_before_it_returns() {
    let place = Place::with_account();
    let server = place.serve(&[]);
    for _ in 0..3 {
        let made = place.token("api tokens");
        let api = server.api(&made.token);
        assert_eq!(api.whoami().await.0, 200, "a token made by a command is good at once");
        let child = api.create("api").await.expect("made");
        let child_api = server.api(&child.token);
        assert_eq!(child_api.whoami().await.0, 200);
        place.run(&["token", "revoke", &made.id]).done().good();
        for api in [api, child_api] {
            let (status, body) = api.whoami().await;
            assert_eq!(status, 401);
            assert!(body["error"]["message"].as_str().expect("says why").contains("revoked"), "{body}");
        }
    }
    let api = server.api(&place.token("api").token);
    for _ in 0..3 {
        assert_eq!(api.whoami().await.0, 200);
        place.run(&["user", "disable", EMAIL]).done().good();
        assert_eq!(api.whoami().await.0, 401);
        place.run(&["user", "enable", EMAIL]).done().good();
    }
}

#[tokio::test]
async fn what_is_done_over_rest_is_seen_by_the_commands() {
    let place = Place::with_account();
    let root = place.token("api tokens");
    let server = place.serve(&[]);
    let made = server.api(&root.token).create("api").await.expect("made");
    let list = || place.run(&["token", "list", "--user", EMAIL]).done().good();
    assert!(list().contains(&made.id));
    server.api(&root.token).revoke(&made.id).await.expect("revoked");
    assert!(!list().contains(&made.id) && list().contains(&root.id));
}

#[tokio::test]
async fn a_token_that_the_policy_does_not_allow_is_refused_to_the_operator_as_well() {
    let place = Place::with_account();
    let add = ["user", "add", "root@example.org", "--password-stdin", "--admin"];
    place.run(&add).stdin(PASSWORD).done().good();
    let create = |user: &str, scope: &str, expires: &str| {
        let args =
            ["token", "create", "--user", user, "--name", "n", "--scope", scope, "--expires-in", expires];
        place.run(&args).done()
    };
    let root = create("root@example.org", "api", "1d").good();
    let server = place.serve(&[]);
    let policy = json!({
        "max_days": 90, "default_days": 30, "allowed_scopes": ["mcp"], "unused_days": null, "allowed_networks": [],
    });
    let put = server.api(root.trim_end()).request(Method::PUT, "/api/admin/policy").json(&policy);
    assert_eq!(put.send().await.expect("answers").status(), 200);

    let says = create(EMAIL, "mcp", "91d").refused();
    assert!(says.contains("policy") && says.contains("90 days"), "{says}");
    let says = create(EMAIL, "mcp api", "90d").refused();
    assert!(says.contains("policy") && says.contains("`api`"), "{says}");
    create(EMAIL, "mcp:github", "90d").good();
    // Without a server it holds as well.
    drop(server);
    assert!(create(EMAIL, "mcp", "91d").refused().contains("policy"));
    create(EMAIL, "mcp", "90d").good();
}

#[test]
fn every_help_shows_an_example() {
    let place = Place::new();
    let mut waiting = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(command) = waiting.pop() {
        let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = place.bare(&args).done().good();
        let example = help.lines().skip_while(|line| !line.starts_with("Example"));
        assert!(example.into_iter().any(|line| line.contains("trustrelay ")), "{args:?}: {help}");
        seen += 1;
        let below = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for name in below.map_while(|line| line.strip_prefix("  ")?.split_whitespace().next()) {
            if name != "help" {
                waiting.push([command.as_slice(), &[name.to_owned()]].concat());
            }
        }
    }
    assert!(seen >= 14, "only {seen} commands were found");
}

#[test]
fn wrong_usage_exits_2_and_repeats_no_token() {
    let place = Place::with_account();
    let token = place.token("mcp").token;
    let url = format!("http://ada:{token}@127.0.0.1/ x");
    for args in [
        &["unknown"][..],
        &["user"],
        &["user", "add", EMAIL],
        &["user", "set-password", EMAIL],
        &["token", "create", "--user", EMAIL],
        &["token", "create", "--user", EMAIL, "--name", "n", "--scope", "mcp", "--expires-in", "soon"],
        &["token", "create", "--user", EMAIL, "--name", "n", "--scope", "mcp", &token],
        &["token", "check", "--server", "nonsense"],
        &["token", "check", "--server", &url, &token, &token],
        &["token", "check", "--token", &token],
        &[&token],
        &["serve", "--listen", "8080"],
        &["serve", "--public-url", "relay.example.org"],
        &["serve", "--lease", "2"],
        &["serve", "--dev=perhaps"],
        &["serve", "--unknown"],
    ] {
        let says = place.run(args).done().misused();
        assert!(!says.contains(&token[7..]), "{args:?}: {says}");
    }
    let says = place.run(&["user", "list"]).env("TRUSTRELAY_JSON", "maybe").done().misused();
    assert!(says.contains("--json"), "{says}");
}

#[test]
fn what_is_refused_is_named_in_one_line() {
    let place = Place::with_account();
    let token = place.token("mcp").token;
    let add = |email: &str, password: &str| {
        place.run(&["user", "add", email, "--password-stdin"]).stdin(password).done().refused()
    };
    assert!(add("ADA@example.org ", PASSWORD).contains("already exists"));
    assert!(add("nonsense", PASSWORD).contains("`email`"));
    let says = add("new@example.org", "s3cret pass");
    assert!(says.contains("11 characters") && !says.contains("s3cret"), "{says}");
    assert!(add("new@example.org", "").contains("0 characters"));
    let set = |email: &str, password: &str| {
        place.run(&["user", "set-password", email, "--password-stdin"]).stdin(password).done().refused()
    };
    assert!(set("nobody@example.org", PASSWORD).contains("`nobody@example.org`"));
    let says = set(EMAIL, "s3cret pass");
    assert!(says.contains("11 characters") && !says.contains("s3cret"), "{says}");
    let off = ["user", "add", "new@example.org", "--password-stdin"];
    let says = place
        .bare(&off[..3])
        .env("TRUSTRELAY_PASSWORD_STDIN", "false")
        .env("TRUSTRELAY_DATA_DIR", &place.data().display().to_string())
        .done()
        .refused();
    assert!(says.contains("--password-stdin"), "{says}");
    let create = |user: &str, name: &str, scope: &str, expires: &str| {
        let args =
            ["token", "create", "--user", user, "--name", name, "--scope", scope, "--expires-in", expires];
        place.run(&args).done().refused()
    };
    assert!(create("nobody@example.org", "n", "mcp", "1d").contains("`nobody@example.org`"));
    assert!(create(EMAIL, "", "mcp", "1d").contains("`pat_name`"));
    assert!(create(EMAIL, "n", "everything", "1d").contains("`everything`"));
    assert!(create(EMAIL, "n", "mcp", "366d").contains("365 days"));
    assert!(create(EMAIL, "n", "mcp", "0s").contains("not in the future"));
    for leak in [
        create(EMAIL, &token, "mcp", "1d"),
        create(EMAIL, "n", &token, "1d"),
        create(&token, "n", "mcp", "1d"),
    ] {
        assert!(!leak.contains(&token[7..]), "{leak}");
    }
    let revoke = |id: &str| place.run(&["token", "revoke", id]).done().refused();
    let id = "0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11";
    assert!(revoke(id).contains(id));
    let says = revoke(&token);
    assert!(says.contains("PAT_ID") && !says.contains("tr_pat_"), "{says}");
    for command in ["disable", "enable"] {
        let says = place.run(&["user", command, "nobody@example.org"]).done().refused();
        assert!(says.contains("nobody@example.org"), "{says}");
    }
}

#[test]
fn on_a_directory_without_data_commands_say_so_and_make_none() {
    let place = Place::new();
    for args in [
        &["nodes"][..],
        &["user", "list"],
        &["user", "disable", EMAIL],
        &["token", "list", "--user", EMAIL],
        &["token", "create", "--user", EMAIL, "--name", "n", "--scope", "mcp"],
        &["token", "revoke", "0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11"],
    ] {
        let says = place.run(args).done().refused();
        assert!(says.contains(&place.data().display().to_string()), "{says}");
        assert!(!place.data().exists(), "{args:?}");
    }
}

#[test]
fn an_output_that_nobody_reads_is_an_error_and_no_crash() {
    let place = Place::with_account();
    for args in [
        &["user", "list"][..],
        &["token", "create", "--user", EMAIL, "--name", "n", "--scope", "mcp"],
        &["secret", "generate"],
    ] {
        let done = place.run(args).done_unheard();
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.err.starts_with("trustrelay: standard output cannot be written"), "{done:?}");
    }
}
