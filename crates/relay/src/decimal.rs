//! JSON numbers, compared exactly. As floats, different numbers could compare equal.

/// A JSON number as written: `digits` times ten to the power of `exponent`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    /// The digits without leading or trailing zeros, so that equal numbers have equal digits. Empty
    /// for zero.
    digits: String,
    exponent: i64,
}

/// The most digits that a 64-bit integer can have.
const MAX_WHOLE_DIGITS: usize = 20;
/// Maximum length of a fraction that [`Decimal::plain`] writes without an exponent. A double has
/// fewer digits.
const MAX_PLAIN: usize = 40;

impl Decimal {
    /// Parses a number in JSON's grammar (RFC 8259, section 6) and in no other: `007`, `+7` and `
    /// 7` are refused.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (rest, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        if fraction.is_some_and(|fraction| !are_digits(fraction)) {
            return None;
        }
        let mut power: i64 = match exponent {
            Some(exponent) => {
                are_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)).then_some(())?;
                exponent.parse().ok()?
            }
            None => 0,
        };
        let fraction = fraction.unwrap_or_default();
        power = power.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let all = [whole, fraction].concat();
        let significant = all.trim_start_matches('0');
        let digits = significant.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let exponent = power.checked_add(i64::try_from(significant.len() - digits.len()).ok()?)?;
        Some(Self { negative, digits: digits.to_owned(), exponent })
    }

    /// Returns the value as an integer, if it is an integer of 64 bits.
    pub(crate) fn whole(&self) -> Option<i128> {
        let zeros = usize::try_from(self.exponent).ok().filter(|zeros| *zeros <= MAX_WHOLE_DIGITS)?;
        if self.digits.len() + zeros > MAX_WHOLE_DIGITS {
            return None;
        }
        if self.digits.is_empty() {
            return Some(0);
        }
        let size: i128 = format!("{}{}", self.digits, "0".repeat(zeros)).parse().ok()?;
        let number = if self.negative { -size } else { size };
        (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number).then_some(number)
    }

    /// Formats the number without an exponent. Returns `None` if that would be too long.
    pub(crate) fn plain(&self) -> Option<String> {
        if let Some(whole) = self.whole() {
            return Some(whole.to_string());
        }
        let places = usize::try_from(self.exponent.unsigned_abs()).ok()?;
        if places > MAX_PLAIN || self.digits.len() > MAX_PLAIN {
            return None;
        }
        let sign = if self.negative { "-" } else { "" };
        if self.exponent >= 0 {
            return Some(format!("{sign}{}{}", self.digits, "0".repeat(places)));
        }
        let padded = format!("{:0>width$}", self.digits, width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        Some(format!("{sign}{whole}.{fraction}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn equal(one: &str, other: &str) -> bool {
        Decimal::read(one).unwrap() == Decimal::read(other).unwrap()
    }

    #[test]
    fn numbers_are_equal_if_they_have_the_same_value_and_only_then() {
        for (one, other) in
            [("42", "42.0"), ("100", "1e2"), ("0.05", "5E-2"), ("-0", "0.00"), ("1e999", "10e998")]
        {
            assert!(equal(one, other), "{one} {other}");
        }
        for (one, other) in
            [("9007199254740993", "9007199254740992"), ("1", "-1"), ("0.1", "0.10000000000000000001")]
        {
            assert!(!equal(one, other), "{one} {other}");
        }
        for bad in [
            "",
            "-",
            "007",
            "+7",
            " 7",
            "7 ",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "1e99999999999999999999",
        ] {
            assert_eq!(Decimal::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn integers_of_64_bits_are_known_and_others_are_not() {
        for (text, whole) in [
            ("0", Some(0)),
            ("-7.0", Some(-7)),
            ("1e2", Some(100)),
            ("18446744073709551615", Some(u64::MAX.into())),
            ("18446744073709551616", None),
            ("-9223372036854775809", None),
            ("1.5", None),
            ("1e999", None),
        ] {
            assert_eq!(Decimal::read(text).unwrap().whole(), whole, "{text}");
        }
        for (text, plain) in [
            ("1e2", Some("100")),
            ("1234567890123456789012e1", Some("12345678901234567890120")),
            ("-1.50", Some("-1.5")),
            ("5e-2", Some("0.05")),
            ("1e999", None),
        ] {
            assert_eq!(Decimal::read(text).unwrap().plain().as_deref(), plain, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_serde_json_reads_as_a_number_is_one(text in "-?(0|[1-9][0-9]{0,3}|[0-9]{1,3})(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,2})?") {
            let read = Decimal::read(&text);
            prop_assert_eq!(read.is_some(), serde_json::from_str::<serde_json::Number>(&text).is_ok());
            if let Some(plain) = read.as_ref().and_then(Decimal::plain) {
                prop_assert_eq!(Decimal::read(&plain), read);
            }
        }

        #[test]
        fn shifting_the_point_changes_nothing(digits in -1_000_000_i64..1_000_000, places in 0_usize..6) {
            let shifted = format!("{digits}{}e-{places}", "0".repeat(places));
            let shifted = if digits == 0 { format!("0e-{places}") } else { shifted };
            prop_assert!(equal(&digits.to_string(), &shifted));
            prop_assert!(!equal(&(digits + 1).to_string(), &shifted));
        }
    }
}
