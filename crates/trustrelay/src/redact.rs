//! What is taken out of messages before they are shown: whole tokens, passwords in URLs, control
//! characters.

use std::borrow::Cow;

/// Makes a message safe to show. Inputs find their way into messages: a token given in the wrong
/// place, a URL with a password.
pub(crate) fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, kind)) = next(rest) {
        out.push_str(&rest[..at]);
        let found = &rest[at..];
        let end = match kind {
            Kind::Token => {
                let prefix = trustrelay_token::PREFIX.len();
                found[prefix..]
                    .find(|c: char| !c.is_ascii_alphanumeric())
                    .map_or(found.len(), |end| prefix + end)
            }
            Kind::Url => {
                // A password that is not percent-encoded may hold what ends the host in a URL: all
                // up to the last `@` goes.
                let quote = quote_before(&rest[..at]);
                let ends = |c: char| {
                    quote.map_or(matches!(c, ' ' | '`' | '\'' | '"'), |quote| c == quote) || c == '\n'
                };
                let all = found[3..].find(ends).map_or(found.len(), |end| 3 + end);
                found[..all].rfind('@').unwrap_or(3)
            }
        };
        out.push_str(match kind {
            Kind::Token => "tr_pat_…",
            Kind::Url if end > 3 => "://…",
            Kind::Url => "://",
        });
        rest = &found[end..];
    }
    out.push_str(rest);
    out
}

/// A text with its control characters written out, and with those that change the direction of
/// text: what comes from outside cannot move a terminal's cursor, or look like something else than
/// it is.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    printable_but(text, |_| false)
}

/// The same, but for the characters that `stays` names.
pub(crate) fn printable_but(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let goes = |c| is_unprintable(c) && !stays(c);
    if !text.contains(goes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if goes(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Control characters (Unicode's Cc), and the format characters that reorder text (Unicode TR 9,
/// section 2).
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A message as one line, safe to show on a terminal.
pub(crate) fn one_line(text: &str) -> String {
    redact(text).chars().map(|c| if is_unprintable(c) { ' ' } else { c }).collect()
}

/// The quotation mark that a URL stands in, by what comes before its `://`. In quotes it ends with
/// them, whatever it holds.
fn quote_before(before: &str) -> Option<char> {
    let quoted = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'));
    quoted.chars().next_back().filter(|c| matches!(c, '`' | '\'' | '"'))
}

#[derive(Clone, Copy)]
enum Kind {
    Token,
    Url,
}

fn next(text: &str) -> Option<(usize, Kind)> {
    let token = text.find(trustrelay_token::PREFIX).map(|at| (at, Kind::Token));
    let url = text.find("://").map(|at| (at, Kind::Url));
    match (token, url) {
        (Some(token), Some(url)) => Some(if token.0 < url.0 { token } else { url }),
        (token, url) => token.or(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_passwords_are_taken_out_and_nothing_else() {
        for (text, shown) in [
            ("", ""),
            ("no secret, all of it: tr_pa://", "no secret, all of it: tr_pa://"),
            ("found tr_pat_0123456789abc'", "found tr_pat_…'"),
            ("tr_pat_atr_pat_b", "tr_pat_…_pat_b"),
            ("`https://user:pw@host/a`", "`https://…@host/a`"),
            ("postgres://u:p@ss/w0?r#d@host/db is", "postgres://…@host/db is"),
            ("invalid value 'https://u:p w`d@host' for", "invalid value 'https://…@host' for"),
            ("`https://user:pw@host/a@b`", "`https://…@b`"),
            ("http://p@ss@host and https://host/", "http://…@host and https://host/"),
            ("a://b@c://tr_pat_x", "a://…@c://tr_pat_…"),
        ] {
            assert_eq!(redact(text), shown);
        }
        assert_eq!(one_line("a\nb\u{1b}[31m"), "a b [31m");
    }
}
