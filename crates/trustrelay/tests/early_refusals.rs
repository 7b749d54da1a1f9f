//! Stories of requests that are refused before their body has come: the client learns whether the
//! connection goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use support::{PATIENCE, Place, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const JSON: &str = "content-type: application/json\r\n";
const TEXT: &str = "content-type: text/plain\r\n";
const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

/// Requests that are refused by their heads, at each door.
const REFUSED: [(&str, &str, u16); 13] = [
    ("POST /mcp", JSON, 401),
    ("POST /api/mcp", JSON, 401),
    ("POST /mcp/github", JSON, 401),
    ("DELETE /mcp", "", 401),
    ("POST /api/user/personal-access-tokens", JSON, 401),
    ("PATCH /api/admin/users/0197f4a2-7e1c-7c4e-9a53-1f0e6a1b2c3d", JSON, 401),
    ("POST /api/auth/login", TEXT, 415),
    ("POST /api/revoke", TEXT, 415),
    ("POST /login", TEXT, 415),
    ("POST /settings/developer", FORM, 303),
    ("POST /api/auth/login", "content-type: application/json\r\nsec-fetch-site: cross-site\r\n", 403),
    ("PUT /api/user", JSON, 405),
    ("POST /nowhere", JSON, 404),
];

async fn connect(server: &Server) -> TcpStream {
    let address = server.base.strip_prefix("http://").expect("an address");
    TcpStream::connect(address).await.expect("connects")
}

/// Sends this in one piece; the head of the answer, in lower case, once all of the answer has come.
async fn answer(connection: &mut TcpStream, request: &str) -> String {
    let answered = async {
        connection.write_all(request.as_bytes()).await.expect("sent");
        let mut text = Vec::new();
        loop {
            let read = String::from_utf8_lossy(&text).to_ascii_lowercase();
            if let Some((head, body)) = read.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
                if body.len() >= length {
                    return head.to_owned();
                }
            }
            let read = connection.read_buf(&mut text).await.expect("reads");
            assert!(read > 0, "it ended after {:?}", String::from_utf8_lossy(&text));
        }
    };
    timeout(PATIENCE, answered).await.expect("it answers")
}

fn head(line: &str, headers: &str, body: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: relay\r\n{headers}{body}\r\n\r\n")
}

/// It is not ended for being idle, and goes on with another request.
async fn goes_on(mut connection: TcpStream) -> bool {
    let answer = answer(&mut connection, &head("GET /healthz", "", "accept: */*")).await;
    answer.starts_with("http/1.1 200") && !answer.contains("connection: close")
}

#[tokio::test]
async fn a_refusal_before_the_body_has_come_says_that_the_connection_closes() {
    let place = Place::with_account();
    let server = place.serve(&["--upstream", "github=http://127.0.0.1:9/mcp"]);
    for (line, headers, status) in REFUSED {
        for (body, begun) in [
            ("content-length: 1000", ""),
            ("content-length: 1000", "{\"begun\":"),
            ("transfer-encoding: chunked", ""),
            ("transfer-encoding: chunked", "4\r\n{\"a\"\r\n"),
            ("content-length: 1000\r\nexpect: 100-continue", ""),
        ] {
            let what = format!("{line} {headers:?} {body:?} {begun:?}");
            let mut connection = connect(&server).await;
            let answer = answer(&mut connection, &(head(line, headers, body) + begun)).await;
            assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{what}: {answer}");
            assert!(answer.contains("\r\nconnection: close"), "{what}: {answer}");
            let ended = timeout(PATIENCE, connection.read(&mut [0])).await.expect("it ends");
            // What the client had sent and nobody has read resets the connection.
            assert!(ended.is_err() || ended.is_ok_and(|read| read == 0), "{what}: more was said");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_the_connection() {
    let place = Place::with_account();
    let token = place.token("api tokens").token;
    let server = place.serve(&[]);
    let mut connection = connect(&server).await;
    let headers = format!("{JSON}authorization: Bearer {token}\r\n");
    let request = head("POST /api/user/personal-access-tokens", &headers, "content-length: 1000000");
    let answer = answer(&mut connection, &(request + &" ".repeat(70_000))).await;
    assert!(answer.starts_with("http/1.1 413 ") && answer.contains("\r\nconnection: close"), "{answer}");
}

#[tokio::test]
async fn a_refusal_of_a_request_without_a_body_leaves_the_connection() {
    let place = Place::with_account();
    let server = place.serve(&["--upstream", "github=http://127.0.0.1:9/mcp"]);
    for (line, headers, status) in REFUSED {
        let mut connection = connect(&server).await;
        for _ in 0..2 {
            let answer = answer(&mut connection, &head(line, headers, "content-length: 0")).await;
            assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{line}: {answer}");
            assert!(!answer.contains("connection: close"), "{line}: {answer}");
        }
        assert!(goes_on(connection).await, "{line}");
    }
}

/// Clients send head and body in one piece, as a rule: they need not connect anew.
#[tokio::test]
async fn a_refusal_leaves_the_connection_where_the_whole_body_has_come_too() {
    let place = Place::with_account();
    let server = place.serve(&["--upstream", "github=http://127.0.0.1:9/mcp"]);
    let known = (format!("content-length: {}", 1000), " ".repeat(1000));
    let chunked = ("transfer-encoding: chunked".to_owned(), "2\r\n{}\r\n1\r\n \r\n0\r\n\r\n".to_owned());
    for (line, headers, status) in REFUSED {
        for (body, content) in [&known, &chunked] {
            let mut connection = connect(&server).await;
            for _ in 0..2 {
                let answer = answer(&mut connection, &(head(line, headers, body) + content)).await;
                assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{line} {body}: {answer}");
                assert!(!answer.contains("connection: close"), "{line} {body}: {answer}");
            }
            assert!(goes_on(connection).await, "{line} {body}");
        }
    }
}
