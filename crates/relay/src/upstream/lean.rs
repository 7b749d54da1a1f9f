//! A request on a connection of its own, for an answer that may last hours and carry little data: a
//! session's stream.
//!
//! hyper keeps 27 KiB for each waiting connection: a buffer of 8 KiB each way, space for 32
//! requests, a task. A lean connection keeps only the socket and the received bytes that were not
//! taken yet. The connection ends with its answer. HTTP/1.1 is parsed with httparse, as in hyper.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri};
use httparse::{EMPTY_HEADER, Status, parse_chunk_size};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::upstream::unanswered::{MAX_HEAD, Unanswered};

/// Maximum number of headers in an answer, the same as hyper's.
const MAX_HEADERS: usize = 100;
/// Maximum length of the line with a chunk's size, in bytes. Chunk extensions are ignored.
const MAX_SIZE_LINE: usize = 1024;
/// Maximum number of bytes read at a time.
const AT_ONCE: usize = 8192;

/// Sends the request and waits for the head of the answer.
pub(super) async fn get<I: AsyncRead + AsyncWrite + Unpin>(
    mut io: I,
    path: &Uri,
    host: &HeaderValue,
    headers: &HeaderMap,
) -> Result<Response<Lean<I>>, Unanswered> {
    let mut head = format!("GET {path} HTTP/1.1\r\n").into_bytes();
    let mut line = |name: &HeaderName, value: &HeaderValue| {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    if !headers.contains_key(HOST) {
        line(&HOST, host);
    }
    headers.iter().for_each(|(name, value)| line(name, value));
    head.extend_from_slice(b"\r\n");
    let sent = async {
        io.write_all(&head).await?;
        io.flush().await
    };
    sent.await.map_err(|_| Unanswered::Broken)?;
    drop(head);
    let mut lean = Lean { io, came: BytesMut::new(), left: Left::ToEnd };
    loop {
        match read_head(&lean.came)? {
            Some((len, status, headers)) => {
                lean.came.advance(len);
                // An interim response; the final one follows (RFC 9110, section 15.2).
                if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                    continue;
                }
                lean.left = Left::of(status, &headers)?;
                lean.forget_what_was_taken();
                let mut answer = Response::new(lean);
                (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
                return Ok(answer);
            }
            None if lean.came.len() > MAX_HEAD as usize => return Err(Unanswered::Garbage),
            None => {
                if lean.read().await? == 0 {
                    return Err(Unanswered::Broken);
                }
            }
        }
    }
}

type Head = (usize, StatusCode, HeaderMap);

/// Parses the head of an answer. Returns `None` if it has not arrived completely.
fn read_head(came: &[u8]) -> Result<Option<Head>, Unanswered> {
    let mut room = [EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut room);
    let Status::Complete(len) = head.parse(came).map_err(|_| Unanswered::Garbage)? else {
        return Ok(None);
    };
    let status = StatusCode::from_u16(head.code.unwrap_or_default()).map_err(|_| Unanswered::Garbage)?;
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for header in head.headers.iter() {
        // Copied, because a slice of the read buffer would keep the whole buffer alive.
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Unanswered::Garbage)?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| Unanswered::Garbage)?;
        headers.append(name, value);
    }
    // HTTP/1.0 has no transfer codings, so an HTTP/1.0 proxy has forwarded a header that it did not
    // understand (RFC 9112, section 6.1).
    if head.version == Some(0) && headers.contains_key(TRANSFER_ENCODING) {
        return Err(Unanswered::Garbage);
    }
    Ok(Some((len, status, headers)))
}

/// The body of an answer, with its connection.
pub(crate) struct Lean<I> {
    io: I,
    /// Received bytes that were not taken yet. Usually empty, and then without an allocation.
    came: BytesMut,
    left: Left,
}

/// The remainder of a body (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Bytes(u64),
    /// A line with the size of a chunk, and everything after it.
    Chunks,
    /// This many bytes of a chunk, and then its end.
    OfChunk(u64),
    /// Everything until the connection ends.
    ToEnd,
}

