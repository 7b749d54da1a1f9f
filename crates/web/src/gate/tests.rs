//! Stories of the gate, with a lease that is held and lost by hand.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use futures_util::FutureExt;
use futures_util::future::join_all;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use trustrelay_token::{Account, Pat, Principal, ScopeSet};
use uuid::Uuid;

use super::*;

/// How often the lease is looked at before something waits.
const LOOKS_BEFORE_IT_WAITS: usize = 3;

type Happens = Box<dyn FnOnce() + Send>;

/// A lease, and what happens while it is looked at.
#[derive(Default)]
struct ByHand {
    held: AtomicBool,
    changed: Arc<Notify>,
    looks: AtomicUsize,
    /// In microseconds.
    time: AtomicI64,
    /// Whether the policy lets no network in.
    closed: AtomicBool,
    /// What happens during which look: the answer is of before it.
    while_looking: Mutex<Option<(usize, Happens)>>,
}

impl ByHand {
    fn new(held: bool) -> Arc<Self> {
        Arc::new(Self { held: held.into(), ..Self::default() })
    }

    fn lose(&self) {
        self.held.store(false, Ordering::SeqCst);
    }

    fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Applies a revocation, as the log has it.
    fn revoke(&self, principal: &Principal) {
        principal.standing().end(Timestamp::UNIX_EPOCH);
        self.changed.notify_waiters();
    }
}

impl Lease for ByHand {
    fn look(&self) -> Look {
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        let held = self.held.load(Ordering::SeqCst);
        let happens = self.while_looking.lock().expect("whole").take_if(|(at, _)| *at == look);
        if let Some((_, happens)) = happens {
            happens();
        }
        Look { holds: held, now: self.time.load(Ordering::SeqCst) }
    }

    fn admits_from(&self, _: Option<IpAddr>) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }

    fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.changed).notified_owned()
    }
}

/// A body whose frames are sent by hand, as the relay's are.
struct Frames {
    frames: mpsc::Receiver<Frame<Bytes>>,
    last_word: Option<Bytes>,
    cut: bool,
    said: bool,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Came> {
        loop {
            match ready!(self.frames.poll_recv(cx)) {
                Some(_) if self.cut => {}
                Some(frame) => return Poll::Ready(Some(Ok(frame))),
                None => {
                    let word = self.last_word.take();
                    self.said = word.is_some();
                    return Poll::Ready(word.map(|word| Ok(Frame::data(word))));
                }
            }
        }
    }
}

impl Gateable for Frames {
    fn cut(&mut self) -> bool {
        self.cut = true;
        true
    }

    fn has_said_its_last_word(&self) -> bool {
        self.said
    }
}

fn principal() -> Arc<Principal> {
    let (account, scopes) = (Arc::new(Account::default()), Arc::new(ScopeSet::all()));
    Arc::new(Principal::with_pat(account, Pat::new(Uuid::nil(), "", ""), scopes, Timestamp::MAX))
}

type Stream = (mpsc::Sender<Frame<Bytes>>, Gated<Frames, ByHand>);

