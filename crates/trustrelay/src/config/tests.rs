use trustrelay_web::ProxyHeader;

use super::*;

fn parse(text: &str) -> anyhow::Result<File> {
    parse_file(text, Path::new("t.toml"))
}

fn serve() -> Serve {
    Serve {
        listen: None,
        ops_listen: None,
        public_url: None,
        trusted_proxy: vec![],
        trusted_proxy_header: None,
        github_keys: None,
        upstream: vec![],
        smtp_url: None,
        mail_from: None,
        webhook_private_networks: None,
        node_url: None,
        lease: None,
        drain: None,
        audit_retention: None,
        otlp_endpoint: None,
        log: None,
        dev: None,
    }
}

#[test]
fn a_mistyped_key_is_named_with_its_line_and_no_value() {
    let error = parse("listen = \"127.0.0.1:1\"\nlissten = \"s3cret\"\n").expect_err("unknown").to_string();
    assert!(error.starts_with("t.toml:2: at `lissten`:"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    let error = parse("\nlisten = 5\n").expect_err("wrong type").to_string();
    assert!(error.starts_with("t.toml:2: at `listen`:"), "{error}");
}

#[test]
fn no_value_of_the_file_is_repeated() {
    for (text, says) in [
        ("[upstreams.a]\nheaders = \"s3cret\"\n", "t.toml:2: at `headers`:"),
        ("[upstreams.a]\nurl = 5\nheaders = \"s3cret, expected\"\n", "t.toml:"),
        ("listen = \"s3cret\"\n", "t.toml:1: at `listen`:"),
        ("lease = s3cret\n", "t.toml:1: at `lease`:"),
        ("\"s3cret\"\n", "t.toml:1:"),
        ("s3cret\n", "t.toml:1:"),
        ("[upstreams.a\nurl = \"http://s3cret/\"\n", "t.toml:1:"),
        ("[upstreams.a]\ncommand = [\"x\", 5, \"s3cret\"]\n", "t.toml:2: at `command`:"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.starts_with(says), "{error}");
        assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_flag_wins_over_the_file() {
    let file =
        parse("listen = \"127.0.0.1:1\"\n[upstreams.a]\nurl = \"http://127.0.0.1:1/\"\n").expect("good");
    let flags = Serve {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 2))),
        upstream: vec!["a=http://127.0.0.1:3/mcp".into(), "b=http://127.0.0.1:4/mcp".into()],
        ..serve()
    };
    let config = serve_config(&flags, file).expect("good");
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.upstreams.len(), 2);
    let UpstreamTransport::Http { url, .. } = &config.upstreams[0].transport else { panic!("a URL") };
    assert_eq!(url.port(), Some(3));
}

#[test]
fn a_broken_upstream_is_named() {
    for (text, says) in [
        ("github", "no `=`"),
        ("Git=http://x/", "a valid upstream name"),
        ("a_b=http://x/", "a valid upstream name"),
        ("a=http://", "not a valid URL"),
        ("a=ftp://ada:s3cret@x/", "http:// or https://"),
        ("a=${TRUSTRELAY_TEST_NOT_SET}", "TRUSTRELAY_TEST_NOT_SET"),
    ] {
        let flags = Serve { upstream: vec![text.into()], ..serve() };
        let error = format!("{:#}", serve_config(&flags, File::default()).expect_err(text));
        assert!(error.contains(says) && !error.contains("s3cret"), "{error}");
    }
    let file = parse("[upstreams.a]\nurl = \"http://x/\"\ncommand = \"y\"\n").expect("parses");
    let error = format!("{:#}", serve_config(&serve(), file).expect_err("both"));
    assert!(error.contains("upstreams.a") && error.contains("both"), "{error}");
}

