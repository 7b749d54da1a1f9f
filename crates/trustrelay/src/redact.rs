//! What is taken out of messages before they are shown: whole tokens, passwords in URLs, control characters.

/// Makes a message safe to show. Inputs find their way into messages: a token given in the wrong place, a URL with a password.
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
                let authority =
                    found[3..].find(['/', '?', '#', ' ', '`', '\'', '"']).map_or(found.len(), |end| 3 + end);
                found[..authority].rfind('@').unwrap_or(3)
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

/// A message as one line, safe to show on a terminal.
pub(crate) fn one_line(text: &str) -> String {
    redact(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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
            ("`https://user:pw@host/a@b`", "`https://…@host/a@b`"),
            ("http://p@ss@host and https://host/@", "http://…@host and https://host/@"),
            ("a://b@c://tr_pat_x", "a://…@c://tr_pat_…"),
        ] {
            assert_eq!(redact(text), shown);
        }
        assert_eq!(one_line("a\nb\u{1b}[31m"), "a b [31m");
    }
}
