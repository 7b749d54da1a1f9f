//! Amounts as people read them.

use std::time::Duration;

/// A number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `one` has no ending.
pub(crate) fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A length in bytes, with two or three digits that matter.
pub(crate) fn bytes(length: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if length < 1000 {
        return format!("{length} B");
    }
    let mut scaled = length as f64 / 1000.0;
    let mut at = 0;
    // What would be rounded up to a thousand is one of the next unit.
    while scaled >= 999.5 && at + 1 < UNITS.len() {
        scaled /= 1000.0;
        at += 1;
    }
    let unit = UNITS.get(at).copied().unwrap_or_default();
    if scaled < 9.95 { format!("{scaled:.1} {unit}") } else { format!("{scaled:.0} {unit}") }
}

/// A time, in one unit.
pub(crate) fn took(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..9950 => format!("{:.1} ms", micros as f64 / 1e3),
        9950..999_500 => format!("{:.0} ms", micros as f64 / 1e3),
        999_500..59_950_000 => format!("{:.1} s", micros as f64 / 1e6),
        59_950_000..3_600_000_000 => format!("{:.0} min", (micros as f64 / 6e7).max(1.0)),
        _ => format!("{:.1} h", micros as f64 / 3.6e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (number, says) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(number), says);
        }
        assert_eq!((counted(1, "call"), counted(0, "call")), ("1 call".to_owned(), "0 calls".to_owned()));
    }

    #[test]
    fn lengths_have_the_unit_that_fits() {
        for (length, says) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (9950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (5_300_000_000, "5.3 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(length), says);
        }
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        for (micros, says) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1500, "1.5 ms"),
            (9950, "10 ms"),
            (999_499, "999 ms"),
            (999_500, "1.0 s"),
            (59_900_000, "59.9 s"),
            (60_000_000, "1 min"),
            (5_400_000_000, "1.5 h"),
        ] {
            assert_eq!(took(Duration::from_micros(micros)), says, "{micros}");
        }
    }
}
