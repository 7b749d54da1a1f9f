//! Stories of running it: set up, watch, read its logs, stop it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use reqwest::header::{ACCEPT, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Method, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Api, EMAIL, PASSWORD, PATIENCE, Place, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks whatever is behind an address, as nobody.
fn nobody(server: &Server) -> Api {
    server.api("")
}

async fn initialize(api: &Api) -> Response {
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        },
    });
    let request = api.request(Method::POST, "/mcp").header(ACCEPT, "application/json, text/event-stream");
    request.json(&body).send().await.expect("answers")
}

async fn submit(api: &Api, path: &str, fields: &[(&str, &str)]) -> Response {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = api.request(Method::POST, path).header("content-type", "application/x-www-form-urlencoded");
    request.body(body).send().await.expect("answers")
}

async fn login(api: &Api, email: &str, password: &str) -> Response {
    let body = json!({ "email": email, "password": password });
    api.request(Method::POST, "/api/auth/login").json(&body).send().await.expect("answers")
}

/// The cookie that an answer sets.
fn cookie(answer: &Response) -> String {
    let header = answer.headers().get(SET_COOKIE).expect("a cookie").to_str().expect("text");
    header.strip_prefix("session=").and_then(|rest| rest.split(';').next()).expect("a session").to_owned()
}

fn set_up_link(server: &Server) -> Option<String> {
    let lines = server.out();
    lines.iter().find_map(|line| Some(line.split_once("(this link works once): ")?.1.to_owned()))
}

fn secret_of(link: &str) -> &str {
    link.split_once("token=").expect("a secret").1
}

#[tokio::test]
async fn the_set_up_link_comes_without_accounts_only_and_works_once() {
    let place = Place::new();
    let first = place.serve(&[]);
    let old = set_up_link(&first).expect("printed");
    assert!(old.starts_with(&format!("{}/setup?token=", first.base)), "{old}");
    first.signal(Signal::TERM);
    assert_eq!(first.end().0, Some(0));

    let server = place.serve(&["--public-url", "https://relay.example.org"]);
    let link = set_up_link(&server).expect("printed again, for there is no account yet");
    let secret = link.strip_prefix("https://relay.example.org/setup?token=").expect("the public address");
    let anyone = nobody(&server);
    for wrong in [secret_of(&old), "guess", ""] {
        assert_eq!(anyone.get(&format!("/setup?token={wrong}")).await.status(), 404);
        let fields = [("token", wrong), ("email", EMAIL), ("password", PASSWORD)];
        assert_eq!(submit(&anyone, "/setup", &fields).await.status(), 404);
    }
    assert_eq!(anyone.get(&format!("/setup?token={secret}")).await.status(), 200);
    let short = [("token", secret), ("email", EMAIL), ("password", "short")];
    assert_eq!(submit(&anyone, "/setup", &short).await.status(), 400);
    let fields = [("token", secret), ("email", EMAIL), ("password", PASSWORD)];
    let made = submit(&anyone, "/setup", &fields).await;
    assert_eq!(
        (made.status().as_u16(), &made.headers()[LOCATION]),
        (303, &"/settings/developer".parse().expect("ok"))
    );
    assert_eq!(anyone.get(&format!("/setup?token={secret}")).await.status(), 404, "it worked once");
    let again = [("token", secret), ("email", "eve@example.org"), ("password", PASSWORD)];
    assert_eq!(submit(&anyone, "/setup", &again).await.status(), 404);
    assert_eq!(place.run(&["user", "list"]).done().good(), format!("{EMAIL}\tadmin\tactive\n"));
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));
    assert_eq!(set_up_link(&place.serve(&[])), None, "there is an account");
}

/// What `serve --dev` prints: the token, the password, and the configuration to paste.
fn printed(server: &Server) -> (String, String, Value) {
    let out = server.out().join("\n");
    let after = |label: &str| {
        let line =
            out.lines().find_map(|line| line.split_once(label)).unwrap_or_else(|| panic!("{label}: {out}"));
        line.1.trim().to_owned()
    };
    let json = &out[out.find("\n{").expect("a configuration")..=out.rfind("}\n").expect("its end")];
    (after("Your token"), after("with password"), serde_json::from_str(json).expect("JSON"))
}

