//! What is counted. The handles are kept: a request looks nothing up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use metrics::{Counter, counter, describe_counter, describe_gauge};
use parking_lot::Mutex;
use trustrelay_authority::{
    AuthorityError, By, Issued, NewPat, OffLimits, PatFilter, PatRef, PatsRevoked, Revoked, SessionSecret,
};
use trustrelay_guard::Refusal;
use trustrelay_token::Denied;
use uuid::Uuid;

use crate::routes::{Door, routes};
use crate::state::AppState;

const REQUESTS: &str = "trustrelay_http_requests_total";
const VERIFICATIONS: &str = "trustrelay_verifications_total";
const OFF_LIMITS: &str = "trustrelay_off_limits_total";
const LOGINS: &str = "trustrelay_logins_total";
const ISSUED: &str = "trustrelay_tokens_issued_total";
const REVOKED: &str = "trustrelay_tokens_revoked_total";

/// From one count of the tokens that are due soon to the next: the store goes through all that are
/// active.
const BETWEEN_COUNTS: Duration = Duration::from_secs(60);

/// The statuses that are told apart; all others are `other`.
const STATUSES: [u16; 20] =
    [200, 201, 202, 204, 303, 400, 401, 403, 404, 405, 406, 408, 409, 413, 415, 429, 500, 502, 503, 504];

/// The requests of one route, by status: at most 21 series.
pub(crate) struct RouteNumbers {
    /// The route's path, as it is written in [`routes`].
    pub(crate) route: &'static str,
    /// The route's own door, if it is a route.
    pub(crate) door: Option<Door>,
    by_status: [OnceLock<Counter>; STATUSES.len() + 1],
}

impl RouteNumbers {
    fn new(route: &'static str, door: Option<Door>) -> Self {
        Self { route, door, by_status: Default::default() }
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        let at = STATUSES.iter().position(|known| *known == status.as_u16());
        let slot = &self.by_status[at.unwrap_or(STATUSES.len())];
        let name = || at.map_or_else(|| "other".to_owned(), |_| status.as_str().to_owned());
        slot.get_or_init(|| counter!(REQUESTS, "route" => self.route, "status" => name())).increment(1);
    }
}

/// The counters.
pub(crate) struct Numbers {
    routes: HashMap<&'static str, RouteNumbers>,
    nowhere: RouteNumbers,
    pub(crate) mcp: RouteNumbers,
    pub(crate) mcp_one: RouteNumbers,
    accepted: Counter,
    missing: Counter,
    malformed: Counter,
    unknown: Counter,
    expired: Counter,
    revoked_token: Counter,
    owner_disabled: Counter,
    unavailable: Counter,
    off_network: Counter,
    over_rate: Counter,
    login_good: Counter,
    login_wrong: Counter,
    login_throttled: Counter,
    login_failed: Counter,
    issued: Counter,
    revoked: Counter,
    /// When the tokens were counted that are due soon, since boot.
    due_soon_counted: Mutex<Option<Duration>>,
}

impl Numbers {
    /// Counts with the recorder that is installed now.
    pub(crate) fn new() -> Self {
        describe_counter!(REQUESTS, "Answered HTTP requests, by route and status");
        describe_counter!(VERIFICATIONS, "Checked Authorization headers, by outcome");
        describe_counter!(OFF_LIMITS, "Requests that were refused by a limit of the token, by limit");
        describe_counter!(LOGINS, "Sign-in attempts, by outcome");
        describe_counter!(ISSUED, "Tokens created over HTTP");
        describe_counter!(
            REVOKED,
            "Revocations over HTTP, not counting the child tokens that are revoked with a token"
        );
        describe_gauge!("trustrelay_index_entries", "Tokens that are verified from memory");
        describe_gauge!(
            "trustrelay_tokens_expiring",
            "Active tokens that expire within this many days, counted at most once a minute"
        );
        describe_gauge!(
            "trustrelay_clock_ahead_seconds",
            "By how much this machine's clock is ahead of the database's."
        );
        describe_gauge!("trustrelay_lease_held", "1 while tokens are verified from memory");
        describe_gauge!("trustrelay_node_url_shared", "Other nodes that use this node's --node-url");
        let verified = |outcome: &'static str| counter!(VERIFICATIONS, "outcome" => outcome);
        let off = |limit: &'static str| counter!(OFF_LIMITS, "limit" => limit);
        let login = |outcome: &'static str| counter!(LOGINS, "outcome" => outcome);
        Self {
            routes: routes()
                .into_iter()
                .map(|route| (route.path, RouteNumbers::new(route.path, Some(route.door))))
                .collect(),
            nowhere: RouteNumbers::new("none", None),
            mcp: RouteNumbers::new("/mcp", Some(Door::Mcp)),
            mcp_one: RouteNumbers::new("/mcp/{name}", Some(Door::Mcp)),
            accepted: verified("accepted"),
            missing: verified("missing"),
            malformed: verified("malformed"),
            unknown: verified("unknown"),
            expired: verified("expired"),
            revoked_token: verified("revoked"),
            owner_disabled: verified("owner_disabled"),
            unavailable: verified("unavailable"),
            off_network: off("network"),
            over_rate: off("rate"),
            login_good: login("good"),
            login_wrong: login("wrong"),
            login_throttled: login("throttled"),
            login_failed: login("failed"),
            issued: counter!(ISSUED),
            revoked: counter!(REVOKED),
            due_soon_counted: Mutex::new(None),
        }
    }

