//! What a scan found, for people, for programs, and for code hosts. The hint is shown, and never
//! the token: not in a path either.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Component, Path};

use serde_json::{Value, json};
use trustrelay_token::TOKEN_LEN;

use super::Scan;
use super::finder::Found;
use crate::redact;

const RULE: &str = "trustrelay-personal-access-token";
const WHAT_TO_DO: &str = "Revoke the token, create a new one, and remove the old one from the file and its history. Anyone who can read the file can use the token.";

/// How a scan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `path:line:column` and the hint, a line each.
    Text,
    /// One JSON document.
    Json,
    /// SARIF 2.1.0 (OASIS), as code hosts read it.
    Sarif,
}

impl Scan {
    /// What goes to standard output.
    pub(crate) fn write(&self, form: Form, out: &mut impl Write) -> io::Result<()> {
        let document = match form {
            Form::Text => {
                for (path, found) in self.each() {
                    let (line, column, hint) = (found.line, found.column, &found.hint);
                    writeln!(out, "{}:{line}:{column}: TrustRelay token {hint}", name(path))?;
                }
                return Ok(());
            }
            Form::Json => self.json(),
            Form::Sarif => self.sarif(),
        };
        serde_json::to_writer_pretty(&mut *out, &document)?;
        writeln!(out)
    }

    /// What goes to standard error: a line for each path that could not be looked at.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = String> {
        self.troubles.iter().map(|(path, why)| format!("{} {why}", name(path)))
    }

    fn each(&self) -> impl Iterator<Item = (&Path, &Found)> {
        self.leaks.iter().flat_map(|(path, found)| found.iter().map(|found| (path.as_path(), found)))
    }

    fn json(&self) -> Value {
        let found = self.each().map(|(path, found)| {
            json!({
                "path": name(path),
                "line": found.line,
                "column": found.column,
                "offset": found.offset,
                "pat_hint": found.hint,
            })
        });
        let errors = self.troubles.iter().map(|(path, why)| json!({ "path": name(path), "message": why }));
        json!({ "files": self.files, "found": found.collect::<Value>(), "errors": errors.collect::<Value>() })
    }

    fn sarif(&self) -> Value {
        let results = self.each().map(|(path, found)| {
            json!({
                "ruleId": RULE,
                "ruleIndex": 0,
                "level": "error",
                "message": { "text": format!("The TrustRelay personal access token {}. {WHAT_TO_DO}", found.hint) },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": uri(path) },
                    "region": {
                        "startLine": found.line,
                        "startColumn": found.column,
                        "endColumn": found.column + TOKEN_LEN as u64,
                        "byteOffset": found.offset,
                        "byteLength": TOKEN_LEN,
                    },
                } }],
            })
        });
        let notes = self.troubles.iter().map(|(path, why)| {
            json!({
                "level": "error",
                "message": { "text": format!("{} {why}", name(path)) },
                "locations": [{ "physicalLocation": { "artifactLocation": { "uri": uri(path) } } }],
            })
        });
        json!({
            "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "trustrelay",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": [{
                        "id": RULE,
                        "name": "PersonalAccessToken",
                        "shortDescription": { "text": "A TrustRelay personal access token" },
                        "fullDescription": { "text": "A file contains a TrustRelay token with a valid checksum." },
                        "help": { "text": WHAT_TO_DO },
                        "defaultConfiguration": { "level": "error" },
                        "properties": { "tags": ["security"], "security-severity": "9.0" },
                    }],
                } },
                "columnKind": "unicodeCodePoints",
                "invocations": [{
                    "executionSuccessful": self.troubles.is_empty(),
                    "toolExecutionNotifications": notes.collect::<Value>(),
                }],
                "results": results.collect::<Value>(),
            }],
        })
    }
}

/// A path on one line of a terminal. A file may be named after a token.
fn name(path: &Path) -> String {
    redact::one_line(&path.display().to_string())
}

/// A path as a URI reference (RFC 3986 §4.1): relative to where the scan began, or with `file:` if
/// it was given whole.
fn uri(path: &Path) -> String {
    let mut uri = String::new();
    for component in path.components() {
        match component {
            Component::RootDir => uri.push_str("file://"),
            other if uri.is_empty() => segment(&mut uri, other),
            other => {
                uri.push('/');
                segment(&mut uri, other);
            }
        }
    }
    uri
}

/// Keeps what is unreserved (§2.3) and encodes the rest: a colon in the first segment would look
/// like a scheme.
fn segment(uri: &mut String, component: Component<'_>) {
    let exact = component.as_os_str();
    let (text, shown) = (exact.to_string_lossy(), redact::redact(&exact.to_string_lossy()));
    // Without a token in it the name is given exactly, even if it is no UTF-8.
    for byte in if text == shown { exact.as_encoded_bytes() } else { shown.as_bytes() } {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(*byte))
            }
            other => {
                let _ = write!(uri, "%{other:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_uri_and_a_token_in_it_is_taken_out() {
        for (path, expected) in [
            ("src/main.rs", "src/main.rs"),
            ("../a b/ü#?.txt", "../a%20b/%C3%BC%23%3F.txt"),
            ("c:x/y", "c%3Ax/y"),
            ("/etc/app.env", "file:///etc/app.env"),
            ("-", "-"),
            ("./-", "./-"),
            ("old/tr_pat_0123456789abc.txt", "old/tr_pat_%E2%80%A6.txt"),
        ] {
            assert_eq!(uri(Path::new(path)), expected);
        }
        assert_eq!(name(Path::new("a\n\u{1b}[31m/tr_pat_0123.txt")), "a  [31m/tr_pat_….txt");
    }
}
