//! The person that a request acts for, once its credential was judged. No token travels further.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use smol_str::{SmolStr, format_smolstr};
use uuid::Uuid;

use crate::{Limits, Scope, ScopeSet, TokenDigest};

const STANDS: i64 = i64::MAX;

/// The standing of a token or an account: in force, or ended at a time.
///
/// A [`Principal`] holds both, and the judge of credentials ends them. This closes a race. A
/// request may be verified just before a revocation and open a stream just after the revocation cut
/// the open ones. So it registers its stream first and asks [`Principal::stands`] second.
///
/// ```
/// use trustrelay_token::Standing;
///
/// let standing = Standing::default();
/// standing.end("2026-12-01T00:00:00Z".parse().unwrap());
/// assert!(standing.has_ended());
/// standing.restore();
/// assert_eq!(standing.ended_at(), None);
/// ```
pub struct Standing(AtomicI64);

impl Standing {
    /// Ends the standing, for every holder.
    pub fn end(&self, at: Timestamp) {
        self.0.store(at.as_microsecond(), Ordering::SeqCst);
    }

    /// Restores the standing of a disabled account that was enabled.
    pub fn restore(&self) {
        self.0.store(STANDS, Ordering::SeqCst);
    }

    /// Returns when the standing ended, to the microsecond, if it did.
    pub fn ended_at(&self) -> Option<Timestamp> {
        match self.0.load(Ordering::SeqCst) {
            STANDS => None,
            at => Some(at_microsecond(at)),
        }
    }

    /// Returns whether the standing has ended.
    pub fn has_ended(&self) -> bool {
        self.0.load(Ordering::SeqCst) != STANDS
    }
}

impl Default for Standing {
    fn default() -> Self {
        Self(AtomicI64::new(STANDS))
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Standing").field(&self.ended_at()).finish()
    }
}

/// The role of an account: administrator or not.
#[derive(Debug, Default)]
pub struct Role(AtomicBool);

impl Role {
    /// Sets the role from now on, for every holder.
    pub fn set_admin(&self, is_admin: bool) {
        self.0.store(is_admin, Ordering::SeqCst);
    }
}

/// The upstreams that an account may use: all, unless it is held to some.
#[derive(Debug, Default)]
pub struct Upstreams {
    names: RwLock<Option<Box<[Box<str>]>>>,
    narrowings: AtomicU64,
}

impl Upstreams {
    /// Restricts the upstreams from now on, for every holder, to those of these names. `None`: all.
    pub fn hold_to(&self, names: Option<&[String]>) {
        let mut held = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let keeps = |name: &str| names.is_none_or(|names| names.iter().any(|kept| kept == name));
        let keeps_all = match held.as_ref() {
            None => names.is_none(),
            Some(held) => held.iter().all(|name| keeps(name)),
        };
        *held = names.map(|names| names.iter().map(|name| name.as_str().into()).collect());
        // Under the lock, so that two changes are counted as two.
        if !keeps_all {
            self.narrowings.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Returns whether an upstream of this name is allowed.
    pub fn allow(&self, upstream: &str) -> bool {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.as_ref().is_none_or(|names| names.iter().any(|name| **name == *upstream))
    }

    /// Returns how often an upstream was taken away. An answer that was begun at another count may
    /// contain data of an upstream that is no longer allowed.
    pub fn narrowings(&self) -> u64 {
        self.narrowings.load(Ordering::SeqCst)
    }
}

/// An account: the part that its credentials have in common.
#[derive(Debug, Default)]
pub struct Account {
    /// Its id.
    pub user_id: Uuid,
    /// Its e-mail address.
    pub email: Box<str>,
    /// The account's role, at this moment.
    pub role: Role,
    /// The upstreams that the account may use, at this moment.
    pub upstreams: Upstreams,
    /// The account's standing, at this moment: it ends when the account is disabled.
    pub standing: Standing,
}

impl Account {
    /// Returns whether the account is an administrator.
    pub fn is_admin(&self) -> bool {
        self.role.0.load(Ordering::SeqCst)
    }
}

/// The personal access token that a request came with, as far as its owner may know it again.
pub struct Pat {
    /// Its identity. It stays when the secret is rotated.
    pub pat_id: Uuid,
    /// The digest that the verifier finds the token by.
    digest: TokenDigest,
    /// The hint, a line break, the name. Most fit in here without an allocation of their own.
    label: SmolStr,
}

impl Pat {
    /// Describes a token by its identity, the name that its owner chose, and `...` with its last
    /// four characters.
    pub fn new(pat_id: Uuid, name: &str, hint: &str) -> Self {
        let digest = TokenDigest::from_bytes([0; 32]);
        Self { pat_id, digest, label: format_smolstr!("{}\n{name}", hint.replace('\n', " ")) }
    }

    /// Adds the digest that the verifier finds the token by.
    pub fn known_by(self, digest: TokenDigest) -> Self {
        Self { digest, ..self }
    }

    /// Returns the digest that the verifier finds the token by; zeros if it has none.
    pub fn digest(&self) -> &TokenDigest {
        &self.digest
    }

    /// Its name, as the owner chose it.
    pub fn name(&self) -> &str {
        self.label.split_once('\n').map_or("", |(_, name)| name)
    }

    /// `...` and the last four characters.
    pub fn hint(&self) -> &str {
        self.label.split_once('\n').map_or("", |(hint, _)| hint)
    }
}

impl fmt::Debug for Pat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pat")
            .field("pat_id", &self.pat_id)
            .field("hint", &self.hint())
            .finish_non_exhaustive()
    }
}

