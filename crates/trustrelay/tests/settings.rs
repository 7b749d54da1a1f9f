//! Stories of what the program is set up with: flag > environment > file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use support::{Place, Server};

/// Asks all three places in turn: what each of them, above those below, makes the program say.
struct Setting {
    flag: &'static [&'static str],
    variable: (&'static str, &'static str),
    file: &'static str,
    /// What is said with the flag, without it, and without the variable as well.
    says: [&'static str; 3],
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    // Each value is refused, so that the refusal names the one that counted.
    for setting in [
        Setting {
            flag: &["--lease", "90s"],
            variable: ("TRUSTRELAY_LEASE", "80s"),
            file: "lease = \"70s\"",
            says: ["90s", "80s", "70s"],
        },
        Setting {
            flag: &["--public-url", "http://flag/x"],
            variable: ("TRUSTRELAY_PUBLIC_URL", "http://variable/x"),
            file: "public-url = \"http://file/x\"",
            says: ["flag", "variable", "file"],
        },
        Setting {
            flag: &["--node-url", "http://flag/x"],
            variable: ("TRUSTRELAY_NODE_URL", "http://variable/x"),
            file: "node-url = \"http://file/x\"",
            says: ["flag", "variable", "file"],
        },
        Setting {
            flag: &["--trusted-proxy", "10.0.0.1/8"],
            variable: ("TRUSTRELAY_TRUSTED_PROXY", "192.0.2.0/24,10.0.0.2/8"),
            file: "trusted-proxy = [\"10.0.0.3/8\"]",
            says: ["10.0.0.1/8", "10.0.0.2/8", "10.0.0.3/8"],
        },
        Setting {
            flag: &["--trusted-proxy-header", "flag"],
            variable: ("TRUSTRELAY_TRUSTED_PROXY_HEADER", "variable"),
            file: "trusted-proxy-header = \"file\"",
            says: ["flag", "variable", "`trusted-proxy-header`"],
        },
        Setting {
            flag: &["--drain", "900s"],
            variable: ("TRUSTRELAY_DRAIN", "800s"),
            file: "drain = \"700s\"",
            says: ["900s", "800s", "700s"],
        },
        Setting {
            flag: &["--audit-retention", "9h"],
            variable: ("TRUSTRELAY_AUDIT_RETENTION", "8h"),
            file: "audit-retention = \"7h\"",
            says: ["32400s", "28800s", "25200s"],
        },
        Setting {
            flag: &["--secret-key-file", "flag.key"],
            variable: ("TRUSTRELAY_SECRET_KEY_FILE", "variable.key"),
            file: "secret-key-file = \"file.key\"",
            says: ["flag.key", "variable.key", "file.key"],
        },
        Setting {
            flag: &["--data-dir", "blocked/flag"],
            variable: ("TRUSTRELAY_DATA_DIR", "blocked/variable"),
            file: "data-dir = \"blocked/file\"",
            says: ["blocked/flag", "blocked/variable", "blocked/file"],
        },
        Setting {
            flag: &["--listen", "[2001:db8::1]:1"],
            variable: ("TRUSTRELAY_LISTEN", "[2001:db8::2]:1"),
            file: "listen = \"[2001:db8::3]:1\"",
            says: ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"],
        },
        Setting {
            flag: &["--ops-listen", "[2001:db8::1]:1"],
            variable: ("TRUSTRELAY_OPS_LISTEN", "[2001:db8::2]:1"),
            file: "ops-listen = \"[2001:db8::3]:1\"",
            says: ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"],
        },
        Setting {
            flag: &["--log", "flag=wrong"],
            variable: ("TRUSTRELAY_LOG", "variable=wrong"),
            file: "log = \"file=wrong\"",
            says: ["flag=wrong", "variable=wrong", "file=wrong"],
        },
        Setting {
            flag: &["--upstream", "Flag=http://127.0.0.1:1/"],
            variable: ("TRUSTRELAY_UPSTREAM", "Variable=http://127.0.0.1:1/"),
            file: "[upstreams.File]\nurl = \"http://127.0.0.1:1/\"",
            // An upstream of the file is one more, and the file is read first.
            says: ["File", "File", "File"],
        },
        Setting {
            flag: &["--upstream", "Flag=http://127.0.0.1:1/"],
            variable: ("TRUSTRELAY_UPSTREAM", "Variable=http://127.0.0.1:1/"),
            file: "listen = \"[2001:db8::3]:1\"",
            says: ["Flag", "Variable", "[2001:db8::3]:1"],
        },
        Setting {
            flag: &["--config", "flag.toml"],
            variable: ("TRUSTRELAY_CONFIG", "variable.toml"),
            file: "unknown = 1",
            says: ["flag.toml", "variable.toml", "trustrelay.toml:1"],
        },
    ] {
        let place = Place::new();
        place.write("blocked", "a file where a directory would have to be");
        place.write("trustrelay.toml", setting.file);
        // Where nothing is refused before, this is.
        let fallback = |name: &str| name != setting.variable.0;
        let run = |flags: &[&str], variable: bool| {
            let mut run = place.bare(&[&["serve"], flags].concat());
            if fallback("TRUSTRELAY_LISTEN") && !setting.file.starts_with("listen") {
                run = run.env("TRUSTRELAY_LISTEN", "127.0.0.1:0");
            }
            if variable {
                run = run.env(setting.variable.0, setting.variable.1);
            }
            run.done().refused()
        };
        let said = [run(setting.flag, true), run(&[], true), run(&[], false)];
        for (said, expected) in said.iter().zip(setting.says) {
            assert!(said.contains(expected), "{}: `{said}` has no `{expected}`", setting.variable.0);
        }
    }
}

