//! What the protocol does, and what it assumes, so that its promise holds.

/// One thing that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Safeguard {
    /// A revocation is answered only when no node trusts an index that lacks its entry.
    RevocationsWait,
    /// Who holds a lease and is silent is waited for as long as its lease is, from the look on.
    WaitedForItsLength,
    /// That time is measured by the clock of whoever waits: what a clock of the database's says
    /// ends no lease.
    NoClockOfTheDatabase,
    /// Let go is only what has not renewed since the look, and so lacks the entry.
    LetGoIfSilent,
    /// What is waited for is leases: that a notification was sent says nothing.
    LeasesNotNotifications,
    /// It reads the nodes' rows with a share lock, so that a renewal in progress is waited for.
    ShareLock,
    /// It locks all rows, also those that hold no lease: a renewal may be in progress there.
    EveryRowLocked,
    /// A node's row is committed before its first renewal begins: else there is nothing to lock.
    RowBeforeLease,
    /// A renewal locks its row first and reads the log's head after that, not from a snapshot taken
    /// before.
    HeadReadUnderTheLock,
    /// The log's numbers are taken under a lock that is held to the commit: they have no gaps and
    /// come in commit order.
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
    /// Of an open stream, nothing is handed on without a lease.
    StreamsWait,
    /// Whoever hands something on looks at the lease first, and asks whether the token stands
    /// second.
    LeaseBeforeStanding,
    /// Assumed: what the database has said to be committed survives its failover.
    CommitsSurviveFailover,
}

impl Safeguard {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::RevocationsWait,
        Self::WaitedForItsLength,
        Self::NoClockOfTheDatabase,
        Self::LetGoIfSilent,
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
        Self::StreamsWait,
        Self::LeaseBeforeStanding,
        Self::CommitsSurviveFailover,
    ];
}
