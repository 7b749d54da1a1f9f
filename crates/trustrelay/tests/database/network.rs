//! The network between a node and its database. On command it fails as networks do.

use std::net::Ipv4Addr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// How many pieces may be on their way at once: more than anyone here sends before the answer.
const PIECES: usize = 1024;
const PIECE: usize = 16 << 10;

/// What becomes of that which is sent one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Passes,
    /// It comes so much later.
    Delays(Duration),
    /// Nothing comes until the way passes again. Then all of it does, as after an interruption that
    /// TCP has outlasted.
    Holds,
    /// It disappears. A connection that has lost something on a way passes nothing more on it, even
    /// when others do.
    Swallows,
    /// The receiver hears that there is no more to come; who sends hears nothing of it.
    Closes,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// The port that new connections lead to.
    target: u16,
    up: Way,
    down: Way,
    refuses: bool,
    cuts: u64,
}

/// A port of the loopback that leads to another one.
pub(crate) struct Network {
    pub(crate) port: u16,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Network {
    pub(crate) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state =
            watch::Sender::new(State { target, up: Way::Passes, down: Way::Passes, refuses: false, cuts: 0 });
        let task = tokio::spawn(accept(listener, state.clone()));
        Self { port, state, task }
    }

    /// What becomes of that which goes up to the target, and of that which comes down from it, also
    /// on open connections.
    pub(crate) fn set(&self, up: Way, down: Way) {
        self.state.send_modify(|state| (state.up, state.down) = (up, down));
    }

    /// Whether new connections are reset.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.state.send_modify(|state| state.refuses = refuses);
    }

    /// Resets all connections on both sides.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Where new connections lead to.
    pub(crate) fn lead_to(&self, target: u16) {
        self.state.send_modify(|state| state.target = target);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, state: watch::Sender<State>) {
    loop {
        let (client, _) = listener.accept().await.expect("connections come");
        let receiver = state.subscribe();
        if receiver.borrow().refuses {
            reset(&client);
        } else {
            tokio::spawn(connect(client, receiver));
        }
    }
}

async fn connect(mut client: TcpStream, mut state: watch::Receiver<State>) {
    let State { target, cuts, .. } = *state.borrow_and_update();
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        return reset(&client);
    };
    for side in [&client, &server] {
        side.set_nodelay(true).expect("set");
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let both = async {
        tokio::join!(
            carry(from_client, to_server, |state| state.up, state.clone()),
            carry(from_server, to_client, |state| state.down, state.clone())
        )
    };
    let mut cut = state.clone();
    tokio::select! {
        _ = both => {}
        // Also when the network is gone.
        _ = cut.wait_for(|state| state.cuts != cuts) => {
            reset(&client);
            reset(&server);
        }
    }
}

/// When it is dropped, the other side hears of an error, and not of an end.
fn reset(side: &TcpStream) {
    SockRef::from(side).set_linger(Some(Duration::ZERO)).expect("set");
}

/// Carries what is sent one way, for as long as anything comes.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: fn(&State) -> Way,
    mut state: watch::Receiver<State>,
) {
    let (send, mut sent) = mpsc::channel(PIECES);
    let reads = async move {
        loop {
            let mut piece = vec![0; PIECE];
            // An error is an end: what was sent before it may still come.
            let length = from.read(&mut piece).await.unwrap_or(0);
            piece.truncate(length);
            if send.send((Instant::now(), piece)).await.is_err() || length == 0 {
                return;
            }
        }
    };
    let writes = async move {
        let (mut is_whole, mut is_open) = (true, true);
        loop {
            let closes = async { state.wait_for(|state| is_open && way(state) == Way::Closes).await.is_ok() };
            let piece = tokio::select! {
                piece = sent.recv() => Some(piece),
                _ = closes => None,
            };
            let Some(piece) = piece else {
                (is_whole, is_open) = (false, false);
                // The receiver may have closed already.
                let _ = to.shutdown().await;
                continue;
            };
            // An empty one is the end, and travels like any other.
            let Some((at, piece)) = piece else { return };
            is_whole &= arrives(at, way, &mut state).await;
            if piece.is_empty() {
                // One side of a broken connection is gone: the other one hears of it once it can.
                drop(state.wait_for(|state| is_whole || way(state) == Way::Passes).await);
                let _ = to.shutdown().await;
                return;
            }
            if is_whole && to.write_all(&piece).await.is_err() {
                is_whole = false;
            }
        }
    };
    tokio::join!(reads, writes);
}

/// Whether something that was sent at a moment arrives; when it does.
async fn arrives(at: Instant, way: fn(&State) -> Way, state: &mut watch::Receiver<State>) -> bool {
    loop {
        let now = way(&state.borrow_and_update());
        match now {
            Way::Passes => return true,
            Way::Delays(by) => {
                sleep_until(at + by).await;
                return true;
            }
            Way::Swallows | Way::Closes => return false,
            Way::Holds if state.changed().await.is_err() => return false,
            Way::Holds => {}
        }
    }
}

/// The network's own stories: a fault that does not happen would make every history a good one.
mod stories {
    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Two ends of one connection through a network.
    struct Line {
        network: Network,
        listener: TcpListener,
        client: TcpStream,
        server: TcpStream,
    }

