//! Stories of a server that does not start: one clear line, exit 1, and no secret in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::io::{Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use support::{EMAIL, PASSWORD, Place, Run};

const FREE: &str = "127.0.0.1:0";

fn serve(place: &Place, args: &[&str]) -> Run {
    place.run(&[&["serve", "--listen", FREE], args].concat())
}

/// It refuses, and names all of `names`.
#[track_caller]
fn refused(run: Run, names: &[&str]) -> String {
    let line = run.done().refused();
    for name in names {
        assert!(line.contains(name), "`{line}` does not name `{name}`");
    }
    line
}

#[test]
fn a_broken_configuration_is_named_with_its_line_and_key() {
    for (text, line, key) in [
        ("# a comment\nlisten = 5\n", 2, "`listen`"),
        ("lissten = \"s3cret\"\n", 1, "`lissten`"),
        ("\n\nlease = s3cret\n", 3, "`lease`"),
        ("public-url = \"s3cret\"\n", 1, "`public-url`"),
        ("dev = \"s3cret\"\n", 1, "`dev`"),
        ("[upstreams.a]\nurl = \"http://127.0.0.1:1/\"\nheaders = \"s3cret\"\n", 3, "`headers`"),
        ("listen = \"127.0.0.1:0\"\nlisten = \"127.0.0.1:0\"\n", 2, "`listen`"),
    ] {
        let place = Place::new();
        place.write("trustrelay.toml", text);
        let says = refused(serve(&place, &[]), &[&format!("trustrelay.toml:{line}:"), key]);
        assert!(!says.contains("s3cret"), "{says}");
        assert!(!place.data().exists(), "nothing was begun");
    }
    for (text, names) in [
        ("lease = \"soon\"\n", &["`lease`", "soon"][..]),
        ("drain = \"soon\"\n", &["`drain`", "soon"]),
        ("node-url = \"http://10.0.0.5:8080\"\n", &["--node-url", "--database-url"]),
        ("[upstreams.a]\nurl = \"nonsense\"\n", &["`upstreams.a`", "`url`"]),
        ("[upstreams.a]\n", &["`upstreams.a`", "no `url` and no `command`"]),
        ("[upstreams.a]\nurl = \"http://x/\"\ncommand = \"y\"\n", &["`upstreams.a`", "both"]),
        ("[upstreams.a_b]\nurl = \"http://x/\"\n", &["`upstreams.a_b`"]),
        (
            "[upstreams.a]\nurl = \"http://x/\"\nheaders = { A = \"${NOT_SET}\" }\n",
            &["`upstreams.a`", "NOT_SET"],
        ),
    ] {
        let place = Place::new();
        place.write("trustrelay.toml", text);
        refused(serve(&place, &[]), names);
    }
    let place = Place::new();
    refused(serve(&place, &["--config", "missing.toml"]), &["missing.toml"]);
    // The commands read the same file.
    place.write("trustrelay.toml", "unknown = 1\n");
    refused(place.run(&["user", "list"]), &["trustrelay.toml:1:", "`unknown`"]);
}