    /// Whether it is time to count again what is due soon. Whoever is told so does it; others go on
    /// meanwhile.
    pub(crate) fn may_count_due_soon(&self, now: Duration) -> bool {
        let mut counted = self.due_soon_counted.lock();
        let is_time = counted.is_none_or(|at| now.saturating_sub(at) >= BETWEEN_COUNTS);
        if is_time {
            *counted = Some(now);
        }
        is_time
    }

    /// The numbers of the route that matched, if one did.
    pub(crate) fn of(&self, route: Option<&str>) -> &RouteNumbers {
        route.and_then(|route| self.routes.get(route)).unwrap_or(&self.nowhere)
    }

    pub(crate) fn verified<T>(&self, outcome: &Result<T, Refusal>) {
        let counter = match outcome {
            Ok(_) => &self.accepted,
            Err(Refusal::Missing) => &self.missing,
            Err(Refusal::Denied(Denied::Unknown)) => &self.unknown,
            Err(Refusal::Denied(Denied::Expired(_))) => &self.expired,
            // A secret that was replaced is one that was taken back.
            Err(Refusal::Denied(Denied::Revoked(_) | Denied::Retired(_))) => &self.revoked_token,
            Err(Refusal::Denied(Denied::OwnerDisabled)) => &self.owner_disabled,
            Err(Refusal::Denied(_)) => &self.unavailable,
            Err(_) => &self.malformed,
        };
        counter.increment(1);
    }

    pub(crate) fn off_limits(&self, off: &OffLimits) {
        let counter = match off {
            OffLimits::Network { .. } | OffLimits::Policy { .. } => &self.off_network,
            OffLimits::Rate { .. } => &self.over_rate,
        };
        counter.increment(1);
    }
}

/// The authority's verbs that are counted, whichever surface asks for them.
impl AppState {
    pub(crate) async fn login(
        &self,
        email: &str,
        password: String,
        from: Option<IpAddr>,
    ) -> Result<(SessionSecret, Timestamp), AuthorityError> {
        let outcome = self.authority.login(email, password, from).await;
        let counter = match &outcome {
            Ok(_) => &self.numbers.login_good,
            Err(AuthorityError::WrongCredentials) => &self.numbers.login_wrong,
            Err(AuthorityError::Throttled { .. }) => &self.numbers.login_throttled,
            Err(_) => &self.numbers.login_failed,
        };
        counter.increment(1);
        outcome
    }

    pub(crate) async fn issue(&self, by: &By, new: NewPat) -> Result<Issued, AuthorityError> {
        let issued = self.authority.issue(by, new).await?;
        self.numbers.issued.increment(1);
        Ok(issued)
    }

    pub(crate) async fn revoke(&self, by: &By, which: PatRef) -> Result<Revoked, AuthorityError> {
        let revoked = self.authority.revoke(by, which).await?;
        self.numbers.revoked.increment(1);
        Ok(revoked)
    }

    pub(crate) async fn admin_revoke(&self, by: &By, pat_id: Uuid) -> Result<Revoked, AuthorityError> {
        let revoked = self.authority.admin_revoke(by, pat_id).await?;
        self.numbers.revoked.increment(1);
        Ok(revoked)
    }

    pub(crate) async fn admin_revoke_matching(
        &self,
        by: &By,
        filter: &PatFilter,
        expected: u64,
    ) -> Result<PatsRevoked, AuthorityError> {
        let revoked = self.authority.admin_revoke_matching(by, filter, expected).await?;
        self.numbers.revoked.increment(revoked.revoked as u64);
        Ok(revoked)
    }
}
