//! Request bodies that nobody has read when the answer is there.
//!
//! What is refused is refused before its body is read. On HTTP/1.1 the next request comes after
//! that body, so the connection goes on only if the body can be passed over at once; else it ends
//! with the answer, and the answer has to say so (RFC 9112 §9.3, §9.6): a client would send its
//! next request into a connection that is gone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use parking_lot::Mutex;

/// Most bytes of an unread body that are passed over, for the connection to go on.
const MAX_PASSED_OVER: usize = 64 << 10;
/// How often the connection is looked at for more of it. What has come already is there at once.
const LOOKS: usize = 4;

/// A request's body, which comes back when it is dropped before its end.
pub(crate) struct Lent {
    body: Option<Incoming>,
    back: Arc<Mutex<Option<Incoming>>>,
}

/// The way back of a body that was lent.
pub(crate) struct Back {
    body: Arc<Mutex<Option<Incoming>>>,
    /// The client sends the body when it is asked to: nobody asks for what is only passed over.
    is_asked_for: bool,
}

impl Lent {
    pub(crate) fn new(headers: &HeaderMap, body: Incoming) -> (Self, Back) {
        let back = Arc::default();
        let is_asked_for = headers.contains_key(EXPECT);
        (Self { body: Some(body), back: Arc::clone(&back) }, Back { body: back, is_asked_for })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.back.lock() = self.body.take().filter(|body| !body.is_end_stream());
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Back {
    /// Passes over what is left of the body and has come. `false` if the connection cannot go on
    /// behind it.
    pub(crate) async fn pass_over(self) -> bool {
        let Some(mut body) = self.body.lock().take() else { return true };
        if self.is_asked_for {
            return false;
        }
        let rest = async {
            let mut passed = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                passed += frame.data_ref().map_or(0, Bytes::len);
                if passed > MAX_PASSED_OVER {
                    return false;
                }
            }
            true
        };
        let looks = async {
            for _ in 0..LOOKS {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            is_over = rest => is_over,
            () = looks => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::routing::post;
    use http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_util::sync::CancellationToken;

    use crate::connection::{Begun, Server};

    /// A client of a server that refuses without reading at `/refused`, and reads at `/read`.
    fn connected() -> DuplexStream {
        let (client, io) = tokio::io::duplex(1 << 20);
        let router = Router::new()
            .route("/refused", post(|| async { (StatusCode::UNAUTHORIZED, "refused") }))
            .route("/read", post(|body: String| async move { format!("read {}", body.len()) }));
        let server = Server::new(router, CancellationToken::new());
        tokio::spawn(async move {
            if let Ok(Some(begun)) = Begun::wait(io).await {
                let _ = server.serve(begun, SocketAddr::from(([127, 0, 0, 1], 1))).0.await;
            }
        });
        client
    }

    fn head(path: &str, more: &str) -> String {
        format!("POST {path} HTTP/1.1\r\nhost: relay.example\r\n{more}\r\n")
    }

    /// The answers, each by its status and whether it says that the connection ends; and whether it
    /// has.
    async fn answers(client: &mut DuplexStream, last: &str) -> (String, bool) {
        let mut text = Vec::new();
        let ended = loop {
            if String::from_utf8_lossy(&text).ends_with(last) {
                break false;
            }
            if client.read_buf(&mut text).await.unwrap() == 0 {
                break true;
            }
        };
        (String::from_utf8_lossy(&text).to_ascii_lowercase(), ended)
    }

    #[tokio::test]
    async fn an_answer_before_the_body_says_that_the_connection_ends() {
        for more in ["content-length: 1000\r\n", "transfer-encoding: chunked\r\n"] {
            for begun in ["", "1"] {
                let mut client = connected();
                client.write_all((head("/refused", more) + begun).as_bytes()).await.unwrap();
                let (text, ended) = answers(&mut client, "never").await;
                assert!(text.starts_with("http/1.1 401") && ended, "{more}{begun}: {text}");
                assert!(text.contains("connection: close"), "{more}{begun}: {text}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_is_not_asked_for_is_not_waited_for() {
        let mut client = connected();
        let more = "content-length: 5\r\nexpect: 100-continue\r\n";
        client.write_all(head("/refused", more).as_bytes()).await.unwrap();
        let (text, ended) = answers(&mut client, "never").await;
        assert!(text.starts_with("http/1.1 401") && text.contains("connection: close") && ended, "{text}");
    }

    #[tokio::test]
    async fn what_has_come_pass_over_and_the_connection_goes_on() {
        for (more, body) in [
            ("", String::new()),
            ("content-length: 5\r\n", "12345".to_owned()),
            ("content-length: 30000\r\n", "x".repeat(30_000)),
            ("transfer-encoding: chunked\r\n", "5\r\n12345\r\n0\r\n\r\n".to_owned()),
        ] {
            let mut client = connected();
            for _ in 0..3 {
                client.write_all((head("/refused", more) + &body).as_bytes()).await.unwrap();
                let (text, ended) = answers(&mut client, "refused").await;
                assert!(text.starts_with("http/1.1 401") && !ended, "{more}: {text}");
                assert!(!text.contains("connection: close"), "{more}: {text}");
            }
            client.write_all((head("/read", "content-length: 3\r\n") + "abc").as_bytes()).await.unwrap();
            let (text, _) = answers(&mut client, "read 3").await;
            assert!(text.starts_with("http/1.1 200") && !text.contains("connection: close"), "{text}");
        }
    }
}