impl Left {
    fn of(status: StatusCode, headers: &HeaderMap) -> Result<Self, Unanswered> {
        if matches!(
            status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) {
            return Ok(Self::Nothing);
        }
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next() {
            let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
            return if is_chunked { Ok(Self::Chunks) } else { Err(Unanswered::Garbage) };
        }
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(|length| {
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or(Unanswered::Garbage)
        });
        match lengths.next().transpose()? {
            None => Ok(Self::ToEnd),
            Some(length) if lengths.all(|other| other == Ok(length)) => Ok(Self::Bytes(length)),
            Some(_) => Err(Unanswered::Garbage),
        }
    }
}

/// Returns whether the first line ends in a line feed without a carriage return.
fn has_bare_line_feed(came: &[u8]) -> bool {
    let line = &came[..came.len().min(MAX_SIZE_LINE + 1)];
    line.iter().position(|byte| *byte == b'\n').is_some_and(|at| at == 0 || line[at - 1] != b'\r')
}

impl<I: AsyncRead + Unpin> Lean<I> {
    /// Returns the next bytes, or `None` at the end. Cancel-safe.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Unanswered> {
        loop {
            if let Some(chunk) = self.taken()? {
                return Ok(Some(chunk));
            }
            if matches!(self.left, Left::Nothing | Left::Bytes(0)) {
                return Ok(None);
            }
            if self.read().await? == 0 {
                return if self.left == Left::ToEnd { Ok(None) } else { Err(Unanswered::Broken) };
            }
        }
    }

    /// Returns the part of the body that has arrived.
    fn taken(&mut self) -> Result<Option<Bytes>, Unanswered> {
        loop {
            match self.left {
                // httparse accepts a bare line feed within a chunk extension, where another parser
                // ends the line.
                Left::Chunks if has_bare_line_feed(&self.came) => return Err(Unanswered::Garbage),
                Left::Chunks => match parse_chunk_size(&self.came).map_err(|_| Unanswered::Garbage)? {
                    Status::Complete((len, size)) => {
                        self.came.advance(len);
                        // Trailers follow the last chunk. They are ignored.
                        self.left = if size == 0 { Left::Nothing } else { Left::OfChunk(size) };
                    }
                    Status::Partial if self.came.len() > MAX_SIZE_LINE => return Err(Unanswered::Garbage),
                    Status::Partial => return Ok(None),
                },
                Left::OfChunk(0) => {
                    let Some(end) = self.came.get(..2) else { return Ok(None) };
                    if end != b"\r\n" {
                        return Err(Unanswered::Garbage);
                    }
                    self.came.advance(2);
                    self.left = Left::Chunks;
                }
                Left::OfChunk(left) => return Ok(self.take(left, Left::OfChunk)),
                Left::Bytes(left) => return Ok(self.take(left, Left::Bytes)),
                Left::ToEnd => return Ok(self.take(u64::MAX, |_| Left::ToEnd)),
                Left::Nothing => return Ok(None),
            }
        }
    }

    fn take(&mut self, left: u64, then: impl FnOnce(u64) -> Left) -> Option<Bytes> {
        let len = self.came.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if len == 0 {
            self.forget_what_was_taken();
            return None;
        }
        self.left = then(left - len as u64);
        Some(self.came.split_to(len).freeze())
    }

    fn forget_what_was_taken(&mut self) {
        if self.came.is_empty() {
            self.came = BytesMut::new();
        }
    }

    /// Reads the available bytes. Returns their number, or 0 at the end.
    async fn read(&mut self) -> Result<usize, Unanswered> {
        let Self { io, came, .. } = self;
        let read = poll_fn(|cx| {
            // The buffer is on the stack, so that a waiting connection needs no memory for it.
            let mut room = [const { MaybeUninit::uninit() }; AT_ONCE];
            let mut read = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut read))?;
            came.extend_from_slice(read.filled());
            Poll::Ready(Ok::<_, std::io::Error>(read.filled().len()))
        });
        read.await.map_err(|_| Unanswered::Broken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Reads an answer that arrives in pieces of this many bytes.
    async fn answered(answer: &str, piece: usize) -> Result<(StatusCode, HeaderMap, String), Unanswered> {
        let (io, mut server) = tokio::io::duplex(64);
        let answer = answer.to_owned();
        let served = async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                server.read_buf(&mut asked).await.expect("a request");
            }
            for piece in answer.as_bytes().chunks(piece) {
                // The client may hang up once it has seen enough.
                if server.write_all(piece).await.is_err() {
                    break;
                }
            }
            String::from_utf8(asked).expect("text")
        };
        let asked = async {
            let headers = [("accept", "text/event-stream"), ("mcp-session-id", "s")]
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let path = Uri::from_static("/mcp?a=b");
            let host = HeaderValue::from_static("up:1");
            let answer = get(io, &path, &host, &HeaderMap::from_iter(headers)).await?;
            let (head, mut lean) = answer.into_parts();
            let mut body = Vec::new();
            while let Some(chunk) = lean.chunk().await? {
                assert!(!chunk.is_empty());
                body.extend_from_slice(&chunk);
            }
            assert_eq!(lean.chunk().await, Ok(None), "the end stays the end");
            Ok((head.status, head.headers, String::from_utf8(body).expect("text")))
        };
        let (request, answered) = tokio::join!(served, asked);
        let expected =
            "GET /mcp?a=b HTTP/1.1\r\nhost: up:1\r\naccept: text/event-stream\r\nmcp-session-id: s\r\n\r\n";
        assert_eq!(request, expected);
        answered
    }

    #[tokio::test]
    async fn an_answer_is_read_however_it_is_framed_and_in_whatever_pieces_it_comes() {
        for (answer, body) in [
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n wide\r\nwor\r\n2\r\nld\r\n0\r\n\r\n",
                "hello wide\r\nworld",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nx: y\r\n\r\n",
                "ab",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and more", "hello"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", "hello"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
            ("HTTP/1.0 200 OK\r\n\r\nto the end", "to the end"),
            ("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", "a"),
        ] {
            for piece in [1, 2, 7, 1000] {
                let (status, _, said) = answered(answer, piece).await.expect(answer);
                assert_eq!((status, &*said), (StatusCode::OK, body), "{answer:?} by {piece}");
            }
        }
        let answer =
            "HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\nallow: DELETE\r\ncontent-length: 0\r\n\r\n";
        let (status, headers, _) = answered(answer, 3).await.expect("an answer");
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(headers.get_all("allow").iter().collect::<Vec<_>>(), ["POST", "DELETE"]);
        assert_eq!(answered("HTTP/1.1 204 No Content\r\n\r\nx", 9).await.expect("an answer").2, "");
    }

    #[tokio::test]
    async fn what_breaks_off_and_what_is_no_http_is_said_to_be_that() {
        use Unanswered::{Broken, Garbage};
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MAX_HEAD as usize + 1));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS + 1));
        let size = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;{}", "x".repeat(2000));
        for (answer, why) in [
            ("", Broken),
            ("HTTP/1.1 200 OK\r\ncontent-le", Broken),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", Broken),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhell", Broken),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Broken),
            ("SSH-2.0-OpenSSH\r\n\r\n", Garbage),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", Garbage),
            ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello", Garbage),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Garbage),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", Garbage),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc", Garbage),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n", Garbage),
            ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", Garbage),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n", Garbage),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", Garbage),
            (&long, Garbage),
            (&many, Garbage),
            (&size, Garbage),
        ] {
            assert_eq!(answered(answer, 100).await.err(), Some(why), "{answer:.80?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_where_a_wait_is_given_up_and_who_waits_has_no_buffer() {
        let (io, mut server) = tokio::io::duplex(1024);
        let asked = async {
            let (path, host) = (Uri::from_static("/"), HeaderValue::from_static("up"));
            get(io, &path, &host, &HeaderMap::new()).await.expect("an answer").into_body()
        };
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nab";
        let (mut lean, sent) = tokio::join!(asked, server.write_all(head));
        sent.expect("sent");
        assert_eq!(lean.chunk().await, Ok(Some("ab".into())));
        for _ in 0..2 {
            assert!(futures_util::poll!(Box::pin(lean.chunk())).is_pending());
            assert_eq!(lean.came.capacity(), 0);
        }
        server.write_all(b"c").await.expect("sent");
        assert_eq!(lean.chunk().await, Ok(Some("c".into())));
        server.write_all(b"d\r\n1").await.expect("sent");
        assert_eq!(lean.chunk().await, Ok(Some("d".into())));
        assert!(futures_util::poll!(Box::pin(lean.chunk())).is_pending());
        server.write_all(b"\r\ne\r\n0\r\n").await.expect("sent");
        assert_eq!((lean.chunk().await, lean.chunk().await), (Ok(Some("e".into())), Ok(None)));
    }

    /// Reads an answer that arrives in pieces of this many bytes with hyper, for comparison.
    async fn read_by_hyper(answer: &str, piece: usize) -> Result<(StatusCode, String), hyper::Error> {
        let (io, mut server) = tokio::io::duplex(64);
        let io = hyper_util::rt::TokioIo::new(io);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        let connection = async {
            let _ = connection.await;
        };
        let served = async {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                server.read_buf(&mut asked).await.expect("a request");
            }
            for piece in answer.as_bytes().chunks(piece) {
                if server.write_all(piece).await.is_err() {
                    break;
                }
            }
            drop(server);
        };
        let request = http::Request::get("/").body(http_body_util::Empty::<Bytes>::new()).expect("a request");
        let asked = async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = http_body_util::BodyExt::collect(answer.into_body()).await?.to_bytes();
            Ok((status, String::from_utf8(body.to_vec()).expect("text")))
        };
        tokio::join!(connection, served, asked).2
    }

    /// Answers whose framing is valid, or wrong in one of many ways.
    fn framed() -> impl Strategy<Value = String> {
        let version = prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0"]);
        let status =
            prop::sample::select(vec!["200 OK", "200 OK", "404 Not Found", "204 No Content", "100 Continue"]);
        let framing = prop::collection::vec(
            prop::sample::select(vec![
                "transfer-encoding: chunked",
                "Transfer-Encoding: Chunked",
                "transfer-encoding: gzip",
                "transfer-encoding: gzip, chunked",
                "transfer-encoding:",
                "content-length: 5",
                "content-length: 5",
                "content-length: 6",
                "content-length: +5",
                "content-length: 5, 5",
                "content-length : 5",
                "x: y",
            ]),
            0..3,
        );
        let extension =
            prop::sample::select(vec!["", "", "", ";a=b", " ;a", ";a\nb", ";a\rb", "\n", "g", " "]);
        let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "x\r\n"]);
        let chunks = prop::collection::vec(("[a-z]{1,20}", extension, end), 0..4);
        (version, status, framing, chunks).prop_map(|(version, status, framing, chunks)| {
            let mut text = format!("{version} {status}\r\n");
            for line in framing {
                text.push_str(line);
                text.push_str("\r\n");
            }
            text.push_str("\r\n");
            for (data, extension, end) in chunks {
                text.push_str(&format!("{:x}{extension}\r\n{data}{end}", data.len()));
            }
            text.push_str("0\r\n\r\n");
            text
        })
    }

    proptest! {
        #[test]
        fn an_answer_is_taken_only_as_hyper_takes_it_in_whatever_pieces(answer in framed(), piece in 1_usize..80) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let (own, hypers) = runtime.block_on(async {
                (answered(&answer, piece).await, read_by_hyper(&answer, piece).await)
            });
            // The parser may be stricter than hyper, but never more lenient.
            if let Ok((status, _, body)) = own {
                prop_assert_eq!(hypers.ok(), Some((status, body)));
            }
        }
    }
}
