//! Stories of `trustrelay scan`: what it finds, where it looks, what it says, and that it never
//! repeats a token. The tokens are made here, so that nobody's scanner finds one in this
//! repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Done, Place};
use trustrelay_token::Token;

fn token() -> Token {
    Token::generate().expect("random")
}

/// A place with these files.
fn with(files: &[(&str, &str)]) -> Place {
    let place = Place::new();
    for (name, text) in files {
        fs::create_dir_all(place.path(name).parent().expect("a folder")).expect("made");
        place.write(name, text);
    }
    place
}

fn scan(place: &Place, args: &[&str]) -> Done {
    place.bare(&[&["scan"], args].concat()).done()
}

/// It found tokens and had nothing else to say; what it printed.
#[track_caller]
fn found(done: Done) -> String {
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""), "{done:?}");
    done.out
}

#[track_caller]
fn json(done: &Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace")
}

#[test]
fn a_token_is_named_by_path_line_column_and_hint_and_never_repeated() {
    let token = token();
    let place = with(&[("app/config.yml", &format!("name: app\r\n  key: \"{}\"\r\n", token.expose()))]);
    let out = found(scan(&place, &["."]));
    assert_eq!(out, format!("app/config.yml:2:9: TrustRelay token {}\n", token.hint()));
}

#[test]
fn without_a_token_nothing_is_said() {
    let place = with(&[("a.txt", "nothing here\n"), ("empty", "")]);
    assert_eq!(scan(&place, &["."]).good(), "");
    assert_eq!(scan(&place, &["a.txt", "empty"]).good(), "");
}

#[test]
fn what_only_looks_like_a_token_is_none() {
    let token = token();
    let text = token.expose();
    let mut mistyped = text.to_owned();
    let last = mistyped.pop().expect("not empty");
    mistyped.push(if last == '0' { '1' } else { '0' });
    for (case, text) in [
        ("a mistyped checksum", mistyped),
        ("a word too long", format!("{text}x")),
        ("a word too short", text[..44].to_owned()),
        ("the prefix alone", "tr_pat_ tr_pat_".to_owned()),
        ("what documents write", format!("tr_pat_… tr_pat_{}", "X".repeat(38))),
        ("another prefix", text.replace("tr_pat_", "tr_put_")),
        ("a token over two lines", format!("{}\n{}", &text[..20], &text[20..])),
        ("another case", text.to_uppercase()),
    ] {
        let done = scan(&with(&[("a.txt", &text)]), &["a.txt"]);
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(0), "", ""), "{case}");
    }
}

#[test]
fn many_tokens_are_named_in_the_order_in_which_they_stand() {
    let (one, other) = (token(), token());
    let text = format!("{a} {b}\nü {a}\n\n{b}", a = one.expose(), b = other.expose());
    let place = with(&[("b.txt", &text), ("a/z.txt", one.expose()), ("a.txt", other.expose())]);
    let (a, b) = (one.hint(), other.hint());
    let expected = format!(
        "a/z.txt:1:1: TrustRelay token {a}\na.txt:1:1: TrustRelay token {b}\nb.txt:1:1: TrustRelay token {a}\n\
         b.txt:1:47: TrustRelay token {b}\nb.txt:2:3: TrustRelay token {a}\nb.txt:4:1: TrustRelay token {b}\n"
    );
    // Whichever thread is faster, and in whichever order they are named.
    for paths in [&["."][..], &["b.txt", "a.txt", "a"], &["a", "b.txt", ".", "./a.txt"]] {
        assert_eq!(found(scan(&place, paths)), expected, "{paths:?}");
    }
}