#[tokio::test]
async fn dev_prints_what_works_when_pasted() {
    let place = Place::new();
    let server = place.serve(&["--dev"]);
    let (token, password, config) = printed(&server);
    assert_eq!(set_up_link(&server), None);
    let entry = &config["mcpServers"]["trustrelay"];
    assert_eq!(entry["url"], format!("{}/mcp", server.base));
    assert_eq!(entry["headers"]["Authorization"], format!("Bearer {token}"));
    let api = server.api(&token);
    let answer = initialize(&api).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.expect("text").contains("serverInfo"));
    let (status, body) = api.whoami().await;
    assert_eq!((status, &body["value"]["user"]["email"]), (200, &json!("dev@localhost")));
    assert_eq!(body["value"]["credential"]["pat_scope"], "mcp api");
    assert_eq!(login(&nobody(&server), "dev@localhost", &password).await.status(), 200);
    let out = server.out().join("\n");
    let command = format!(
        "claude mcp add --transport http trustrelay {}/mcp --header \"Authorization: Bearer {token}\"",
        server.base
    );
    assert!(out.contains(&command), "{out}");
    assert!(
        out.contains(&format!("curl -H \"Authorization: Bearer {token}\" {}/api/user", server.base)),
        "{out}"
    );
}

/// A client that was configured once goes on working.
#[tokio::test]
async fn dev_keeps_its_token_and_its_password_over_restarts() {
    let place = Place::new();
    let start = || place.serve(&["--dev"]);
    let stop = |server: Server| {
        server.signal(Signal::TERM);
        assert_eq!(server.end().0, Some(0));
    };
    let tokens = || {
        let list = place.run(&["token", "list", "--user", "dev@localhost", "--json"]).done().good();
        serde_json::from_str::<Value>(&list).expect("JSON").as_array().expect("a list").clone()
    };
    let server = start();
    let (token, password, _) = printed(&server);
    stop(server);
    let server = start();
    let (again, same, _) = printed(&server);
    assert!(again == token && same == password, "another one at the second start");
    assert_eq!(server.api(&token).whoami().await.0, 200);
    assert_eq!(login(&nobody(&server), "dev@localhost", &password).await.status(), 200);
    let made = tokens();
    assert_eq!(made.len(), 1);

    // One that was revoked does not come back: another takes its place, and keeps it.
    place.run(&["token", "revoke", made[0]["pat_id"].as_str().expect("an id")]).done().good();
    stop(server);
    let server = start();
    let (next, ..) = printed(&server);
    assert_eq!((server.api(&token).whoami().await.0, server.api(&next).whoami().await.0), (401, 200));
    stop(server);
    let server = start();
    assert!(printed(&server).0 == next, "yet another one");
    assert_eq!(tokens().len(), 1, "those that are good");

    // A password of the person's own stays, and is not printed.
    let own = "chosen by a person";
    let reset = ["user", "set-password", "dev@localhost", "--password-stdin"];
    place.run(&reset).stdin(own).done().good();
    stop(server);
    let server = start();
    let out = server.out().join("\n");
    assert!(out.contains("as dev@localhost with your own password") && !out.contains(own), "{out}");
    assert_eq!(login(&nobody(&server), "dev@localhost", own).await.status(), 200);
    assert_eq!(login(&nobody(&server), "dev@localhost", &password).await.status(), 401);
}

/// A forgotten password is no end of an account: whoever has the machine sets another one.
#[tokio::test]
async fn a_forgotten_password_is_set_by_the_operator() {
    let place = Place::with_account();
    let server = place.serve(&[]);
    let token = place.token("api");
    let chosen = "correct horse battery staple";
    let anyone = nobody(&server);
    let session = cookie(&login(&anyone, EMAIL, PASSWORD).await);
    let signed_in = async || {
        let request = anyone.request(Method::GET, "/api/user").header(COOKIE, format!("session={session}"));
        request.send().await.expect("answers").status()
    };
    assert_eq!(signed_in().await, 200);
    let args = ["user", "set-password", &EMAIL.to_uppercase(), "--password-stdin"];
    let says = place.run(&args).stdin(&format!("{chosen}\n")).done().good();
    assert!(says.contains("signed out of all browsers") && !says.contains(chosen), "{says}");
    assert_eq!(signed_in().await, 401, "sessions from before end");
    assert_eq!(login(&anyone, EMAIL, PASSWORD).await.status(), 401);
    assert_eq!(login(&anyone, EMAIL, chosen).await.status(), 200);
    assert_eq!(server.api(&token.token).whoami().await.0, 200, "tokens stay");
    let log = place.run(&["audit", "export"]).done().good();
    assert!(log.contains("account.password_changed"), "{log}");
}