fn stream(lease: &Arc<ByHand>, principal: &Arc<Principal>, last_word: Option<&'static str>) -> Stream {
    let (sender, frames) = mpsc::channel(2);
    let last_word = last_word.map(bytes);
    let body = Frames { frames, last_word, cut: false, said: false };
    (sender, Gated::new(body, Arc::clone(lease), Arc::clone(principal).into()))
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn say(sender: &mpsc::Sender<Frame<Bytes>>, text: &'static str) {
    sender.send(Frame::data(bytes(text))).await.expect("it is read");
}

/// The next thing that comes: a frame's text, an error, or the end; `None` if nothing comes now.
fn next(body: &mut Gated<Frames, ByHand>) -> Option<String> {
    Some(match body.frame().now_or_never()? {
        None => "(end)".to_owned(),
        Some(Err(error)) => format!("({error})"),
        Some(Ok(frame)) => match frame.into_data() {
            Ok(data) => String::from_utf8(data.to_vec()).expect("text"),
            Err(_) => "(trailers)".to_owned(),
        },
    })
}

#[tokio::test]
async fn while_the_lease_holds_everything_passes_as_it_comes() {
    let (lease, who) = (ByHand::new(true), principal());
    let (sender, mut body) = stream(&lease, &who, None);
    assert_eq!(next(&mut body), None);
    say(&sender, "a").await;
    assert_eq!(next(&mut body).as_deref(), Some("a"));
    sender.send(Frame::trailers(HeaderMap::new())).await.expect("read");
    assert_eq!(next(&mut body).as_deref(), Some("(trailers)"));
    drop(sender);
    assert_eq!(next(&mut body).as_deref(), Some("(end)"));
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn without_it_frames_wait_and_none_is_lost() {
    let (lease, who) = (ByHand::new(true), principal());
    let (sender, mut body) = stream(&lease, &who, None);
    for text in ["a", "b"] {
        say(&sender, text).await;
    }
    assert_eq!(next(&mut body).as_deref(), Some("a"));
    lease.lose();
    assert_eq!(next(&mut body), None);
    // One waits at the gate, and two before it: whoever sends more waits as well.
    say(&sender, "c").await;
    say(&sender, "d").await;
    assert!(sender.try_send(Frame::data(Bytes::new())).is_err());
    assert_eq!(next(&mut body), None);
    lease.hold();
    drop(sender);
    for text in ["b", "c", "d", "(end)"] {
        assert_eq!(next(&mut body).as_deref(), Some(text));
    }
}

#[tokio::test]
async fn the_end_and_the_trailers_wait_too() {
    let (lease, who) = (ByHand::new(false), principal());
    let (sender, mut body) = stream(&lease, &who, None);
    sender.send(Frame::trailers(HeaderMap::new())).await.expect("read");
    drop(sender);
    assert_eq!(next(&mut body), None);
    lease.hold();
    assert_eq!(next(&mut body).as_deref(), Some("(trailers)"));
    lease.lose();
    assert_eq!(next(&mut body), None, "that a stream has ended says that it was whole");
    assert!(!body.is_end_stream());
    lease.hold();
    assert_eq!(next(&mut body).as_deref(), Some("(end)"));
}

#[tokio::test]
async fn what_is_revoked_meanwhile_ends_at_once_and_nothing_of_it_comes() {
    let (lease, who) = (ByHand::new(true), principal());
    let (sender, mut body) = stream(&lease, &who, Some("the last word"));
    for text in ["a", "b"] {
        say(&sender, text).await;
    }
    lease.lose();
    assert_eq!(next(&mut body), None);
    say(&sender, "c").await;
    lease.revoke(&who);
    assert_eq!(next(&mut body), None, "what is open is about to be cut");
    drop(sender);
    assert_eq!(next(&mut body).as_deref(), Some("the last word"), "although the gate is shut");
    assert_eq!(next(&mut body).as_deref(), Some("(end)"));
}

type Lose = fn(&ByHand, &Principal);

/// All that can be taken from whoever has something open, as the log's entries and the clock do it.
fn losses() -> Vec<(&'static str, Lose)> {
    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).expect("in range")
    }
    vec![
        ("the token is revoked", |_, who| who.standing().end(at(1))),
        ("the account is disabled", |_, who| who.account().standing.end(at(1))),
        ("the account loses an upstream", |_, who| who.account().upstreams.hold_to(Some(&["b".to_owned()]))),
        ("it loses one and gets it back", |_, who| {
            who.account().upstreams.hold_to(Some(&[]));
            who.account().upstreams.hold_to(None);
        }),
        ("the policy allows other networks alone", |lease, _| lease.closed.store(true, Ordering::SeqCst)),
        ("the secret is replaced at once", |_, who| who.standing().end(at(1))),
        ("the secret is replaced and its overlap is over", |lease, who| {
            who.expire_by(at(5));
            lease.time.store(5, Ordering::SeqCst);
        }),
        ("the token expires", |lease, who| {
            lease.time.store(who.expires_at().as_microsecond(), Ordering::SeqCst)
        }),
    ]
}