    impl Line {
        async fn new() -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            let network = Network::to(listener.local_addr().expect("bound").port()).await;
            let client = TcpStream::connect((Ipv4Addr::LOCALHOST, network.port)).await.expect("connects");
            let (server, _) = listener.accept().await.expect("comes");
            let mut line = Self { network, listener, client, server };
            line.talks().await;
            line
        }

        /// What one end says the other one hears.
        async fn talks(&mut self) {
            assert_eq!(said(&mut self.client, &mut self.server).await, "word");
            assert_eq!(said(&mut self.server, &mut self.client).await, "word");
        }

        async fn again(&mut self) {
            self.client =
                TcpStream::connect((Ipv4Addr::LOCALHOST, self.network.port)).await.expect("connects");
            self.server = self.listener.accept().await.expect("comes").0;
            self.talks().await;
        }
    }

    async fn said(from: &mut TcpStream, to: &mut TcpStream) -> String {
        from.write_all(b"word").await.expect("sent");
        heard(to).await
    }

    /// The next word; nothing at the end of the connection.
    async fn heard(end: &mut TcpStream) -> String {
        let mut word = [0; 4];
        let read = tokio::time::timeout(PATIENCE, end.read(&mut word)).await.expect("something comes");
        String::from_utf8_lossy(&word[..read.expect("no error")]).into_owned()
    }

    async fn hears_nothing(end: &mut TcpStream) -> bool {
        tokio::time::timeout(SOON, end.read(&mut [0; 4])).await.is_err()
    }

    #[tokio::test]
    async fn what_is_delayed_comes_so_much_later_and_the_other_way_as_before() {
        let mut line = Line::new().await;
        line.network.set(Way::Delays(SOON * 3), Way::Passes);
        let begun = Instant::now();
        assert_eq!(said(&mut line.server, &mut line.client).await, "word");
        assert_eq!(said(&mut line.client, &mut line.server).await, "word");
        assert!(begun.elapsed() >= SOON * 3);
    }

    #[tokio::test]
    async fn what_is_held_comes_when_the_way_passes_again() {
        let mut line = Line::new().await;
        line.network.set(Way::Passes, Way::Holds);
        line.server.write_all(b"held").await.expect("sent");
        assert!(hears_nothing(&mut line.client).await);
        assert_eq!(said(&mut line.client, &mut line.server).await, "word");
        line.network.set(Way::Passes, Way::Passes);
        assert_eq!(heard(&mut line.client).await, "held");
        line.talks().await;
    }

    #[tokio::test]
    async fn a_connection_that_has_lost_something_stays_silent_and_a_new_one_does_not() {
        let mut line = Line::new().await;
        line.network.set(Way::Swallows, Way::Passes);
        line.client.write_all(b"lost").await.expect("sent");
        assert!(hears_nothing(&mut line.server).await);
        assert_eq!(said(&mut line.server, &mut line.client).await, "word");
        line.network.set(Way::Passes, Way::Passes);
        line.client.write_all(b"more").await.expect("sent");
        assert!(hears_nothing(&mut line.server).await);
        line.again().await;
    }

    #[tokio::test]
    async fn a_way_that_closes_ends_for_the_receiver_alone() {
        let mut line = Line::new().await;
        line.network.set(Way::Passes, Way::Closes);
        assert_eq!(heard(&mut line.client).await, "");
        assert_eq!(said(&mut line.client, &mut line.server).await, "word");
        line.server.write_all(b"lost").await.expect("who sends does not know");
        // A new one is closed as well, also if something is said on it first.
        let new = TcpStream::connect((Ipv4Addr::LOCALHOST, line.network.port)).await;
        line.client = new.expect("connects");
        line.server = line.listener.accept().await.expect("comes").0;
        line.server.write_all(b"lost").await.expect("who sends does not know");
        assert_eq!(heard(&mut line.client).await, "");
        line.network.set(Way::Passes, Way::Passes);
        line.again().await;
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_open_and_a_refusal_what_is_new() {
        let mut line = Line::new().await;
        line.network.refuse(true);
        line.talks().await;
        let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, line.network.port)).await.expect("or not");
        assert!(refused.read(&mut [0; 4]).await.is_err(), "it was reset");
        line.network.cut();
        for end in [&mut line.client, &mut line.server] {
            let read = tokio::time::timeout(PATIENCE, end.read(&mut [0; 4])).await;
            assert!(read.expect("it ends").is_err(), "it was reset");
        }
        line.network.refuse(false);
        line.again().await;
    }

    #[tokio::test]
    async fn new_connections_lead_to_where_it_was_said_last() {
        let mut line = Line::new().await;
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        line.network.lead_to(other.local_addr().expect("bound").port());
        line.talks().await;
        line.listener = other;
        line.again().await;
        line.network.lead_to(free_port());
        let mut nobody = TcpStream::connect((Ipv4Addr::LOCALHOST, line.network.port)).await.expect("or not");
        assert!(nobody.read(&mut [0; 4]).await.is_err(), "nobody is there");
    }

    fn free_port() -> u16 {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.local_addr().expect("bound").port()
    }
}