#[tokio::test]
async fn those_who_watch_it_are_answered() {
    let place = Place::with_account();
    let server = place.serve(&[]);
    let made = place.token("api");
    server.api(&made.token).whoami().await;
    let anyone = nobody(&server);
    for path in ["/healthz", "/readyz"] {
        let answer = anyone.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.headers().contains_key("x-request-id"));
    }
    let answer = anyone.get("/metrics").await;
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.expect("text");
    assert!(text.lines().any(|line| line == "trustrelay_index_entries 1"), "{text}");
    assert!(text.lines().any(|line| line == "trustrelay_lease_held 1"), "{text}");
    assert!(!text.contains("tr_pat_") && !text.contains(EMAIL));
}

/// The operators' own address, which is printed before the server listens.
fn ops_address(server: &Server) -> String {
    let lines = server.out();
    let address =
        |line: &String| Some(line.strip_prefix("metrics on http://")?.strip_suffix("/metrics")?.to_owned());
    lines.iter().find_map(address).unwrap_or_else(|| panic!("not printed: {lines:?}"))
}

#[tokio::test]
async fn with_an_address_for_operators_nobody_else_gets_metrics() {
    let place = Place::with_account();
    let token = place.token("mcp").token;
    let upstream = "secret-project=http://127.0.0.1:9/mcp";
    let server = place.serve(&["--ops-listen", "127.0.0.1:0", "--upstream", upstream, "--drain", "30s"]);
    let ops = ops_address(&server);
    let client = reqwest::Client::builder().timeout(PATIENCE).build().expect("builds");
    let at_ops = async |path: &str| {
        let answer = client.get(format!("http://{ops}{path}")).send().await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    // Nothing answers as the upstream. The call is counted, under the upstream's name.
    let api = server.api(&token);
    let session = initialize(&api).await.headers()["mcp-session-id"].clone();
    let params = json!({ "name": "secret-project__search", "arguments": {} });
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params });
    let request = api.request(Method::POST, "/mcp").header("mcp-session-id", session).json(&call);
    request.header(ACCEPT, "application/json, text/event-stream").send().await.expect("answers");
    let (status, text) = at_ops("/metrics").await;
    assert!(status == 200 && text.contains("secret-project"), "{text}");
    let answer = nobody(&server).get("/metrics").await;
    assert_eq!(answer.status(), 404);
    assert!(!answer.text().await.expect("text").contains("secret-project"));
    for path in ["/healthz", "/readyz"] {
        assert_eq!((at_ops(path).await.0, nobody(&server).get(path).await.status().as_u16()), (200, 200));
    }
    assert_eq!(at_ops("/api/user").await.0, 404);

    // It drains as the other one does: it is served to the end, and each answer is the last on its
    // connection.
    let mut kept = TcpStream::connect(&ops).await.expect("connects");
    assert!(!asked(&mut kept).await.contains("connection: close"));
    server.signal(Signal::TERM);
    let patience = std::time::Instant::now() + PATIENCE;
    while at_ops("/readyz").await.0 != 503 {
        assert!(std::time::Instant::now() < patience, "it goes on being ready");
    }
    let answer = asked(&mut kept).await;
    assert!(answer.starts_with("http/1.1 200") && answer.contains("connection: close"), "{answer}");
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));
    TcpStream::connect(&ops).await.expect_err("nobody listens");
}

