//! Lines from a pipe, with a limit: a child that never ends a line cannot exhaust memory.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::upstream::unusable::TAIL;

/// Reads lines of at most `limit` bytes. Of a longer line the beginning is returned, and its last
/// bytes are kept.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
    /// The end of the last line, if it was longer than the limit.
    tail: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::new(reader), limit, tail: Vec::new() }
    }

    /// Returns the end of the line that was returned last, as far as the line does not have it.
    pub(crate) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }

    /// Returns the next line without its end, or `None` when there are no more. Invalid UTF-8 is
    /// replaced.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<String>> {
        let mut line = Vec::new();
        self.tail.clear();
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                let rest = (!line.is_empty()).then(|| text(line));
                return Ok(rest);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(chunk.len());
            let room = self.limit.saturating_sub(line.len());
            line.extend_from_slice(&chunk[..taken.min(room)]);
            self.tail.extend_from_slice(&chunk[taken.min(room)..taken]);
            let excess = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..excess);
            self.reader.consume(end.map_or(taken, |end| end + 1));
            if end.is_some() {
                return Ok(Some(text(line)));
            }
        }
    }
}

fn text(line: Vec<u8>) -> String {
    String::from_utf8(line).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_long_ones_bounded() {
        let mut lines = Lines::new(&b"one\n\nway too long\nend\xff"[..], 5);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            seen.push((line, lines.tail()));
        }
        let seen: Vec<_> = seen.iter().map(|(line, tail)| (line.as_str(), tail.as_str())).collect();
        assert_eq!(seen, [("one", ""), ("", ""), ("way t", "oo long"), ("end\u{fffd}", "")]);
    }
}
