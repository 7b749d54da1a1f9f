//! Server-sent events: cutting a stream of bytes into events, and reading and writing one.

use bytes::{Bytes, BytesMut};

/// Collects bytes, gives whole events back as they came.
#[derive(Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
    /// Up to where no end was found, so that a long event isn't searched again and again.
    searched: usize,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole event with the blank line that ends it.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let start = self.searched.saturating_sub(3);
        let tail = &self.buffer[start..];
        let end = (0..tail.len()).find_map(|at| {
            let rest = &tail[at..];
            [&b"\r\n\r\n"[..], b"\n\n", b"\r\r", b"\n\r\n"]
                .iter()
                .find(|mark| rest.starts_with(mark))
                .map(|mark| start + at + mark.len())
        });
        match end {
            Some(end) => {
                self.searched = 0;
                Some(self.buffer.split_to(end).freeze())
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }
}

/// The data of an event; `None` for comments and events without any.
pub(crate) fn data(frame: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(frame).ok()?;
    let mut data: Option<String> = None;
    for line in text.split(['\n', '\r']) {
        let Some(value) = line.strip_prefix("data:") else { continue };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match &mut data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => data = Some(value.to_owned()),
        }
    }
    data.filter(|data| !data.is_empty())
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
        assert_eq!(seen, [Some("{\"a\":\n1}".to_owned()), None, Some("b".to_owned())]);
        assert_eq!(frames.len(), b"data: c".len());
    }
}