#[tokio::test]
async fn a_request_in_flight_ends_well_when_the_server_is_told_to_stop() {
    let place = Place::with_account();
    let root = place.token("api tokens");
    let server = place.serve(&[]);
    let address = server.base.strip_prefix("http://").expect("an address").to_owned();
    let body = json!({ "pat_name": "last", "pat_scope": "api" }).to_string();
    let (front, back) = body.split_at(10);
    let head = format!(
        "POST /api/user/personal-access-tokens HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        root.token,
        body.len()
    );
    let mut stream = TcpStream::connect(&address).await.expect("connects");
    stream.write_all(head.as_bytes()).await.expect("sent");
    // The answer to `Expect` comes when the handler asks for the body: now the request is in
    // flight.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.expect("answers");
    assert!(go_on.starts_with(b"HTTP/1.1 100 "), "{:?}", String::from_utf8_lossy(&go_on));
    stream.write_all(front.as_bytes()).await.expect("sent");

    server.signal(Signal::TERM);
    let refuses = async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refuses).await.expect("it takes nothing new");

    stream.write_all(back.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, read).await.expect("it closes").expect("reads");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let value: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    let token = value["value"]["pat_token"].as_str().expect("a token");
    let (code, _, err) = server.end();
    assert_eq!(code, Some(0), "{err:?}");
    assert!(err.last().expect("logs").contains("\"stopped\""), "{err:?}");
    assert_eq!(place.serve(&[]).api(token).whoami().await.0, 200);
}

#[tokio::test]
async fn the_last_uses_are_written_down_at_the_end() {
    let place = Place::with_account();
    let made = place.token("api");
    let server = place.serve(&[]);
    assert_eq!(server.api(&made.token).whoami().await.0, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));
    let list = place.run(&["token", "list", "--user", EMAIL, "--json"]).done().good();
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert!(list[0]["last_used_at"].is_string(), "{list}");
}

/// Asks on a connection whether the process answers; the answer.
async fn asked(connection: &mut TcpStream) -> String {
    connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n").await.expect("sent");
    let mut text = Vec::new();
    while !text.ends_with(b"}") {
        assert!(connection.read_buf(&mut text).await.expect("reads") > 0, "it ended");
    }
    String::from_utf8_lossy(&text).to_ascii_lowercase()
}

#[tokio::test]
async fn while_it_drains_each_answer_is_the_last_on_its_connection() {
    let place = Place::with_account();
    let server = place.serve(&["--drain", "30s"]);
    let address = server.base.strip_prefix("http://").expect("an address");
    let mut kept = TcpStream::connect(address).await.expect("connects");
    for _ in 0..2 {
        let answer = asked(&mut kept).await;
        assert!(answer.starts_with("http/1.1 200") && !answer.contains("connection: close"), "{answer}");
    }
    let mut silent = TcpStream::connect(address).await.expect("connects");
    server.signal(Signal::TERM);
    let patience = std::time::Instant::now() + PATIENCE;
    while nobody(&server).get("/readyz").await.status() != 503 {
        assert!(std::time::Instant::now() < patience, "it goes on being ready");
    }
    for connection in [&mut kept, &mut silent] {
        let answer = asked(connection).await;
        assert!(answer.starts_with("http/1.1 200") && answer.contains("connection: close"), "{answer}");
        assert_eq!(connection.read(&mut [0]).await.expect("it ends"), 0);
    }
    // Who says it twice does not want to wait.
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));
}

#[tokio::test]
async fn an_open_stream_and_an_idle_connection_do_not_hold_the_end_up() {
    let place = Place::with_account();
    let made = place.token("mcp");
    let server = place.serve(&[]);
    let api = server.api(&made.token);
    let answer = initialize(&api).await;
    let session = answer.headers()["mcp-session-id"].clone();
    answer.text().await.expect("whole");
    let mut stream = api
        .request(Method::GET, "/mcp")
        .header(ACCEPT, "text/event-stream")
        .header("mcp-session-id", session)
        .timeout(PATIENCE)
        .send()
        .await
        .expect("opens");
    assert_eq!(stream.status(), 200);
    // Nor does who has said nothing, or not yet which version it speaks.
    let address = server.base.strip_prefix("http://").expect("an address");
    let _silent = TcpStream::connect(address).await.expect("connects");
    let mut begun = TcpStream::connect(address).await.expect("connects");
    begun.write_all(b"PRI *").await.expect("sent");
    assert_eq!(api.whoami().await.0, 200);
    server.signal(Signal::INT);
    let ends = async { while let Ok(Some(_)) = stream.chunk().await {} };
    // Ten seconds are what a request that does not end may take.
    tokio::time::timeout(Duration::from_secs(8), ends).await.expect("the stream ends");
    let (code, _, err) = server.end();
    assert_eq!(code, Some(0));
    assert!(!err.iter().any(|line| line.contains("cut off")), "{err:?}");
}

