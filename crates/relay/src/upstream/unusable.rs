//! Lines of a command that are no message: the call that such a line was meant to answer.
//!
//! A server may print `NaN`, an `error` of `null` beside a result, or more than the relay takes. No
//! JSON reader gets the id out of such a line, and its call would wait for ever. So the id is
//! looked for by its place: a number behind `"id"` in the outermost object.

/// How much of the beginning and of the end of an overlong line is looked at. Servers write the id
/// at one of the two.
pub(crate) const TAIL: usize = 256;

/// Returns the one id of a line, or `None` if it has none, or several.
pub(crate) fn id(line: &str) -> Option<u64> {
    let mut found = None;
    let (mut depth, mut rest) = (0_usize, line);
    while let Some(at) = rest.find(['"', '{', '}', '[', ']']) {
        let (mark, behind) = rest[at..].split_at(1);
        rest = behind;
        match mark {
            "{" | "[" => depth += 1,
            "}" | "]" => depth = depth.saturating_sub(1),
            _ => {
                let end = end_of_string(behind)?;
                let (name, after) = (&behind[..end], &behind[end + 1..]);
                rest = after;
                if let Some(number) = after_colon(after).filter(|_| depth == 1 && name == "id") {
                    if found.is_some_and(|found| found != number) {
                        return None;
                    }
                    found = Some(number);
                }
            }
        }
    }
    found
}

/// Returns the id at the end of a line of which only the end is known: behind its number the
/// outermost object has nothing but plain members.
pub(crate) fn id_at_end(tail: &str) -> Option<u64> {
    let (_, after) = tail.rsplit_once("\"id\"")?;
    let is_outermost =
        after.trim_end().strip_suffix('}').is_some_and(|rest| !rest.contains(['{', '}', '[', ']']));
    after_colon(after).filter(|_| is_outermost)
}

/// Returns the id at the beginning of a line of which only that is known: the outermost object's
/// first members.
pub(crate) fn id_at_start(start: &str) -> Option<u64> {
    let (before, after) = start.split_once("\"id\"")?;
    let is_outermost = before.trim_start().strip_prefix('{').is_some_and(|rest| !rest.contains(['{', '[']));
    after_colon(after).filter(|_| is_outermost)
}

/// Returns where a string ends, from behind its opening quotation mark.
fn end_of_string(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

/// Returns the number behind a colon, also one that is written as a string or with a fraction.
fn after_colon(text: &str) -> Option<u64> {
    let rest = text.trim_start().strip_prefix(':')?.trim_start();
    let rest = rest.strip_prefix('"').unwrap_or(rest);
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_in_what_no_reader_takes() {
        for (line, found) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"value":NaN}}"#, Some(7)),
            (r#"{"result":{},"error":null,"jsonrpc":"2.0","id" : "8"}"#, Some(8)),
            (r#"{"id":9.0,"result":{}}"#, Some(9)),
            (r#"{"id":9,"result":{"id":1},"id":9}"#, Some(9)),
            (r#"{"result":{"id":1,"text":"\"} {\"id\":3"},"id":2}"#, Some(2)),
            (r#"{"id":1,"id":2}"#, None),
            (r#"{"id":null,"error":{}} "id" "id":"#, None),
            (r#"[{"id":4}]"#, None),
            (r#"{"id":5,"text":"it ends here"#, None),
            ("a banner", None),
        ] {
            assert_eq!(id(line), found, "{line}");
        }
    }

    #[test]
    fn of_an_overlong_line_its_ends_tell() {
        assert_eq!(id_at_end(r#"xxxx"}]},"jsonrpc":"2.0","id":7}"#), Some(7));
        assert_eq!(id_at_end(r#"xxxx"}]},"id":7,"jsonrpc":"2.0"}"#), Some(7));
        for tail in [r#"xxxx","id":7}}"#, r#"xxxx"}"#, r#""id":7"#, ""] {
            assert_eq!(id_at_end(tail), None, "{tail}");
        }
        assert_eq!(id_at_start(r#"{"jsonrpc":"2.0","id":7,"result":{"text":"xxx"#), Some(7));
        for start in [r#"{"result":{"id":7,"text":"xxx"#, r#"{"result":"xxx"#, "xxx", ""] {
            assert_eq!(id_at_start(start), None, "{start}");
        }
    }
}
