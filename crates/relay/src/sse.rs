//! Server-sent events: cutting a stream of bytes into events, and reading and writing one.
//!
//! Streams are read as the standard has it (WHATWG HTML, "Interpreting an event stream"), so that no client reads an
//! event that the relay did not.

use bytes::{Bytes, BytesMut};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Collects bytes, gives whole events back as they came.
#[derive(Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
    /// Up to where no end was found, so that a long event isn't searched again and again.
    searched: usize,
    /// The stream's first bytes have been looked at.
    begun: bool,
    /// The frame that was given last ended with a carriage return: a line feed behind it belongs to it.
    after_return: bool,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole event with the blank line that ends it. A line feed that came too late for its frame is one of its own.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            if self.buffer.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.buffer) {
                return None;
            }
            self.begun = true;
            // It marks a stream and belongs to no event: behind a frame of the relay's own it would be part of a name.
            if self.buffer.starts_with(BYTE_ORDER_MARK) {
                drop(self.buffer.split_to(BYTE_ORDER_MARK.len()));
            }
        }
        if self.after_return && !self.buffer.is_empty() {
            self.after_return = false;
            if self.buffer[0] == b'\n' {
                return Some(self.buffer.split_to(1).freeze());
            }
        }
        match self.end() {
            Some(end) => {
                self.searched = 0;
                self.after_return = self.buffer[end - 1] == b'\r';
                Some(self.buffer.split_to(end).freeze())
            }
            None => {
                // The last line's end may be the first half of the blank line.
                self.searched = self.buffer.len().saturating_sub(2);
                None
            }
        }
    }

    /// Where the first event ends: behind a line end that stands at the beginning of a line.
    fn end(&self) -> Option<usize> {
        let bytes = &self.buffer[..];
        let is_end = |at: usize| matches!(bytes.get(at), Some(b'\r' | b'\n'));
        let mut at = self.searched;
        while at < bytes.len() {
            if !is_end(at) {
                at += 1;
                continue;
            }
            let begins_line = at == 0 || is_end(at - 1);
            let len = if bytes[at] == b'\r' && bytes.get(at + 1) == Some(&b'\n') { 2 } else { 1 };
            // The second half of a line end is no line of its own.
            let is_second_half = bytes[at] == b'\n' && at > 0 && bytes[at - 1] == b'\r';
            if begins_line && !is_second_half {
                return Some(at + len);
            }
            at += len;
        }
        None
    }
}

/// The data of an event; `None` for comments and events without any. Bytes that are no UTF-8 are replaced.
pub(crate) fn data(frame: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(frame);
    let mut data: Option<String> = None;
    // Between the halves of a line end stands an empty line, which says nothing.
    for line in text.split(['\n', '\r']) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field != "data" {
            continue;
        }
        let value = value.strip_prefix(' ').unwrap_or(value);
        match &mut data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => data = Some(value.to_owned()),
        }
    }
    data
}

/// An event with this data.
pub(crate) fn event(data: &str) -> Bytes {
    let mut out = String::with_capacity(data.len() + 24);
    out.push_str("event: message\n");
    for line in data.split(['\n', '\r']) {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
    out.into()
}

/// What keeps proxies from cutting a quiet stream.
pub(crate) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_come_out_whole_however_they_arrive() {
        let stream = b"id: 1\ndata: {\"a\":\ndata: 1}\n\n: hi\n\ndata: b\r\n\r\ndata: c";
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for byte in stream {
            frames.push(&[*byte]);
            while let Some(frame) = frames.next() {
                seen.push(data(&frame));
            }
        }
        // The last line feed comes behind the event that its carriage return has ended.
        assert_eq!(seen, [Some("{\"a\":\n1}".to_owned()), None, Some("b".to_owned()), None]);
        assert_eq!(frames.len(), b"data: c".len());
    }

    /// The data of each event that a reader of the standard dispatches: it has the whole stream before it, and goes line by line.
    fn read_by_the_standard(stream: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(stream);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let (mut events, mut buffer, mut line) = (Vec::new(), String::new(), String::new());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '\r' && c != '\n' {
                line.push(c);
                continue;
            }
            if c == '\r' {
                chars.next_if_eq(&'\n');
            }
            let whole = std::mem::take(&mut line);
            if whole.is_empty() {
                if !buffer.is_empty() {
                    buffer.pop();
                    events.push(std::mem::take(&mut buffer));
                }
            } else if let Some(value) = whole.strip_prefix("data:") {
                buffer.push_str(value.strip_prefix(' ').unwrap_or(value));
                buffer.push('\n');
            } else if whole == "data" {
                buffer.push('\n');
            }
        }
        events
    }

    fn read(stream: &[u8], pieces: &[usize]) -> (Vec<String>, Vec<u8>) {
        let (mut frames, mut seen, mut passed) = (Frames::default(), Vec::new(), Vec::new());
        let mut sizes = pieces.iter().copied().cycle();
        let mut rest = stream;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
            rest = more;
            frames.push(piece);
            while let Some(frame) = frames.next() {
                passed.extend_from_slice(&frame);
                seen.extend(data(&frame));
            }
        }
        passed.extend_from_slice(&frames.buffer);
        (seen, passed)
    }

    #[test]
    fn an_event_ends_where_the_standard_ends_it_at_once() {
        for (stream, expected) in [
            (&b"data: a\n\rdata: b\n\n"[..], &["a", "b"][..]),
            (b"data: a\r\n\rdata: b\r\r", &["a", "b"]),
            (b"data: a\r\n\r\n\n", &["a"]),
            (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", &["a"]),
            (b": \xff\ndata: a\n\n", &["a"]),
            (b"data: \xff\n\n", &["\u{fffd}"]),
            (b"data: a\ndata\n\n", &["a\n"]),
            (b"data\n\n", &[""]),
            (b"data: a\r\ndata:b\r\n\r\n", &["a\nb"]),
            (b"datax: a\n\n", &[]),
            (b"data: a\n", &[]),
        ] {
            assert_eq!(read_by_the_standard(stream), expected, "{stream:?}");
            for piece in 1..=stream.len() {
                assert_eq!(read(stream, &[piece]).0, expected, "{stream:?} by {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_stream_is_read_as_the_standard_reads_it(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    &b"data"[..], b"data:", b"data: ", b"id: 1", b"event: x", b":", b": hi", b"{}", b" ", b"x",
                    b"\n", b"\n", b"\r", b"\r", b"\r\n", b"\r\n", b"\xef\xbb\xbf", b"\xff", b"\xe2\x82", b"\0",
                ]),
                0..40,
            ),
            pieces in prop::collection::vec(1_usize..9, 1..4),
        ) {
            let stream = parts.concat();
            let (seen, passed) = read(&stream, &pieces);
            prop_assert_eq!(seen, read_by_the_standard(&stream));
            // And every byte passes, but for the mark.
            prop_assert_eq!(passed, stream.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&stream));
        }
    }
}