#[test]
fn hidden_files_are_looked_at_and_what_gitignore_names_is_not() {
    let token = token();
    let text = token.expose();
    let place = with(&[
        (".gitignore", "target/\n*.log\n!kept.log\n"),
        ("sub/.gitignore", "local.txt\n"),
        (".env", text),
        (".github/workflow.yml", text),
        (".git/config", text),
        ("kept.log", text),
        ("app.log", text),
        ("target/debug/app", text),
        ("sub/local.txt", text),
        ("sub/other.txt", text),
    ]);
    let paths = |args: &[&str]| -> Vec<String> {
        let out = found(scan(&place, args));
        out.lines().map(|line| line.split(':').next().expect("a path").to_owned()).collect()
    };
    let seen = [".env", ".github/workflow.yml", "kept.log", "sub/other.txt"];
    assert_eq!(paths(&["."]), seen);
    let all = [
        ".env",
        ".git/config",
        ".github/workflow.yml",
        "app.log",
        "kept.log",
        "sub/local.txt",
        "sub/other.txt",
        "target/debug/app",
    ];
    assert_eq!(paths(&[".", "--no-ignore"]), all);
    // What is named by itself is looked at, and a folder above says what its folders leave out.
    assert_eq!(paths(&["app.log", "target/debug", ".git"]), [".git/config", "app.log", "target/debug/app"]);
    assert_eq!(paths(&["sub"]), ["sub/other.txt"]);
}

#[test]
fn what_is_excluded_is_left_out_unless_it_is_named() {
    let token = token();
    let text = token.expose();
    let place = with(&[("vectors/token.json", text), ("src/vectors/a.txt", text), ("b.txt", text)]);
    let line = |path: &str| format!("{path}:1:1: TrustRelay token {}\n", token.hint());
    assert_eq!(
        found(scan(&place, &[".", "--exclude", "/vectors"])),
        line("b.txt") + &line("src/vectors/a.txt")
    );
    let none = scan(&place, &[".", "--no-ignore", "--exclude", "vectors/", "--exclude", "*.txt"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""), "{none:?}");
    let by_variable = place.bare(&["scan", "."]).env("TRUSTRELAY_EXCLUDE", "vectors\nb.*").done();
    assert_eq!(by_variable.code, Some(0), "{by_variable:?}");
    assert_eq!(found(scan(&place, &["b.txt", "--exclude", "*.txt"])), line("b.txt"));
    let says = scan(&place, &[".", "--exclude", "{a"]).refused();
    assert!(says.contains("--exclude") && says.contains("`{a`"), "{says}");
}

#[test]
fn a_folder_in_which_nothing_was_looked_at_is_not_passed_over_in_silence() {
    let place = with(&[("empty/.gitignore", "*\n"), ("empty/a", token().expose())]);
    let done = scan(&place, &["empty"]);
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.err.contains("no file was scanned") && done.err.contains("--no-ignore"), "{done:?}");
    assert_eq!(scan(&place, &["empty", "--no-ignore"]).code, Some(1));
}

#[test]
fn links_are_not_followed_unless_named_and_a_pipe_does_not_hold_it_up() {
    let token = token();
    let place = with(&[("outside/a.txt", token.expose()), ("in/clean.txt", "")]);
    symlink("../outside/a.txt", place.path("in/file")).expect("linked");
    symlink("../outside", place.path("in/folder")).expect("linked");
    symlink("nowhere", place.path("in/broken")).expect("linked");
    let made = Command::new("mkfifo").arg(place.path("in/pipe")).status().expect("starts");
    assert!(made.success());
    assert_eq!(scan(&place, &["in"]).good(), "");
    let hint = token.hint();
    assert_eq!(found(scan(&place, &["in/file"])), format!("in/file:1:1: TrustRelay token {hint}\n"));
    assert_eq!(
        found(scan(&place, &["in/folder"])),
        format!("in/folder/a.txt:1:1: TrustRelay token {hint}\n")
    );
}

