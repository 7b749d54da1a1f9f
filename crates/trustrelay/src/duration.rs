//! Durations as people write them: `30d`, `12h`, `2s`.

use jiff::SignedDuration;

/// Reads a whole number and a unit: w, d, h, m, s or ms.
pub(crate) fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || {
        format!(
            "`{text}` is not a duration; use a whole number and a unit (w, d, h, m, s, ms), such as 30d or 2s"
        )
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(SignedDuration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("30d"), Ok(SignedDuration::from_hours(720)));
        assert_eq!(parse_duration("2s"), Ok(SignedDuration::from_secs(2)));
        assert_eq!(parse_duration("500ms"), Ok(SignedDuration::from_millis(500)));
    }

    #[test]
    fn what_is_not_a_duration_is_named() {
        for wrong in ["", "30", "d", "-3d", "3 d", "1y", "99999999999999999w"] {
            let error = parse_duration(wrong).expect_err(wrong);
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
