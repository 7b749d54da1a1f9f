//! Stories of a node that is stopped in the middle of changes: the row locks that it holds delay
//! the others, and fail nobody.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use http::StatusCode;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use tokio::task::block_in_place;

use crate::Shared;
use crate::cluster::Cluster;
use crate::nodes::until;
use crate::support::{Api, PATIENCE};

const TOKENS: &str = "/api/user/personal-access-tokens";
/// With how many changes the node is stopped: one, and as many as it has connections for.
const ROUNDS: [usize; 3] = [1, 7, 1];

/// A transaction of somebody else that holds every account's row.
struct Accounts(Child);

impl Accounts {
    fn locked(database: &str) -> Self {
        let cluster = Cluster::shared();
        let mut psql = cluster
            .program("psql")
            .args(["-qAt", "-d", &cluster.url(database)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let sql = "BEGIN; SELECT 'locked' FROM users FOR UPDATE;\n";
        psql.stdin.as_mut().expect("piped").write_all(sql.as_bytes()).expect("asks");
        let mut said = String::new();
        BufReader::new(psql.stdout.as_mut().expect("piped")).read_line(&mut said).expect("answers");
        assert_eq!(said, "locked\n");
        Self(psql)
    }

    fn release(mut self) {
        // The end of its input ends the transaction.
        drop(self.0.stdin.take());
        self.0.wait().expect("ends");
    }
}

fn count(database: &str, what: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trustrelay' AND {what}"
    );
    block_in_place(|| Cluster::shared().sql_in(database, &sql)).parse().expect("a number")
}

async fn create(api: Api) -> StatusCode {
    let body = json!({ "pat_name": "new", "pat_scope": "api" });
    api.request(Method::POST, TOKENS).json(&body).timeout(PATIENCE).send().await.expect("answers").status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_outlive_the_locks_of_a_stopped_node() {
    let shared = Shared::with_account();
    let database = shared.url.rsplit_once('/').expect("a path").1.to_owned();
    let (healthy, stopped) = block_in_place(|| (shared.serve(&[]), shared.serve(&[])));
    let keeper = shared.token("tokens api");
    for changing in ROUNDS {
        // The changes wait for the account's row when the node is stopped. So one after the other
        // gets it, and holds it until the database ends the transaction.
        let accounts = block_in_place(|| Accounts::locked(&database));
        let changes: Vec<_> =
            (0..changing).map(|_| tokio::spawn(create(stopped.api(&keeper.token)))).collect();
        until(PATIENCE, "all changes wait", async || {
            count(&database, "wait_event_type = 'Lock'") == changing
        })
        .await;
        stopped.signal(Signal::STOP);
        block_in_place(|| accounts.release());
        until(PATIENCE, "the stopped node holds the row", async || {
            count(&database, "state = 'idle in transaction'") > 0
        })
        .await;

        let api = healthy.api(&keeper.token);
        assert_eq!(create(api.clone()).await, StatusCode::CREATED);
        let made = api.create("api").await.expect("made");
        api.revoke(&made.id).await.expect("revoked");
        assert_eq!(healthy.api(&made.token).whoami().await.0, 401);

        stopped.signal(Signal::CONT);
        for change in changes {
            let status = change.await.expect("asks");
            // What waited for longer than a node waits for the database is answered so.
            assert!([StatusCode::CREATED, StatusCode::SERVICE_UNAVAILABLE].contains(&status), "{status}");
        }
    }
}