#[test]
fn a_path_that_is_not_there_is_named_and_the_others_are_looked_at() {
    let token = token();
    let place = with(&[("a.txt", token.expose()), ("clean.txt", "")]);
    let line = scan(&place, &["clean.txt", "missing.txt"]).refused();
    assert!(line.starts_with("missing.txt cannot be read: No such file"), "{line}");
    let done = scan(&place, &["missing.txt", "a.txt"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.out, format!("a.txt:1:1: TrustRelay token {}\n", token.hint()));
    assert!(done.err.contains("missing.txt"), "{done:?}");
    assert_eq!(json(&scan(&place, &["--json", "missing.txt"]))["errors"][0]["path"], "missing.txt");
}

#[test]
fn what_cannot_be_read_is_named_and_is_not_clean() {
    let place = with(&[("files/a.txt", "clean"), ("files/b.txt", "clean"), ("files/locked/c.txt", "clean")]);
    // The beginning of a process's memory: nobody can read that.
    let line = scan(&place, &["/proc/self/mem", "files/a.txt"]).refused();
    assert!(line.starts_with("/proc/self/mem cannot be read: "), "{line}");

    let close =
        |name, mode| fs::set_permissions(place.path(name), PermissionsExt::from_mode(mode)).expect("set");
    close("files/b.txt", 0o000);
    close("files/locked", 0o000);
    let done = scan(&place, &["files"]);
    // To root nothing is closed.
    if fs::File::open(place.path("files/b.txt")).is_err() {
        let lines: Vec<_> = done.err.lines().collect();
        assert_eq!((done.code, done.out.as_str(), lines.len()), (Some(1), "", 2), "{done:?}");
        assert!(lines[0].starts_with("trustrelay: files/b.txt cannot be read: "), "{done:?}");
        assert!(lines[1].starts_with("trustrelay: files/locked cannot be read: "), "{done:?}");
    }
    close("files/locked", 0o700);
}

#[test]
fn a_token_in_a_file_name_is_not_repeated() {
    let (name, text) = (token(), token());
    let file = format!("{}.txt", name.expose());
    let place = with(&[(&file, text.expose())]);
    for args in [&["."][..], &[&file], &[".", "--json"], &[".", "--sarif"]] {
        let out = found(scan(&place, args));
        assert!(out.contains("tr_pat_") && out.contains(&text.hint()), "{out}");
        assert!(!out.contains(name.expose()) && !out.contains(text.expose()), "the token is printed");
    }
    // Who gives the token in place of a file does not read it again either.
    let line = scan(&place, &[name.expose()]).refused();
    assert!(line.starts_with("tr_pat_… cannot be read: "), "{line}");
}

#[test]
fn standard_input_is_looked_at_under_the_name_of_a_dash() {
    let token = token();
    let text = format!("+++ b/config\n+key = {}\n", token.expose());
    let place = Place::new();
    let out = found(place.bare(&["scan", "-"]).stdin(&text).done());
    assert_eq!(out, format!("-:2:8: TrustRelay token {}\n", token.hint()));
    assert_eq!(place.bare(&["scan", "-"]).stdin("+nothing\n").done().good(), "");
    assert_eq!(place.bare(&["scan", "-"]).done().good(), "");
    let out = found(place.bare(&["scan", "--sarif", "-"]).stdin(&text).done());
    assert!(out.contains("\"uri\": \"-\""), "{out}");
}

#[test]
fn large_and_binary_files_are_read_to_the_end() {
    let token = token();
    let place = Place::new();
    let mut bytes: Vec<u8> =
        (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    // Bytes with no end of a line among them, where a token stands for itself.
    bytes.retain(|byte| !byte.is_ascii_alphanumeric() && *byte != b'\n');
    let offset = bytes.len() + 1;
    bytes.push(b'\n');
    bytes.extend_from_slice(token.expose().as_bytes());
    bytes.push(0);
    fs::write(place.path("app.bin"), bytes).expect("written");
    let done = scan(&place, &["--json", "app.bin"]);
    let found = &json(&done)["found"][0];
    assert_eq!((&found["line"], &found["column"], &found["offset"]), (&2.into(), &1.into(), &offset.into()));
}

#[test]
fn json_says_where_what_and_how_much_was_looked_at() {
    let token = token();
    let place = with(&[("a.txt", "x\n"), ("b.txt", &format!("é {}", token.expose()))]);
    let done = scan(&place, &["--json", "."]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    let expected = serde_json::json!({
        "files": 2,
        "found": [{ "path": "b.txt", "line": 1, "column": 3, "offset": 3, "pat_hint": token.hint() }],
        "errors": [],
    });
    assert_eq!(json(&done), expected);
    let clean = scan(&place, &["--json", "a.txt"]);
    assert_eq!((clean.code, &json(&clean)["found"]), (Some(0), &serde_json::json!([])));
}

#[test]
fn sarif_has_what_its_schema_requires_and_points_at_the_token() {
    let token = token();
    let place = with(&[("src/a b.rs", &format!("// é {}\n", token.expose()))]);
    let done = scan(&place, &["--sarif", "src", "missing"]);
    assert_eq!(done.code, Some(1));
    let log = json(&done);
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "trustrelay");
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let result = &run["results"][0];
    assert!(result["message"]["text"].as_str().expect("a text").contains(&token.hint()));
    assert_eq!(result["level"], "error");
    let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
    assert_eq!(driver["rules"][index]["id"], result["ruleId"]);
    let place_of = &result["locations"][0]["physicalLocation"];
    assert_eq!(place_of["artifactLocation"]["uri"], "src/a%20b.rs");
    let region = serde_json::json!({ "startLine": 1, "startColumn": 6, "endColumn": 51, "byteOffset": 6, "byteLength": 45 });
    assert_eq!(place_of["region"], region);
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let note = &invocation["toolExecutionNotifications"][0]["message"]["text"];
    assert!(note.as_str().expect("a text").starts_with("missing cannot be read"), "{note}");

    let clean = json(&scan(&with(&[("a", "")]), &["--sarif", "a"]));
    assert_eq!(clean["runs"][0]["results"], serde_json::json!([]));
    assert_eq!(clean["runs"][0]["invocations"][0]["executionSuccessful"], true);
}

#[test]
fn wrong_usage_exits_2() {
    let place = Place::new();
    for args in [&[][..], &["--unknown", "."], &["--json", "--sarif", "."]] {
        scan(&place, args).misused();
    }
}

#[test]
fn the_gitleaks_rule_finds_a_token_and_nothing_that_is_longer_or_shorter() {
    let text = fs::read_to_string(root().join("deploy/gitleaks.toml")).expect("there");
    let config: toml::Table = text.parse().expect("TOML");
    let rule = &config["rules"][0];
    let regex = regex::Regex::new(rule["regex"].as_str().expect("a regex")).expect("valid");
    let keyword = rule["keywords"][0].as_str().expect("a keyword");
    let token = token();
    let token = token.expose();
    assert!(token.contains(keyword));
    assert_eq!(regex.find(&format!("key=\"{token}\"")).expect("found").as_str(), token);
    for no in [&format!("{token}x"), &token[..44], &token.replace("pat", "put")] {
        assert!(!regex.is_match(no));
    }
}

#[test]
fn the_pre_commit_hook_refuses_a_commit_that_adds_a_token_and_lets_it_be_taken_out() {
    let place = Place::new();
    let folder = place.path("repository");
    fs::create_dir(&folder).expect("made");
    let program = Path::new(env!("CARGO_BIN_EXE_trustrelay")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("set"));
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
        let mut command = Command::new("git");
        command.args(identity).args(args).current_dir(&folder).env("PATH", &path);
        let done = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git is there");
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let commit = || git(&["commit", "--quiet", "--message", "a change"]);
    assert!(git(&["init", "--quiet"]).0);
    let token = token();
    // It was there before there was a hook.
    fs::write(folder.join("old.txt"), format!("{}\n", token.expose())).expect("written");
    assert!(git(&["add", "."]).0 && commit().0);
    let hook = folder.join(".git/hooks/pre-commit");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("made");
    fs::copy(root().join("deploy/pre-commit"), hook).expect("copied");

    fs::write(folder.join("new.txt"), format!("key = {}\n", token.expose())).expect("written");
    assert!(git(&["add", "."]).0);
    let (committed, says) = commit();
    assert!(!committed && says.contains(&token.hint()), "{says}");
    assert!(!says.contains(token.expose()), "the token is printed");

    fs::write(folder.join("new.txt"), "key = ${KEY}\n").expect("written");
    fs::remove_file(folder.join("old.txt")).expect("removed");
    assert!(git(&["add", "--all"]).0);
    let (committed, says) = commit();
    assert!(committed, "{says}");
}
