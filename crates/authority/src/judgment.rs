//! The one judgment of whether a token may be used.

use jiff::Timestamp;
use trustrelay_token::Denied;

use crate::rotation::Secret;

/// Judges a token by what is known of it.
///
/// Every surface (REST, MCP, the commands) comes through here. A revocation outweighs all else; a
/// token whose `expires_at` is now is expired.
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

/// Judges the secret that a token was shown with, once the token itself is good: one that it had
/// before is refused once the store says that it has ended, and from `valid_until` on.
pub fn judge_secret(secret: &Secret, now: Timestamp) -> Result<(), Denied> {
    match secret {
        Secret::Retired { ended, valid_until, .. } => judge_retired(*ended, *valid_until, now),
        Secret::Current { .. } => Ok(()),
    }
}

/// Judges a secret that a token had before.
pub(crate) fn judge_retired(ended: bool, valid_until: Timestamp, now: Timestamp) -> Result<(), Denied> {
    if ended || valid_until <= now { Err(Denied::Retired(valid_until)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use trustrelay_token::TokenDigest;

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
        let retired = |ended| Secret::Retired {
            digest: TokenDigest::from_bytes([0; 32]),
            valid_until: at(10),
            ended,
            hint: String::new(),
        };
        assert_eq!(judge_secret(&Secret::Current { ends_another: true }, at(10)), Ok(()));
        assert_eq!(judge_secret(&retired(false), at(9)), Ok(()));
        assert_eq!(judge_secret(&retired(false), at(10)), Err(Denied::Retired(at(10))));
        assert_eq!(judge_secret(&retired(true), at(0)), Err(Denied::Retired(at(10))), "whatever time it is");
    }

    #[test]
    fn revocation_outweighs_all_else() {
        assert_eq!(judge(Some(at(5)), true, at(1), at(9)), Err(Denied::Revoked(at(5))));
        assert_eq!(judge(None, true, at(1), at(9)), Err(Denied::OwnerDisabled));
    }
}