/// On a node that had no lease when it happened, and on one that had: head, frames and end alike.
#[tokio::test]
async fn nothing_is_handed_on_after_any_kind_of_loss() {
    for (kind, lose) in losses() {
        for held in [false, true] {
            let (lease, who) = (ByHand::new(true), principal());
            let caller = Admitted::from(Arc::clone(&who));
            let (sender, mut body) = stream(&lease, &who, Some("the last word"));
            say(&sender, "a").await;
            assert_eq!(next(&mut body).as_deref(), Some("a"), "{kind}");
            if !held {
                lease.lose();
            }
            say(&sender, "made before or after").await;
            lose(&lease, &who);
            say(&sender, "made after").await;
            lease.hold();
            assert_eq!(passage(&*lease, &caller).await, Passage::Cut, "{kind}: a head");
            assert_eq!(next(&mut body), None, "{kind}");
            drop(sender);
            assert_eq!(next(&mut body).as_deref(), Some("the last word"), "{kind}");
            assert_eq!(next(&mut body).as_deref(), Some("(end)"), "{kind}");
            let text = Body::new(Full::new(bytes("a whole answer")));
            let mut whole = Gated::new(text, Arc::clone(&lease), caller);
            assert!(
                whole.frame().now_or_never().is_some_and(|came| came.is_none()),
                "{kind}: a whole answer"
            );
        }
    }
}

/// A secret that is good for a while yet, and an account that gets more.
#[tokio::test]
async fn what_takes_nothing_away_ends_nothing() {
    let (lease, who) = (ByHand::new(true), principal());
    who.account().upstreams.hold_to(Some(&["a".to_owned()]));
    let (sender, mut body) = stream(&lease, &who, None);
    who.expire_by(Timestamp::from_microsecond(5).expect("in range"));
    lease.time.store(4, Ordering::SeqCst);
    who.account().upstreams.hold_to(Some(&["a".to_owned(), "b".to_owned()]));
    who.account().upstreams.hold_to(None);
    say(&sender, "a").await;
    assert_eq!(next(&mut body).as_deref(), Some("a"));
}