#[tokio::test]
async fn logs_are_json_with_a_request_id_and_hold_no_secret() {
    let place = Place::new();
    let server = Server::start(place.run(&["serve", "--listen", "127.0.0.1:0", "--log", "debug"]));
    let link = set_up_link(&server).expect("printed");
    let setup = secret_of(&link).to_owned();
    let anyone = nobody(&server);
    let wrong_password = "a wrong long password";
    anyone.get(&format!("/setup?token={setup}")).await;
    anyone.get(&format!("/setup/{setup}")).await;
    let made =
        submit(&anyone, "/setup", &[("token", &setup), ("email", EMAIL), ("password", PASSWORD)]).await;
    let first_cookie = cookie(&made);
    // Failing ways in: a wrong password, a password in the place of the address, a broken body, a
    // wrong path.
    assert_eq!(login(&anyone, EMAIL, wrong_password).await.status(), 401);
    login(&anyone, PASSWORD, wrong_password).await;
    let broken = format!("{{\"email\": \"{EMAIL}\", \"password\": \"{PASSWORD}\"");
    let request = anyone.request(Method::POST, "/api/auth/login").header("content-type", "application/json");
    assert_eq!(request.body(broken).send().await.expect("answers").status(), 400);
    submit(&anyone, "/login", &[("email", EMAIL), ("password", wrong_password)]).await;
    let signed_in = login(&anyone, EMAIL, PASSWORD).await;
    assert_eq!(signed_in.status(), 200);
    let second_cookie = cookie(&signed_in);
    let body = json!({ "pat_name": "n", "pat_scope": "mcp api tokens" });
    let request = anyone.request(Method::POST, "/api/user/personal-access-tokens").json(&body);
    let answer = request.header(COOKIE, format!("session={second_cookie}")).send().await.expect("answers");
    assert_eq!(answer.status(), 201);
    let id = answer.headers()["x-request-id"].to_str().expect("text").to_owned();
    let value: Value = answer.json().await.expect("JSON");
    let token = value["value"]["pat_token"].as_str().expect("a token").to_owned();
    let pat_id = value["value"]["pat_id"].as_str().expect("an id").to_owned();
    // The token in its place, and in all the wrong ones.
    let api = server.api(&token);
    assert_eq!(api.whoami().await.0, 200);
    assert_eq!(initialize(&api).await.status(), 200);
    for path in [
        format!("/api/user?access_token={token}"),
        format!("/api/user/personal-access-tokens/{token}"),
        format!("/{token}"),
        format!("/mcp/{token}"),
        format!("/api/user/personal-access-tokens/%74r_pat_{}", &token[7..]),
    ] {
        anyone.get(&path).await;
        api.get(&path).await;
    }
    let mistyped = format!("{}{}", &token[..44], if token.ends_with('0') { "1" } else { "0" });
    assert_eq!(server.api(&mistyped).whoami().await.0, 401);
    login(&anyone, &token, &token).await;
    api.revoke(&pat_id).await.expect("revoked");
    assert_eq!(api.whoami().await.0, 401);
    server.signal(Signal::TERM);
    let (code, out, err) = server.end();
    assert_eq!(code, Some(0));

    assert!(err.len() > 20, "it logs: {err:?}");
    for line in &err {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        if line["message"] == "answered" {
            assert!(line["span"]["id"].is_string(), "no request id: {line}");
        }
    }
    assert!(
        err.iter().any(|line| line.contains(&id) && line.contains("answered")),
        "the id of an answer is found"
    );
    let printed: Vec<_> = out.into_iter().filter(|line| !line.contains("this link works once")).collect();
    assert_eq!(printed.len(), 1, "{printed:?}");
    let all = [err, printed].concat().join("\n");
    for secret in [
        &setup,
        PASSWORD,
        wrong_password,
        &first_cookie,
        &second_cookie,
        &token,
        &token[7..39],
        &mistyped[7..39],
        "argon2",
    ] {
        assert!(!all.contains(secret), "a secret is in the logs: {secret}");
    }
}
