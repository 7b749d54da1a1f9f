//! The gate before what MCP answers: nothing is handed on that this node cannot vouch for.
//!
//! Whatever takes power away does not wait for a node whose lease is over, so what is open there
//! may be of a token that is revoked by now, or of an upstream that was taken from its account.
//! While the lease does not hold, frames wait; none is lost, and the upstream waits with them. When
//! it holds again, the log has been applied, and of what was taken away nothing comes any more.
//! `docs/FENCE.md` has the argument.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::futures::OwnedNotified;
use tokio::time::timeout;
use trustrelay_authority::{Authority, Look};
use trustrelay_relay::{Admitted, RelayBody};

/// How long an answer waits at most for the lease to be held again: about as long as proxies and
/// clients bear silence. Then it is ended.
pub(crate) const WAIT: Duration = Duration::from_secs(30);
/// How long a stream that is cut may take for the relay's own last word, which is there at once.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A node's word on whether what it has is up to date.
pub(crate) trait Lease: Send + Sync + 'static {
    /// Whether the lease holds just now, and what time it is. If it does, whatever was taken away
    /// before has been applied here.
    fn look(&self) -> Look;
    /// Whether the policy lets tokens be used from there.
    fn admits_from(&self, address: Option<IpAddr>) -> bool;
    /// Ends when it has been renewed, or a principal may have ceased to stand, from the call on.
    fn changed(&self) -> OwnedNotified;
}

impl Lease for Authority {
    fn look(&self) -> Look {
        Self::look(self)
    }

    fn admits_from(&self, address: Option<IpAddr>) -> bool {
        Self::admits_from(self, address)
    }

    fn changed(&self) -> OwnedNotified {
        self.lease_changed()
    }
}

/// A body that can be told to say no more of what it was about.
pub(crate) trait Gateable:
    http_body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Unpin + Send + 'static
{
    /// From now on nothing comes but its last word; whether there may be one.
    fn cut(&mut self) -> bool;
    /// Whether what came last was that.
    fn has_said_its_last_word(&self) -> bool;
}

impl Gateable for RelayBody {
    fn cut(&mut self) -> bool {
        RelayBody::cut(self);
        true
    }

    fn has_said_its_last_word(&self) -> bool {
        RelayBody::has_said_its_last_word(self)
    }
}

/// An answer that is carried from another node.
impl Gateable for Body {
    fn cut(&mut self) -> bool {
        false
    }

    fn has_said_its_last_word(&self) -> bool {
        false
    }
}

/// What becomes of what waits to be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It may be handed on.
    Open,
    /// What its request was let in by is gone: the token was revoked, has expired or has another
    /// secret, the account was disabled or lost an upstream, or the policy does not allow the
    /// client's network any more.
    Cut,
    /// The lease was not held again in time.
    Late,
}

/// What can be said at once. In this order: a lease that holds at this moment says that whatever
/// was taken away before it has been applied, so whatever is asked after that knows of it.
fn now(lease: &impl Lease, caller: &Admitted) -> Option<Passage> {
    let Look { holds, now } = lease.look();
    if !caller.stands() || caller.has_expired_by(now) || !lease.admits_from(caller.address()) {
        return Some(Passage::Cut);
    }
    holds.then_some(Passage::Open)
}

/// Waits until something can be said, for a bounded time.
pub(crate) async fn passage<L: Lease>(lease: &L, caller: &Admitted) -> Passage {
    // As a rule at once.
    if let Some(passage) = now(lease, caller) {
        return passage;
    }
    let said = async {
        loop {
            // First, so that nothing is missed that changes after the look.
            let changed = lease.changed();
            if let Some(passage) = now(lease, caller) {
                return passage;
            }
            changed.await;
        }
    };
    timeout(WAIT, said).await.unwrap_or(Passage::Late)
}

/// The lease was lost for too long.
#[derive(Debug, thiserror::Error)]
#[error("the node can no longer confirm that the token is valid")]
struct Unvouched;

/// What came from the body: a frame, or its end.
type Came = Option<Result<Frame<Bytes>, axum::BoxError>>;

enum State {
    Passing,
    /// Nothing but the last word comes.
    Cut,
    Ended,
}

/// A body behind the gate.
pub(crate) struct Gated<B: Gateable, L: Lease = Authority> {
    body: B,
    lease: Arc<L>,
    caller: Admitted,
    state: State,
    /// What has to wait, and for what: only while the gate is shut.
    held: Option<Came>,
    wait: Option<Pin<Box<dyn Future<Output = Passage> + Send>>>,
}

impl<B: Gateable, L: Lease> Gated<B, L> {
    pub(crate) fn new(body: B, lease: Arc<L>, caller: Admitted) -> Self {
        Self { body, lease, caller, state: State::Passing, held: None, wait: None }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        let came = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(came.map(|came| came.map_err(Into::into)))
    }

    fn poll_passage(&mut self, cx: &mut Context<'_>) -> Poll<Passage> {
        if let Some(passage) = now(&*self.lease, &self.caller) {
            self.wait = None;
            return Poll::Ready(passage);
        }
        let (lease, caller) = (&self.lease, &self.caller);
        let wait = self.wait.get_or_insert_with(|| {
            let (lease, caller) = (Arc::clone(lease), caller.clone());
            Box::pin(async move { passage(&*lease, &caller).await })
        });
        let passage = ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(passage)
    }

    /// The last word of a body that is cut, and no more.
    fn poll_last_word(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        let wait = self.wait.get_or_insert_with(|| {
            Box::pin(async {
                tokio::time::sleep(LAST_WORD).await;
                Passage::Late
            })
        });
        let over = wait.as_mut().poll(cx).is_ready();
        match self.poll_body(cx) {
            Poll::Ready(Some(word)) if self.body.has_said_its_last_word() => Poll::Ready(Some(word)),
            Poll::Pending if !over => Poll::Pending,
            _ => Poll::Ready(None),
        }
    }
}

impl<B: Gateable, L: Lease> http_body::Body for Gated<B, L> {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Came> {
        let this = self.get_mut();
        if let State::Passing = this.state {
            if this.held.is_none() {
                this.held = Some(ready!(this.poll_body(cx)));
            }
            let passage = ready!(this.poll_passage(cx));
            let came = this.held.take().flatten();
            match passage {
                Passage::Open => {
                    if came.is_none() {
                        this.state = State::Ended;
                    }
                    return Poll::Ready(came);
                }
                Passage::Late => {
                    this.state = State::Ended;
                    return Poll::Ready(Some(Err(Unvouched.into())));
                }
                Passage::Cut if this.body.has_said_its_last_word() => {
                    this.state = State::Ended;
                    return Poll::Ready(came);
                }
                Passage::Cut if came.is_some() && this.body.cut() => this.state = State::Cut,
                Passage::Cut => this.state = State::Ended,
            }
        }
        if let State::Cut = this.state {
            let word = ready!(this.poll_last_word(cx));
            this.wait = None;
            this.state = State::Ended;
            return Poll::Ready(word);
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Passing => self.held.is_none() && self.body.is_end_stream(),
            State::Cut => false,
            State::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.state, &self.held) {
            (State::Passing, None) => self.body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
