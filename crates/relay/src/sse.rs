//! Server-sent events: splits a byte stream into events, and parses and formats single events.
//!
//! The parser follows the standard (WHATWG HTML, "Interpreting an event stream"), so that no client
//! sees an event that the relay did not see.

use bytes::{Bytes, BytesMut};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Collects bytes and returns complete events unchanged.
#[derive(Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
    /// The position up to which no end was found, so that a long event is not searched repeatedly.
    searched: usize,
    /// True once the stream's first bytes were checked for a byte order mark.
    begun: bool,
    /// True if the previous frame ended with a carriage return. A following line feed then belongs
    /// to it.
    after_return: bool,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the next complete event, including the blank line that ends it. A line feed that
    /// arrives too late for its frame becomes a frame of its own.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            if self.buffer.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.buffer) {
                return None;
            }
            self.begun = true;
            // The mark belongs to the stream, not to an event. After an event of the relay's own it
            // would become part of a field name.
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
                // The end of the last line may be the first half of the blank line.
                self.searched = self.buffer.len().saturating_sub(2);
                None
            }
        }
    }

    /// Returns the end of the first event: the position after a line end that begins a line.
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
            // The second half of a CR LF pair is not a line of its own.
            let is_second_half = bytes[at] == b'\n' && at > 0 && bytes[at - 1] == b'\r';
            if begins_line && !is_second_half {
                return Some(at + len);
            }
            at += len;
        }
        None
    }
}

/// Returns the data of an event. `None` for comments and events without data. Invalid UTF-8 is
/// replaced.
pub(crate) fn data(frame: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(frame);
    let mut data: Option<String> = None;
    // Splitting a CR LF pair yields an empty line, which has no effect.
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

/// Formats an event with this data.
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

/// A comment that keeps proxies from closing a quiet stream.
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
        // The last line feed arrives after the event that its carriage return has ended.
        assert_eq!(seen, [Some("{\"a\":\n1}".to_owned()), None, Some("b".to_owned()), None]);
        assert_eq!(frames.len(), b"data: c".len());
    }

    /// Returns the data of each event, as a reader by the standard dispatches it. It has the whole
    /// stream and processes it line by line.
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
            // Every byte is passed on, except for the byte order mark.
            prop_assert_eq!(passed, stream.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&stream));
        }
    }
}