/// The person that a request acts for, and what the request may do. The account's fields can be
/// read as if they were its own.
///
/// Each token in use has one principal, which is shared: every holder learns of a revocation at
/// once. It is small, so that a verifier can hold a million of them.
pub struct Principal {
    account: Arc<Account>,
    /// The scopes of the credential. A browser session has all that its user may do.
    pub scopes: Arc<ScopeSet>,
    /// The token's limits, if it has any. The server that receives the request enforces them,
    /// because it knows the client's address.
    pub limits: Option<Arc<Limits>>,
    pat: Option<Pat>,
    /// In microseconds since the Unix epoch. It only ever gets earlier.
    expires_at: AtomicI64,
    standing: Standing,
}

impl Principal {
    /// Creates the principal of a token.
    pub fn with_pat(account: Arc<Account>, pat: Pat, scopes: Arc<ScopeSet>, expires_at: Timestamp) -> Self {
        let expires_at = AtomicI64::new(expires_at.as_microsecond());
        Self { account, scopes, limits: None, pat: Some(pat), expires_at, standing: Standing::default() }
    }

    /// Creates the principal of a browser session.
    pub fn with_session(account: Arc<Account>, expires_at: Timestamp) -> Self {
        let (scopes, expires_at) = (Arc::new(ScopeSet::all()), AtomicI64::new(expires_at.as_microsecond()));
        Self { account, scopes, limits: None, pat: None, expires_at, standing: Standing::default() }
    }

    /// Returns the account that the request acts for.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The token, if the credential is one.
    pub fn pat(&self) -> Option<&Pat> {
        self.pat.as_ref()
    }

    /// The token's id, if the credential is one.
    pub fn pat_id(&self) -> Option<Uuid> {
        self.pat().map(|pat| pat.pat_id)
    }

    /// Returns the token's id, if the credential is a token without the scope `tokens`. Such a
    /// token manages only itself, and sees nothing that identifies other tokens.
    pub fn pat_id_without_tokens(&self) -> Option<Uuid> {
        self.pat_id().filter(|_| !self.scopes.allows(&Scope::Tokens))
    }

    /// Returns when the credential ends, to the microsecond.
    pub fn expires_at(&self) -> Timestamp {
        at_microsecond(self.expires_at.load(Ordering::SeqCst))
    }

    /// Ends the credential at `at`, if that is sooner: its secret has been replaced, and stays good
    /// for a while only.
    pub fn expire_by(&self, at: Timestamp) {
        self.expires_at.fetch_min(at.as_microsecond(), Ordering::SeqCst);
    }

    /// Returns whether the credential has ended by `now`, in microseconds since the Unix epoch.
    /// Cheap enough to be asked before each frame of a stream.
    pub fn has_expired_by(&self, now: i64) -> bool {
        self.expires_at.load(Ordering::SeqCst) <= now
    }

    /// Returns the credential's own standing. Its account has another.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Returns whether the credential still stands: since it was judged, neither the token was
    /// revoked nor its account disabled. Expiry is a matter of time: see [`Principal::expires_at`].
    pub fn stands(&self) -> bool {
        !self.standing.has_ended() && !self.account.standing.has_ended()
    }
}