#[test]
fn a_flag_that_makes_no_sense_is_named() {
    let place = Place::new();
    for url in ["ftp://relay.example.org", "http://h/path", "http://h/?q", "http://h/#f", "mailto:a@b"] {
        refused(serve(&place, &["--public-url", url]), &["--public-url", url]);
    }
    let says = refused(serve(&place, &["--public-url", "https://ada:s3cret@h/"]), &["--public-url", "h/"]);
    assert!(!says.contains("s3cret"), "{says}");
    for (upstream, names) in [
        ("http://s3cret.example/", &["number 1", "NAME=URL"][..]),
        ("Git=http://h/", &["`Git`"]),
        ("a=http://", &["a=", "`url`"]),
        ("a=", &["a=", "`command`"]),
        ("a=${NOT_SET}", &["a=", "NOT_SET"]),
    ] {
        let says = refused(serve(&place, &["--upstream", upstream]), &[&["--upstream"], names].concat());
        assert!(!says.contains("s3cret"), "{says}");
    }
    refused(serve(&place, &["--github-keys", "no.json"]), &["--github-keys", "no.json", "cannot be read"]);
    let other = place.write("keys.json", r#"{"public_keys":[{"key_identifier":"k","key":"no PEM"}]}"#);
    refused(serve(&place, &["--github-keys", &other]), &["--github-keys", "keys.json", "`k`"]);
    for lease in ["1ms", "61s", "2w"] {
        refused(serve(&place, &["--lease", lease]), &["--lease", "between 200ms and 60s"]);
    }
    refused(serve(&place, &["--log", "trustrelay=loud"]), &["--log", "`trustrelay=loud`"]);
    assert!(!place.data().exists(), "nothing was begun");
}

#[test]
fn what_is_for_this_machine_alone_does_not_listen_elsewhere() {
    let place = Place::new();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let dev = place.run(&["serve", "--dev", "--listen", address]);
        refused(dev, &["--dev", address, "loopback"]);
        let by_variables = place.run(&["serve"]).env("TRUSTRELAY_DEV", "1").env("TRUSTRELAY_LISTEN", address);
        refused(by_variables, &["--dev", address]);
        place.write("trustrelay.toml", &format!("dev = true\nlisten = \"{address}\"\n"));
        refused(place.run(&["serve"]), &["--dev", address]);
        std::fs::remove_file(place.path("trustrelay.toml")).expect("removed");
    }
    assert!(!place.data().exists(), "nothing was begun");
}

#[test]
fn a_port_in_use_is_named_and_the_data_untouched() {
    let place = Place::new();
    let other = TcpListener::bind(FREE).expect("binds");
    let address = other.local_addr().expect("an address").to_string();
    refused(place.run(&["serve", "--listen", &address]), &[&address, "--listen"]);
    assert!(!place.data().exists());
}

#[test]
fn a_data_directory_that_cannot_be_is_named() {
    let place = Place::new();
    let file = place.write("file", "");
    for dir in [format!("{file}/below"), file] {
        refused(place.bare(&["serve", "--listen", FREE, "--data-dir", &dir]), &[&dir, "--data-dir"]);
        let add = place.bare(&["user", "add", EMAIL, "--password-stdin", "--data-dir", &dir]).stdin(PASSWORD);
        refused(add, &[&dir, "--data-dir"]);
    }
}

#[test]
fn a_database_that_is_none_or_of_a_newer_schema_is_named() {
    let place = Place::with_account();
    let path = place.data().join("trustrelay.db");
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
    // Bytes 60 to 63 of a SQLite file are the version that its user gives it
    // (sqlite.org/fileformat2.html).
    file.seek(SeekFrom::Start(60)).expect("there");
    file.write_all(&999_u32.to_be_bytes()).expect("written");
    for run in [serve(&place, &[]), place.run(&["user", "list"])] {
        refused(run, &["trustrelay.db", "schema version 999", "newer"]);
    }
    std::fs::write(&path, "not a database at all").expect("written");
    for run in [serve(&place, &[]), place.run(&["user", "list"])] {
        refused(run, &["trustrelay.db", "not a database"]);
    }
}

#[test]
fn a_key_that_is_wrong_missing_or_open_to_others_is_named_and_not_shown() {
    let place = Place::with_account();
    let key = place.data().join("secret.key");
    let mode = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("set");
    let good = std::fs::read_to_string(&key).expect("reads");
    assert_eq!(std::fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600);
    let other = place.bare(&["secret", "generate"]).done().good();
    let both = |names: &[&str]| {
        for run in [serve(&place, &[]), place.run(&["user", "list"])] {
            let says = refused(run, names);
            for secret in [&good, &other] {
                assert!(!says.contains(secret.trim()), "{says}");
            }
        }
    };
    mode(0o640);
    both(&["secret.key", "640", "chmod 600"]);
    mode(0o600);
    std::fs::write(&key, &other).expect("written");
    both(&["secret", "does not belong to this data"]);
    for broken in ["", "short", &good[1..], &format!("{}{}", good.trim(), good.trim())] {
        std::fs::write(&key, broken).expect("written");
        both(&["secret.key", "32 bytes in base64"]);
    }
    std::fs::remove_file(&key).expect("removed");
    both(&["secret.key", "backup"]);
    std::fs::create_dir(&key).expect("made");
    both(&["secret.key", "cannot be read"]);
    std::fs::remove_dir(&key).expect("removed");
    refused(serve(&place, &["--secret-key-file", "no.key"]), &["no.key", "--secret-key-file"]);
    let by_variable = |value: &str| serve(&place, &[]).env("TRUSTRELAY_SECRET_KEY", value);
    refused(by_variable(&other), &["secret", "does not belong to this data"]);
    let says = refused(by_variable("c2hvcnQ="), &["TRUSTRELAY_SECRET_KEY", "32 bytes in base64"]);
    assert!(!says.contains("c2hvcnQ"), "{says}");
    // With the right one all is well again.
    place.run(&["user", "list"]).env("TRUSTRELAY_SECRET_KEY", &good).done().good();
    std::fs::write(&key, &good).expect("written");
    mode(0o600);
    place.run(&["user", "list"]).done().good();
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let place = Place::with_account();
    let first = place.serve(&[]);
    let api = first.api(&place.token("api").token);
    refused(serve(&place, &[]), &[&place.data().display().to_string(), "another server", "--data-dir"]);
    assert_eq!(api.whoami().await.0, 200);
    // Once it has ended, however it ended, another may begin.
    first.signal(rustix::process::Signal::KILL);
    assert_eq!(first.end().0, None);
    place.serve(&[]);
}

