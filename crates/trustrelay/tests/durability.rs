//! What was answered is true, whenever the server is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "the seed, for who wants to see it again")]

mod support;

use std::collections::HashSet;
use std::sync::Mutex;

use futures_util::future::join_all;
use rustix::process::Signal;
use support::{Api, Made, Place, Server};
use tokio::sync::watch;

const ROUNDS: u64 = 5;
const WRITERS: usize = 8;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).expect("small")
    }
}

/// What has been answered. A token whose revocation was asked for and not answered is in neither
/// set: both are right for it.
#[derive(Default)]
struct Answered {
    made: HashSet<Made>,
    revoked: HashSet<Made>,
}

/// Makes and revokes tokens until the server is gone.
async fn write(api: Api, seed: u64, answered: &Mutex<Answered>, count: &watch::Sender<usize>) {
    let mut random = Random(seed);
    let mut mine: Vec<Made> = Vec::new();
    loop {
        if !mine.is_empty() && random.below(100) < 40 {
            let made = mine.swap_remove(random.below(mine.len()));
            answered.lock().expect("whole").made.remove(&made);
            let Some(_) = api.revoke(&made.id).await else { return };
            answered.lock().expect("whole").revoked.insert(made);
        } else {
            let Some(made) = api.create("api").await else { return };
            answered.lock().expect("whole").made.insert(made.clone());
            mine.push(made);
        }
        count.send_modify(|count| *count += 1);
    }
}

async fn holds(server: &Server, answered: &Answered) {
    let checks = answered
        .made
        .iter()
        .map(|made| (made, true))
        .chain(answered.revoked.iter().map(|made| (made, false)));
    for (made, is_good) in checks {
        let (status, body) = server.api(&made.token).whoami().await;
        if is_good {
            assert_eq!(status, 200, "{} was answered and is lost: {body}", made.id);
            assert_eq!(body["value"]["credential"]["pat_id"], made.id.as_str());
        } else {
            assert_eq!(status, 401, "{} was revoked and is back", made.id);
            let message = body["error"]["message"].as_str().expect("says why");
            assert!(message.contains("revoked"), "{message}");
        }
    }
}

#[tokio::test]
async fn what_was_answered_before_a_kill_is_true_after_it() {
    let place = Place::with_account();
    let root = place.token("api tokens");
    let mut all = Answered::default();
    for seed in 0..ROUNDS {
        let server = place.serve(&[]);
        let api = server.api(&root.token);
        let kill_after = 5 + Random(seed).below(120);
        println!("round {seed}: killed after {kill_after} answers");
        let answered = Mutex::new(std::mem::take(&mut all));
        let (count, mut counted) = watch::channel(0);
        let writers = join_all(
            (0..WRITERS).map(|writer| write(api.clone(), seed * 1000 + writer as u64, &answered, &count)),
        );
        let kill = async {
            counted.wait_for(|count| *count >= kill_after).await.expect("they count");
            server.signal(Signal::KILL);
        };
        tokio::join!(writers, kill);
        assert_eq!(server.end().0, None, "a signal ended it");

        all = answered.into_inner().expect("whole");
        let again = place.serve(&[]);
        assert_eq!(again.api(&root.token).whoami().await.0, 200);
        holds(&again, &all).await;
        again.signal(Signal::KILL);
        again.end();
    }
    assert!(
        all.made.len() > 20 && all.revoked.len() > 20,
        "{} made, {} revoked",
        all.made.len(),
        all.revoked.len()
    );
}

#[tokio::test]
async fn a_revoked_parent_takes_its_children_along_through_a_kill() {
    let place = Place::with_account();
    let root = place.token("api tokens");
    let server = place.serve(&[]);
    let parent = server.api(&root.token).create("api tokens").await.expect("made");
    let child = server.api(&parent.token).create("api").await.expect("made");
    assert_eq!(server.api(&child.token).whoami().await.0, 200);
    server.api(&root.token).revoke(&parent.id).await.expect("revoked");
    server.signal(Signal::KILL);
    server.end();
    let again = place.serve(&[]);
    for token in [&parent.token, &child.token] {
        assert_eq!(again.api(token).whoami().await.0, 401);
    }
    assert_eq!(again.api(&root.token).whoami().await.0, 200);
}
