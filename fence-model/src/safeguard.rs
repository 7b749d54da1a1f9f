//! What the protocol does, and what it assumes, so that its promise holds.

/// One thing that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Safeguard {
    /// A revocation is answered only when no node that holds a lease lacks its entry.
    RevocationsWait,
    /// What is waited for is leases: that a notification was sent says nothing.
    LeasesNotNotifications,
    /// It reads the nodes' rows with a share lock, so that a renewal in progress is waited for.
    ShareLock,
    /// It locks all rows, also those whose lease is over: a renewal may be in progress there.
    EveryRowLocked,
    /// A node's row is committed before its first renewal begins: else there is nothing to lock.
    RowBeforeLease,
    /// A renewal locks its row first and reads the log's head after that, not from a snapshot taken before.
    HeadReadUnderTheLock,
    /// The log's numbers are taken under a lock that is held to the commit: they have no gaps and come in commit order.
    NumbersInCommitOrder,
    /// A node measures its lease from before it asked, and not from the answer.
    MeasuredFromTheAsking,
    /// A node trusts its lease for less than its length: its clock may be slow.
    Margin,
    /// A node's clock counts the time that its machine sleeps.
    ClockCountsSleep,
    /// An answer that did not come, or that is an error, extends nothing.
    UnsureExtendsNothing,
    /// What was read before a change was applied is not put into the index after it.
    AdmissionByEpoch,
    /// A node without a lease does not answer from its index.
    LapsedAskTheStore,
    /// A node without a lease joins no look-up that another verification began.
    LapsedAskAlone,
    /// A node that joins takes the log's head for applied only if its index is empty.
    JoinsWithAnEmptyIndex,
    /// Assumed: the database's clock does not jump ahead.
    SteadyDatabaseClock,
    /// Assumed: what the database has said to be committed survives its failover.
    CommitsSurviveFailover,
}

impl Safeguard {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::RevocationsWait,
        Self::LeasesNotNotifications,
        Self::ShareLock,
        Self::EveryRowLocked,
        Self::RowBeforeLease,
        Self::HeadReadUnderTheLock,
        Self::NumbersInCommitOrder,
        Self::MeasuredFromTheAsking,
        Self::Margin,
        Self::ClockCountsSleep,
        Self::UnsureExtendsNothing,
        Self::AdmissionByEpoch,
        Self::LapsedAskTheStore,
        Self::LapsedAskAlone,
        Self::JoinsWithAnEmptyIndex,
        Self::SteadyDatabaseClock,
        Self::CommitsSurviveFailover,
    ];
}