/// Cut while it waits for more, and the lease holds: the usual case.
#[tokio::test]
async fn a_last_word_passes_of_what_was_revoked_and_what_stands_before_it_does_not() {
    let (lease, who) = (ByHand::new(true), principal());
    let (sender, mut body) = stream(&lease, &who, Some("the last word"));
    assert_eq!(next(&mut body), None);
    lease.revoke(&who);
    drop(sender);
    assert_eq!(next(&mut body).as_deref(), Some("the last word"));
    assert_eq!(next(&mut body).as_deref(), Some("(end)"));

    let who = principal();
    let (sender, mut body) = stream(&lease, &who, None);
    say(&sender, "a").await;
    lease.revoke(&who);
    drop(sender);
    assert_eq!(next(&mut body).as_deref(), Some("(end)"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_revoked_ends_also_if_nobody_cuts_it() {
    let (lease, who) = (ByHand::new(true), principal());
    let (sender, mut body) = stream(&lease, &who, Some("the last word"));
    say(&sender, "a").await;
    lease.revoke(&who);
    assert_eq!(next(&mut body), None);
    sleep(LAST_WORD).await;
    assert_eq!(next(&mut body).as_deref(), Some("(end)"));
    assert!(body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_too_long_is_broken_off() {
    let (lease, who) = (ByHand::new(false), principal());
    let (sender, mut body) = stream(&lease, &who, Some("the last word"));
    sleep(WAIT).await;
    assert_eq!(next(&mut body), None, "who has nothing to hand on waits for nothing");
    say(&sender, "a").await;
    assert_eq!(next(&mut body), None);
    sleep(WAIT - Duration::from_millis(1)).await;
    assert_eq!(next(&mut body), None);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(next(&mut body).as_deref(), Some("(the node can no longer confirm that the token is valid)"));
    lease.hold();
    assert_eq!(next(&mut body).as_deref(), Some("(end)"), "nothing comes after a gap");
    assert_eq!(passage(&*ByHand::new(false), &who.into()).await, Passage::Late);
}

/// Both happen between two looks: the lease is lost and taken again with the revocation applied.
/// Who asks for the standing first, and for the lease second, is told of the one before and of the
/// other after it.
#[tokio::test]
async fn a_lease_that_is_looked_at_vouches_for_the_standing_that_is_asked_for_after_it() {
    let (lease, who) = (ByHand::new(true), principal());
    let (sender, mut body) = stream(&lease, &who, None);
    say(&sender, "a").await;
    let revoked = Arc::clone(&who);
    *lease.while_looking.lock().expect("whole") =
        Some((0, Box::new(move || revoked.standing().end(Timestamp::UNIX_EPOCH))));
    drop(sender);
    assert_eq!(next(&mut body).as_deref(), Some("(end)"));
}

/// It is held again between a look and the wait, whichever of the looks that is that come before it
/// waits.
#[tokio::test(start_paused = true)]
async fn no_wake_up_is_lost() {
    for look in 0..LOOKS_BEFORE_IT_WAITS {
        let (lease, who) = (ByHand::new(false), principal());
        let held = Arc::clone(&lease);
        *lease.while_looking.lock().expect("whole") = Some((look, Box::new(move || held.hold())));
        let (sender, mut body) = stream(&lease, &who, None);
        say(&sender, "a").await;
        let begun = Instant::now();
        let came = timeout(WAIT / 2, body.frame()).await.expect("it is told").expect("a frame");
        assert_eq!(came.expect("good").into_data().expect("data"), "a");
        assert_eq!(begun.elapsed(), Duration::ZERO, "found out by chance, after look {look}");
    }
    let (lease, who) = (ByHand::new(false), principal());
    let (sender, mut body) = stream(&lease, &who, None);
    say(&sender, "a").await;
    assert_eq!(next(&mut body), None);
    assert_eq!(lease.looks.load(Ordering::SeqCst), LOOKS_BEFORE_IT_WAITS, "there are no more");
}

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn ten_thousand_streams_are_woken_by_one_thing_and_each_once() {
    // Without Tokio's budget, which would let only so many be polled at a time.
    tokio::task::unconstrained(ten_thousand_streams()).await;
}

async fn ten_thousand_streams() {
    const STREAMS: usize = 10_000;
    let (lease, who) = (ByHand::new(false), principal());
    let mut streams: Vec<_> = (0..STREAMS).map(|_| stream(&lease, &who, None)).collect();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    for (sender, body) in &mut streams {
        say(sender, "a").await;
        let polled = Pin::new(body).poll_frame(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    lease.hold();
    assert_eq!(woken.0.load(Ordering::SeqCst), STREAMS);
    let before = lease.looks.load(Ordering::SeqCst);
    let came = join_all(streams.iter_mut().map(|(_, body)| body.frame())).await;
    assert!(came.into_iter().all(|came| came.is_some_and(|came| came.is_ok())));
    assert_eq!(lease.looks.load(Ordering::SeqCst) - before, STREAMS, "a look for each, and no more");
}

#[test]
fn a_whole_answer_says_how_long_it_is_and_an_empty_one_that_it_is_over() {
    let (lease, who) = (ByHand::new(true), principal());
    let gated = |text: &'static str| {
        let body = Body::new(Full::new(bytes(text)));
        Gated::new(body, Arc::clone(&lease), Arc::clone(&who).into())
    };
    assert_eq!((gated("four").size_hint().exact(), gated("four").is_end_stream()), (Some(4), false));
    assert_eq!((gated("").size_hint().exact(), gated("").is_end_stream()), (Some(0), true));
}
