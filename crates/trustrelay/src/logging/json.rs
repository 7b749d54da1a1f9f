//! Log lines as JSON: one object a line. A line is written for each call, so it is put together in
//! one piece: the format that comes with the library took a seventh of a call's instructions
//! (docs/PERFORMANCE.md).

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::io::Write as _;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::redact::printable_but;

thread_local! {
    /// The second that a thread's last line was of, and its text: a busy thread writes many in one.
    static SECOND: RefCell<(Option<i64>, String)> = const { RefCell::new((None, String::new())) };
}

#[allow(clippy::disallowed_methods, reason = "when a line was written is when it was")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Members of an object, each with a comma before it.
#[derive(Default)]
struct Members(Vec<u8>);

impl Members {
    fn key(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        // An identifier: nothing to escape.
        self.0.extend_from_slice(name.strip_prefix("r#").unwrap_or(name).as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn string(&mut self, name: &str, value: &str) {
        self.key(name);
        // JSON escapes the control characters of ASCII; the others begin with these bytes in UTF-8.
        let value = match value.bytes().any(|byte| matches!(byte, 0x7f | 0xc2 | 0xd8 | 0xe2)) {
            true => printable_but(value, |c| c.is_ascii_control() && c != '\u{7f}'),
            false => Cow::Borrowed(value),
        };
        // Neither a string nor a vector refuses.
        let _ = serde_json::to_writer(&mut self.0, &*value);
    }

    /// In UTC, to the microsecond (RFC 3339, section 5.6).
    fn time(&mut self, name: &str, at: Timestamp) {
        self.key(name);
        self.0.push(b'"');
        SECOND.with_borrow_mut(|(second, text)| {
            if *second != Some(at.as_second()) {
                *second = Some(at.as_second());
                *text = at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            }
            self.0.extend_from_slice(text.as_bytes());
        });
        let _ = write!(self.0, ".{:06}Z\"", at.subsec_nanosecond() / 1000);
    }

    fn into_text(self) -> String {
        String::from_utf8(self.0).unwrap_or_default()
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.key(field.name());
        let _ = serde_json::to_writer(&mut self.0, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.key(field.name());
        let _ = serde_json::to_writer(&mut self.0, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.key(field.name());
        let _ = serde_json::to_writer(&mut self.0, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.key(field.name());
        let _ = write!(self.0, "{value}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.string(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.string(field.name(), &format!("{value:?}"));
    }
}

/// The fields of a span, kept as members of an object.
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut members = Members::default();
        fields.record(&mut members);
        writer.write_str(&members.into_text())
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut members = Members(std::mem::take(&mut current.fields).into_bytes());
        fields.record(&mut members);
        current.fields = members.into_text();
        Ok(())
    }
}

/// A line: when, how severe, what with its fields, from where, and the innermost span with the
/// fields of all that it is in.
pub(super) struct Line;

impl<S> FormatEvent<S, Fields> for Line
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Fields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Members(Vec::with_capacity(512));
        line.time("timestamp", now());
        line.string("level", event.metadata().level().as_str());
        event.record(&mut line);
        line.string("target", event.metadata().target());
        if let Some(scope) = context.event_scope() {
            let mut inner = Members(Vec::with_capacity(128));
            let mut name = None;
            for span in scope {
                name.get_or_insert(span.name());
                if let Some(fields) = span.extensions().get::<FormattedFields<Fields>>() {
                    inner.0.extend_from_slice(fields.fields.as_bytes());
                }
            }
            inner.string("name", name.unwrap_or_default());
            line.key("span");
            line.0.push(b'{');
            line.0.extend_from_slice(&inner.0[1..]);
            line.0.push(b'}');
        }
        let line = line.into_text();
        writer.write_char('{')?;
        writer.write_str(&line[1..])?;
        writer.write_str("}\n")
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(work: impl FnOnce()) -> Vec<Value> {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(Fields)
            .event_format(Line)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[test]
    fn a_line_is_one_object_with_its_fields_beside_its_message() {
        let lines = lines(|| {
            tracing::warn!(name = "a\"b\n\u{1}é", size = 7_u64, below = -7_i64, part = 0.5, good = true, r#type = ?Some(1), "said");
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        let mut line = line.clone();
        line["timestamp"].take();
        let expected = json!({
            "timestamp": null, "level": "WARN", "message": "said", "name": "a\"b\n\u{1}é", "size": 7, "below": -7, "part": 0.5,
            "good": true, "type": "Some(1)", "target": module_path!(),
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_line_names_its_innermost_span_and_has_the_fields_of_all_also_those_that_came_later() {
        let lines = lines(|| {
            let outer = tracing::info_span!("outer", id = "x");
            let _outer = outer.enter();
            let inner = tracing::info_span!("inner", tool = tracing::field::Empty);
            let _inner = inner.enter();
            inner.record("tool", "echo");
            tracing::info!("said");
        });
        assert_eq!(lines[0]["span"], json!({ "name": "inner", "id": "x", "tool": "echo" }));
    }

    #[test]
    fn a_time_is_in_utc_to_the_microsecond() {
        for (at, text) in [
            ("2026-11-29T23:59:59.000001999Z", "2026-11-29T23:59:59.000001Z"),
            ("2026-11-29T23:59:59.9Z", "2026-11-29T23:59:59.900000Z"),
            ("2026-11-30T00:00:00+02:00", "2026-11-29T22:00:00.000000Z"),
            ("2026-11-29T23:59:59Z", "2026-11-29T23:59:59.000000Z"),
        ] {
            let mut members = Members::default();
            members.time("timestamp", at.parse().unwrap());
            assert_eq!(members.into_text(), format!(",\"timestamp\":\"{text}\""));
        }
    }

    #[test]
    fn a_number_that_json_does_not_have_is_null() {
        assert_eq!(lines(|| tracing::info!(part = f64::NAN, "said"))[0]["part"], Value::Null);
    }
}