impl Deref for Principal {
    type Target = Account;

    fn deref(&self) -> &Account {
        &self.account
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("user_id", &self.user_id)
            .field("pat_id", &self.pat_id())
            .field("scopes", &self.scopes.to_string())
            .field("stands", &self.stands())
            .finish_non_exhaustive()
    }
}

/// Restores a [`Timestamp`]. Microseconds that came from one are within its range.
fn at_microsecond(at: i64) -> Timestamp {
    Timestamp::from_microsecond(at).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Together with the two counts of an `Arc` it must fit the allocators' class of 128 bytes,
    /// which leaves no room for more.
    const _: () = assert!(size_of::<Principal>() <= 128 - 16);

    #[test]
    fn a_token_is_known_again_by_its_name_and_its_hint() {
        for (name, hint) in
            [("ci", "...0aZ9"), ("a name that is far longer than what is kept in place", "...0aZ9"), ("", "")]
        {
            let pat = Pat::new(Uuid::nil(), name, hint);
            assert_eq!((pat.name(), pat.hint()), (name, hint));
        }
    }

    #[test]
    fn whoever_holds_a_principal_learns_of_its_end_and_of_its_accounts() {
        let account = Arc::new(Account::default());
        let new = || {
            let (pat, scopes) = (Pat::new(Uuid::nil(), "ci", "...0aZ9"), Arc::new(ScopeSet::all()));
            Arc::new(Principal::with_pat(account.clone(), pat, scopes, Timestamp::MAX))
        };
        let (one, other) = (new(), new());
        let held = one.clone();
        assert!(held.stands() && other.stands());
        one.standing().end(Timestamp::UNIX_EPOCH);
        assert_eq!((held.stands(), other.stands()), (false, true));
        assert_eq!(held.standing().ended_at(), Some(Timestamp::UNIX_EPOCH));
        account.standing.end(Timestamp::UNIX_EPOCH);
        assert!(!other.stands());
        account.standing.restore();
        assert_eq!((held.stands(), other.stands()), (false, true));
    }

    #[test]
    fn an_account_may_use_all_upstreams_until_it_is_held_to_some() {
        let upstreams = Upstreams::default();
        assert!(upstreams.allow("github") && upstreams.allow("wiki"));
        upstreams.hold_to(Some(&["github".to_owned()]));
        assert!(upstreams.allow("github") && !upstreams.allow("wiki") && !upstreams.allow("git"));
        upstreams.hold_to(Some(&[]));
        assert!(!upstreams.allow("github"));
        upstreams.hold_to(None);
        assert!(upstreams.allow("wiki"));
    }

    #[test]
    fn only_a_change_that_takes_an_upstream_away_counts_as_a_narrowing() {
        let upstreams = Upstreams::default();
        let mut before = upstreams.narrowings();
        for (names, narrows) in [
            (None, false),
            (Some(vec!["github", "wiki"]), true),
            (Some(vec!["wiki", "github"]), false),
            (Some(vec!["github", "wiki", "chat"]), false),
            (Some(vec!["github", "mail"]), true),
            (None, false),
            (Some(vec![]), true),
            (Some(vec!["wiki"]), false),
        ] {
            let owned: Option<Vec<String>> =
                names.as_ref().map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            upstreams.hold_to(owned.as_deref());
            assert_eq!(upstreams.narrowings() != before, narrows, "{names:?}");
            before = upstreams.narrowings();
        }
    }

    #[test]
    fn the_end_of_a_replaced_secret_reaches_whoever_holds_its_principal_and_never_moves_back() {
        let (pat, scopes) = (Pat::new(Uuid::nil(), "ci", "...0aZ9"), Arc::new(ScopeSet::all()));
        let at = |second| Timestamp::from_second(second).expect("in range");
        let held = Principal::with_pat(Arc::default(), pat, scopes, at(100));
        assert!(
            !held.has_expired_by(at(99).as_microsecond()) && held.has_expired_by(at(100).as_microsecond())
        );
        held.expire_by(at(50));
        held.expire_by(at(70));
        assert_eq!(held.expires_at(), at(50));
        assert!(
            held.has_expired_by(at(50).as_microsecond()) && !held.has_expired_by(at(49).as_microsecond())
        );
    }
}
