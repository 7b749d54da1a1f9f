//! The limits of a token, in the form in which both databases keep them.

use std::sync::Arc;

use trustrelay_authority::StoreError;
use trustrelay_token::Limits;

/// The three columns, in the order in which they are selected. `NULL` means unlimited.
pub(crate) struct Kept {
    /// Networks in CIDR notation, separated by spaces.
    pub(crate) allowed_networks: Option<String>,
    pub(crate) requests_per_minute: Option<i64>,
    pub(crate) unused_days: Option<i64>,
}

impl Kept {
    pub(crate) fn of(limits: Option<&Arc<Limits>>) -> Self {
        let limits = limits.map(|limits| &**limits);
        let networks = limits.map_or(&[][..], |limits| &limits.networks);
        let texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
        Self {
            allowed_networks: (!texts.is_empty()).then(|| texts.join(" ")),
            requests_per_minute: limits
                .and_then(|limits| limits.requests_per_minute)
                .map(|requests| requests.get().into()),
            unused_days: limits.and_then(|limits| limits.unused_days).map(|days| days.get().into()),
        }
    }

    pub(crate) fn read(&self) -> Result<Option<Arc<Limits>>, StoreError> {
        let texts = self.allowed_networks.iter().flat_map(|texts| texts.split(' '));
        let networks: Result<_, _> = texts.map(str::parse).collect();
        let limits = Limits {
            networks: networks.map_err(|_| unreadable())?,
            requests_per_minute: number::<u32>(self.requests_per_minute)?
                .map(|requests| requests.try_into().map_err(|_| unreadable()))
                .transpose()?,
            unused_days: number::<u16>(self.unused_days)?
                .map(|days| days.try_into().map_err(|_| unreadable()))
                .transpose()?,
        };
        Ok(limits.shared())
    }
}

fn number<T: TryFrom<i64>>(kept: Option<i64>) -> Result<Option<T>, StoreError> {
    kept.map(|kept| T::try_from(kept).map_err(|_| unreadable())).transpose()
}

fn unreadable() -> StoreError {
    StoreError::Corrupt("a token's limits cannot be read".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_what_nobody_has_written_is_refused() {
        let limits = Limits {
            networks: vec![
                "10.0.0.0/8".parse().expect("a network"),
                "2001:db8::/32".parse().expect("a network"),
            ],
            requests_per_minute: Some(60.try_into().expect("some")),
            unused_days: Some(30.try_into().expect("some")),
        };
        let limits = limits.shared();
        let kept = Kept::of(limits.as_ref());
        assert_eq!(kept.allowed_networks.as_deref(), Some("10.0.0.0/8 2001:db8::/32"));
        assert_eq!(kept.read().expect("reads"), limits);
        assert_eq!(Kept::of(None).read().expect("reads"), None);
        for (networks, requests, days) in [
            (Some(""), None, None),
            (Some("10.0.0.1/8"), None, None),
            (None, Some(0), None),
            (None, Some(-1), None),
            (None, Some(1 << 32), None),
            (None, None, Some(0)),
            (None, None, Some(1 << 16)),
        ] {
            let allowed_networks = networks.map(str::to_owned);
            let wrong = Kept { allowed_networks, requests_per_minute: requests, unused_days: days };
            assert!(
                matches!(wrong.read(), Err(StoreError::Corrupt(_))),
                "{networks:?} {requests:?} {days:?}"
            );
        }
    }
}