#[test]
fn many_may_begin_the_same_data_at_once() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for n in 0..6 {
            let email = format!("{n}@example.org");
            let add = place.run(&["user", "add", &email, "--password-stdin"]).stdin(PASSWORD);
            scope.spawn(move || add.done().good());
        }
    });
    assert_eq!(place.run(&["user", "list"]).done().good().lines().count(), 6);
    let files: Vec<_> = std::fs::read_dir(place.data()).expect("lists").collect();
    assert_eq!(files.len(), 2, "the database and its key, no drafts: {files:?}");
}

/// Each setting that takes a URL, with passwords in every shape that a URL reader may stumble over.
#[test]
fn no_part_of_a_password_in_a_url_is_shown_whatever_is_wrong_with_it() {
    let settings: [(&[&str], &str, &str); 9] = [
        (&["serve"], "--database-url", "postgres"),
        (&["user", "list"], "--database-url", "postgresql"),
        (&["serve"], "--database-url", "mysql"),
        (&["serve"], "--smtp-url", "smtps"),
        (&["serve"], "--smtp-url", "gopher"),
        (&["serve"], "--public-url", "https"),
        (&["serve"], "--node-url", "http"),
        (&["serve"], "--otlp-endpoint", "http"),
        (&["token", "check"], "--server", "https"),
    ];
    let passwords = [
        "S3CRET@S3CRET",
        "S3CRET/S3CRET",
        "S3CRET?S3CRET",
        "S3CRET#S3CRET",
        "@S3CRET",
        "S3CRET@",
        "1/S3CRET@S3CRET",
        "%zzS3CRET",
        "S3CRET:S3CRET",
        "S3CRET\\S3CRET",
        "[S3CRET",
        "S3CRET S3CRET",
        "S3CRET\u{1b}[2J",
    ];
    let place = Place::new();
    let key = place.bare(&["secret", "generate"]).done().good();
    for (command, flag, scheme) in settings {
        for password in passwords {
            for rest in ["127.0.0.1:1/db", "127.0.0.1:port/db", ""] {
                let url = format!("{scheme}://ada:{password}@{rest}");
                let variable =
                    format!("TRUSTRELAY_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
                let listen: &[&str] = if command == ["serve"] { &["--listen", "127.0.0.1:0"] } else { &[] };
                let by_flag = [command, listen, &[flag, &url]].concat();
                let by_variable = [command, listen].concat();
                for run in [place.bare(&by_flag), place.bare(&by_variable).env(&variable, &url)] {
                    let run = run
                        .env("TRUSTRELAY_SECRET_KEY", key.trim())
                        .env("TRUSTRELAY_MAIL_FROM", "a@example.org");
                    let done = run.stdin("").done();
                    assert!(matches!(done.code, Some(1 | 2)), "{url}: {done:?}");
                    let said = format!("{}{}", done.out, done.err);
                    assert!(!said.contains("S3CRET"), "{url}: {said}");
                    assert!(!said.contains('\u{1b}'), "{url}: {said:?}");
                }
            }
        }
    }
}
