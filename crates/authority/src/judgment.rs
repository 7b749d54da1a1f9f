//! The one judgment of whether a token may be used.

use jiff::Timestamp;
use trustrelay_token::Denied;

/// Judges a token by what is known of it.
///
/// Every surface (REST, MCP, the commands) comes through here. A revocation outweighs all else; a token whose
/// `expires_at` is now is expired.
pub fn judge(
    revoked_at: Option<Timestamp>,
    owner_disabled: bool,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), Denied> {
    if let Some(at) = revoked_at {
        return Err(Denied::Revoked(at));
    }
    if owner_disabled {
        return Err(Denied::OwnerDisabled);
    }
    if expires_at <= now {
        return Err(Denied::Expired(expires_at));
    }
    Ok(())
}

/// Judges the secret that a token was shown with, once the token itself is good: one that it had before is refused from `valid_until` on.
pub fn judge_secret(valid_until: Option<Timestamp>, now: Timestamp) -> Result<(), Denied> {
    match valid_until {
        Some(until) if until <= now => Err(Denied::Retired(until)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_token_is_good_until_the_moment_it_expires() {
        assert_eq!(judge(None, false, at(10), at(9)), Ok(()));
        assert_eq!(judge(None, false, at(10), at(10)), Err(Denied::Expired(at(10))));
    }

    #[test]
    fn a_secret_of_before_is_good_until_its_time_is_over() {
        assert_eq!(judge_secret(None, at(10)), Ok(()));
        assert_eq!(judge_secret(Some(at(10)), at(9)), Ok(()));
        assert_eq!(judge_secret(Some(at(10)), at(10)), Err(Denied::Retired(at(10))));
    }

    #[test]
    fn revocation_outweighs_all_else() {
        assert_eq!(judge(Some(at(5)), true, at(1), at(9)), Err(Denied::Revoked(at(5))));
        assert_eq!(judge(None, true, at(1), at(9)), Err(Denied::OwnerDisabled));
    }
}