#[test]
fn a_key_file_that_the_flag_names_wins_over_a_secret_in_the_environment() {
    let place = Place::with_account();
    let secret = place.bare(&["secret", "generate"]).done().good();
    let list = |args: &[&str]| {
        place.run(&[&["user", "list"], args].concat()).env("TRUSTRELAY_SECRET_KEY", &secret).done()
    };
    assert!(list(&[]).refused().contains("secret"), "the environment's is another one");
    let key = place.data().join("secret.key").display().to_string();
    list(&["--secret-key-file", &key]).good();
    let variable = place.run(&["user", "list"]).env("TRUSTRELAY_SECRET_KEY_FILE", &key);
    assert!(variable.env("TRUSTRELAY_SECRET_KEY", &secret).done().refused().contains("secret"));
}

#[test]
fn a_switch_reads_the_words_that_people_use() {
    let place = Place::new();
    let is_dev = |run: support::Run| {
        let server = Server::start(run.env("TRUSTRELAY_LISTEN", "127.0.0.1:0"));
        server.out().iter().any(|line| line.contains("Your token"))
    };
    for yes in ["1", "yes"] {
        assert!(is_dev(place.run(&["serve"]).env("TRUSTRELAY_DEV", yes)), "{yes}");
    }
    for no in ["0", "off"] {
        assert!(!is_dev(place.run(&["serve"]).env("TRUSTRELAY_DEV", no)), "{no}");
    }
    assert!(is_dev(place.run(&["serve", "--dev"]).env("TRUSTRELAY_DEV", "0")), "a flag wins");
    assert!(!is_dev(place.run(&["serve", "--dev=false"]).env("TRUSTRELAY_DEV", "1")), "a flag wins");
    place.write("trustrelay.toml", "dev = true\n");
    assert!(is_dev(place.run(&["serve"])));
    assert!(!is_dev(place.run(&["serve"]).env("TRUSTRELAY_DEV", "false")), "a variable wins over the file");
    let json = place.run(&["user", "list"]).env("TRUSTRELAY_JSON", "1").done().good();
    assert!(json.starts_with('['), "{json}");
    let admin = place.run(&["user", "add", "root@example.org"]).stdin(support::PASSWORD);
    admin.env("TRUSTRELAY_PASSWORD_STDIN", "1").env("TRUSTRELAY_ADMIN", "yes").done().good();
    assert!(place.run(&["user", "list"]).done().good().contains("root@example.org\tadmin"));
}

#[test]
fn a_command_takes_its_flags_from_the_environment_as_well() {
    let place = Place::with_account();
    let token = place
        .run(&["token", "create"])
        .env("TRUSTRELAY_USER", support::EMAIL)
        .env("TRUSTRELAY_NAME", "by-variable")
        .env("TRUSTRELAY_SCOPE", "api mcp")
        .env("TRUSTRELAY_EXPIRES_IN", "5d")
        .env("TRUSTRELAY_ALLOW_NETWORK", "127.0.0.0/8,10.0.0.0/8")
        .env("TRUSTRELAY_RATE", "60")
        .env("TRUSTRELAY_UNUSED_DAYS", "30")
        .done()
        .good();
    let list = place.run(&["token", "list"]).env("TRUSTRELAY_USER", support::EMAIL).done().good();
    assert!(list.contains("by-variable") && list.contains("mcp api"), "{list}");
    let list = place.run(&["token", "list", "--json", "--user", support::EMAIL]).done().good();
    for shown in
        ["127.0.0.0/8", "10.0.0.0/8", "\"requests_per_minute\": 60", "\"expires_if_unused_days\": 30"]
    {
        assert!(list.contains(shown), "{shown}: {list}");
    }
    let wrong = [
        "token",
        "create",
        "--user",
        support::EMAIL,
        "--name",
        "n",
        "--scope",
        "mcp",
        "--allow-network",
        "10.0.0.1/8",
    ];
    assert!(place.run(&wrong).done().refused().contains("use 10.0.0.0/8 for the range"));
    let server = place.serve(&[]);
    let check = |warn: &str| {
        let run = place.bare(&["token", "check"]).stdin(&token).env("TRUSTRELAY_SERVER", &server.base);
        run.env("TRUSTRELAY_WARN", warn).done().code
    };
    assert_eq!((check("4d"), check("6d")), (Some(0), Some(3)));
}