#[test]
fn a_collector_is_an_address_and_nothing_else() {
    for (endpoint, is_good) in [
        ("http://127.0.0.1:4318", true),
        ("https://collector.example.org/otlp/", true),
        ("grpc://127.0.0.1:4317", false),
        ("https://user:s3cret@collector.example.org", false),
        ("https://collector.example.org/?key=s3cret", false),
        ("https://collector.example.org/#s3cret", false),
    ] {
        let file = parse(&format!("otlp-endpoint = \"{endpoint}\"")).expect("parses");
        match serve_config(&serve(), file) {
            Ok(config) => assert!(is_good && config.otlp_endpoint.is_some(), "{endpoint}"),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    !is_good && error.contains("--otlp-endpoint") && !error.contains("s3cret"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_duration_out_of_bounds_is_refused_by_its_name() {
    for (key, wrong) in [("lease", "1ms"), ("lease", "2h"), ("lease", "soon"), ("drain", "2h")] {
        let file = parse(&format!("{key} = \"{wrong}\"")).expect("parses");
        let error = serve_config(&serve(), file).expect_err(wrong).to_string();
        assert!(error.contains(key), "{error}");
    }
    let file = parse("lease = \"3s\"\ndrain = \"4s\"").expect("parses");
    let config = serve_config(&serve(), file).expect("good");
    assert_eq!((config.lease.as_secs(), config.drain.as_secs()), (3, 4));
}

#[test]
fn an_address_of_the_node_is_a_host_and_nothing_else() {
    for (url, is_good) in [
        ("http://10.0.0.5:8080", true),
        ("https://a.relay.example.org", true),
        ("http://10.0.0.5:8080/mcp", false),
        ("http://ada:s3cret@10.0.0.5:8080", false),
        ("postgres://10.0.0.5", false),
    ] {
        let file = parse(&format!("node-url = \"{url}\"")).expect("parses");
        match serve_config(&serve(), file) {
            Ok(config) => assert!(is_good && config.node_url.is_some(), "{url}"),
            Err(error) => {
                let error = error.to_string();
                let named = error.contains("--node-url") && !error.contains("s3cret");
                assert!(!is_good && named, "{url}: {error}");
            }
        }
    }
}

#[test]
fn a_trusted_proxy_is_a_network_and_a_flag_replaces_those_of_the_file() {
    let text = "trusted-proxy = [\"10.0.0.0/8\", \"2001:db8::1\"]\ntrusted-proxy-header = \"forwarded\"";
    let config = serve_config(&serve(), parse(text).expect("parses")).expect("good");
    let networks: Vec<_> = config.proxies.networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "2001:db8::1/128"]);
    assert_eq!(config.proxies.header, ProxyHeader::Forwarded);

    let flags = Serve { trusted_proxy: vec!["192.0.2.1".into()], ..serve() };
    let config = serve_config(&flags, parse(text).expect("parses")).expect("good");
    let networks: Vec<_> = config.proxies.networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["192.0.2.1/32"]);

    let config = serve_config(&serve(), File::default()).expect("good");
    assert!(config.proxies.networks.is_empty(), "nobody is believed unless it is said");
    assert_eq!(config.proxies.header, ProxyHeader::XForwardedFor);
}

#[test]
fn proxies_that_are_not_set_up_well_are_refused_by_their_key() {
    for (text, key, says) in [
        ("trusted-proxy = [\"10.1.2.3/8\"]", "`trusted-proxy`", "use 10.0.0.0/8 for the range"),
        ("trusted-proxy = [\"s3cret\"]", "`trusted-proxy`", "is not an IP range"),
        ("trusted-proxy = [\"0.0.0.0/0\"]", "`trusted-proxy`", "every address"),
        ("trusted-proxy = [\"::/0\"]", "`trusted-proxy`", "every address"),
        (
            "trusted-proxy = [\"10.0.0.0/8\"]\ntrusted-proxy-header = \"s3cret\"",
            "`trusted-proxy-header`",
            "x-forwarded-for or forwarded",
        ),
        ("trusted-proxy-header = \"forwarded\"", "--trusted-proxy-header", "add --trusted-proxy"),
    ] {
        let error = serve_config(&serve(), parse(text).expect(text)).expect_err(text).to_string();
        assert!(error.contains(key) && error.contains(says) && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn mail_takes_a_server_and_a_sender_and_repeats_no_password() {
    let file = parse(
        "smtp-url = \"smtps://ada:s3cret@mail.example.org\"\nmail-from = \"relay@example.org\"\nwebhook-private-networks = true",
    );
    let config = serve_config(&serve(), file.expect("parses")).expect("good");
    assert!(config.mailer.is_some() && config.webhook_private_networks);
    assert!(!format!("{config:?}").contains("s3cret"));
    let config = serve_config(&serve(), File::default()).expect("good");
    assert!(config.mailer.is_none() && !config.webhook_private_networks);
    for (text, says) in [
        ("smtp-url = \"smtp://u:s3cret@h\"", "--mail-from"),
        ("mail-from = \"relay@example.org\"", "--smtp-url"),
        ("smtp-url = \"http://u:s3cret@h\"\nmail-from = \"relay@example.org\"", "--smtp-url: the SMTP URL"),
        ("smtp-url = \"smtp://h\"\nmail-from = \"relay\"", "--mail-from: `relay`"),
    ] {
        let error = serve_config(&serve(), parse(text).expect("parses")).expect_err(text).to_string();
        assert!(error.contains(says) && !error.contains("s3cret"), "{text}: {error}");
    }
}

#[test]
fn the_address_for_operators_is_another_one_and_private_while_trying_out() {
    for (text, is_good) in [
        ("ops-listen = \"127.0.0.1:9100\"", true),
        ("listen = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"", true),
        ("ops-listen = \"0.0.0.0:9100\"", true),
        ("listen = \"127.0.0.1:9100\"\nops-listen = \"127.0.0.1:9100\"", false),
        ("dev = true\nops-listen = \"127.0.0.1:9100\"", true),
        ("dev = true\nops-listen = \"0.0.0.0:9100\"", false),
    ] {
        match serve_config(&serve(), parse(text).expect("parses")) {
            Ok(config) => assert!(is_good && config.ops_listen.is_some(), "{text}"),
            Err(error) => assert!(!is_good && error.to_string().contains("--ops-listen"), "{text}: {error}"),
        }
    }
}
