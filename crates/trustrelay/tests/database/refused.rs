//! Stories of databases that nodes do not start on: one clear line each, and nothing half done.

use crate::cluster::{Cluster, ROLE};
use crate::support::{Api, EMAIL, PASSWORD, Run};
use crate::{Shared, nodes};

/// A server and a command on the same data.
fn both(shared: &Shared, url: &str) -> [Run; 2] {
    let add = ["user", "add", "eve@example.org", "--password-stdin"];
    [&["serve", "--listen", "127.0.0.1:0"][..], &add]
        .map(|args| shared.run(args).stdin(PASSWORD).env("TRUSTRELAY_DATABASE_URL", url))
}

/// Both refuse in one line, and name all of `names`.
#[track_caller]
fn refused(shared: &Shared, url: &str, names: &[&str]) {
    for run in both(shared, url) {
        let line = run.done().refused();
        for name in names {
            assert!(line.contains(name), "`{line}` does not name `{name}`");
        }
    }
}

fn database(shared: &Shared) -> &str {
    shared.url.rsplit_once('/').expect("a path").1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_left_to_the_newer_program() {
    let shared = Shared::with_account();
    let running = tokio::task::block_in_place(|| shared.serve(&[]));
    let made = shared.token("api");
    let api = running.api(&made.token);
    assert_eq!(ready(&api).await, 200);
    let sql = |sql: &str| Cluster::shared().sql_in(database(&shared), sql);
    sql("UPDATE trustrelay_schema SET version = 99");
    refused(&shared, &shared.url, &["schema version 99", "newer TrustRelay", database(&shared)]);
    assert_eq!(sql("SELECT version FROM trustrelay_schema"), "99");
    assert_eq!(sql("SELECT count(*) FROM users"), "1", "nothing half done");
    // A node that ran before is taken out by its balancer; whom it has, it serves to the end.
    assert_eq!(ready(&api).await, 503);
    assert_eq!(api.whoami().await.0, 200);
}

async fn ready(api: &Api) -> u16 {
    api.get("/readyz").await.status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_alone_and_found_to_be_one_beside_its_primary() {
    let shared = Shared::with_account();
    let standby = tokio::task::block_in_place(|| Cluster::standby_of(Cluster::shared()));
    let has_caught_up = async || {
        let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", database(&shared));
        tokio::task::block_in_place(|| standby.sql(&sql)) == "1"
    };
    nodes::until(crate::cluster::PATIENCE, "the standby has the database", has_caught_up).await;
    refused(&shared, &standby.url(database(&shared)), &["read-only", "standby", "primary", "--database-url"]);
    assert_eq!(shared.run(&["user", "list"]).done().good().lines().count(), 1, "nothing half done");

    let socket = |cluster: &Cluster| format!("{}:{}", cluster.socket().replace('/', "%2F"), cluster.port);
    let hosts = format!("{},{}", socket(&standby), socket(Cluster::shared()));
    let url = format!("postgres://{ROLE}@{hosts}/{}", database(&shared));
    let list = shared.run(&["user", "list"]).env("TRUSTRELAY_DATABASE_URL", &url).done().good();
    assert!(list.contains(EMAIL), "{list}");
}

#[test]
fn a_user_without_the_rights_is_told_so_and_leaves_nothing() {
    let shared = Shared::new();
    Cluster::shared().sql("CREATE ROLE stranger LOGIN");
    let stranger = shared.url.replace(ROLE, "stranger");
    refused(&shared, &stranger, &["rights", "owner", database(&shared)]);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(Cluster::shared().sql_in(database(&shared), tables), "0", "nothing half done");

    // Nor does it come in where others have begun.
    shared.run(&["user", "add", EMAIL, "--password-stdin"]).stdin(PASSWORD).done().good();
    refused(&shared, &stranger, &["rights", "owner", database(&shared)]);
    assert_eq!(shared.run(&["user", "list"]).done().good().lines().count(), 1, "nothing half done");
}

/// A node's id is its process's own, made when it starts: nobody can give one to two of them. Names
/// can be the same, and nothing hangs on them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_died_and_one_that_came_in_its_place_under_the_same_name_are_two() {
    let shared = Shared::with_account();
    let keeper = shared.token("tokens api");
    let start = |listen: &str| {
        let run = shared.run(&["serve", "--listen", listen, "--lease", "1s"]);
        tokio::task::block_in_place(|| crate::support::Server::start(run))
    };
    let first = start("127.0.0.1:0");
    let address = first.base.strip_prefix("http://").expect("an address").to_owned();
    assert_eq!(first.api(&keeper.token).whoami().await.0, 200);
    // While it runs, its place is taken.
    let line = shared.run(&["serve", "--listen", &address]).done().refused();
    assert!(line.contains(&address), "{line}");
    drop(first);

    let second = start(&address);
    let port = address.rsplit(':').next().expect("a port");
    let listed = shared.run(&["nodes"]).done().good();
    assert_eq!(listed.matches(&format!(":{port}\t")).count(), 2, "{listed}");
    let api = second.api(&keeper.token);
    let gone = api.create("api").await.expect("made");
    assert_eq!(second.api(&gone.token).whoami().await.0, 200);
    api.revoke(&gone.id).await.expect("revoked");
    assert_eq!(second.api(&gone.token).whoami().await.0, 401);
}
