//! Databases that can be opened, and those that cannot: the error is one clear line without a
//! password.

use std::net::TcpListener;

use trustrelay_authority::{Holder, MAX_LEASE, Store};
use trustrelay_store::{PostgresOpenError, PostgresStore};
use uuid::Uuid;

use crate::cluster::{Cluster, PASSWORD, ROLE};
use crate::database::{Fresh, client};

async fn refused(url: &str) -> PostgresOpenError {
    let error = PostgresStore::open(url).await.err().expect("refused");
    let line = error.to_string();
    assert!(!line.contains(PASSWORD) && !line.contains("s3cret") && !line.contains('\n'), "{line}");
    error
}

#[tokio::test]
async fn nodes_that_begin_at_once_make_the_schema_once() {
    let database = Cluster::shared().database();
    let url = Cluster::shared().url(&database);
    let empty = PostgresStore::open_begun(&url).await.err().expect("nothing is there");
    assert!(matches!(empty, PostgresOpenError::Empty { .. }), "{empty}");
    let nodes = tokio::join!(
        PostgresStore::open(&url),
        PostgresStore::open(&url),
        PostgresStore::open(&url),
        PostgresStore::open(&url)
    );
    for node in [nodes.0, nodes.1, nodes.2, nodes.3] {
        node.expect("opens").ping().await.expect("answers");
    }
    PostgresStore::open_begun(&url).await.expect("now it is begun");
}

/// The lengths of leases from before are unknown. They are waited for as long as any lease may
/// last, and then released.
#[tokio::test]
async fn a_database_from_before_leases_had_a_length_is_carried_over_with_who_holds_one() {
    let database = Cluster::shared().database();
    let client = client(&database).await;
    client
        .batch_execute(include_str!("../../migrations/postgres/0001_initial.sql"))
        .await
        .expect("as it was");
    client.batch_execute("UPDATE trustrelay_schema SET version = 1").await.expect("set");
    let node = Uuid::now_v7();
    let sql = "INSERT INTO nodes (node_id, name, lease_until, applied_seq) VALUES ($1, 'a:8080', 1, 0)";
    client.execute(sql, &[&node]).await.expect("whatever its clock said");
    let renew = client.prepare("UPDATE nodes SET lease_until = lease_until + 1").await.expect("prepared");
    client.execute(&renew, &[]).await.expect("renews");

    let url = Cluster::shared().url(&database);
    let (one, two) = tokio::join!(PostgresStore::open(&url), PostgresStore::open(&url));
    let store = one.expect("opens");
    two.expect("opens").ping().await.expect("answers");
    let held = store.holders_behind(1, None).await.expect("asks");
    assert_eq!(held, [Holder { node_id: node, claim: 0, length: MAX_LEASE }]);
    assert_eq!(store.nodes().await.expect("asks")[0].name, "a:8080");
    client.execute(&renew, &[]).await.expect_err("a program of before gets no more of them");
    store.let_go(&held).await.expect("lets go");
    assert_eq!(store.holders_behind(1, None).await.expect("asks"), []);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let fresh = Fresh::open().await;
    let client = fresh.client().await;
    client.batch_execute("UPDATE trustrelay_schema SET version = 99").await.expect("newer");
    let url = Cluster::shared().url(&fresh.database);
    let error = refused(&url).await;
    assert!(matches!(error, PostgresOpenError::NewerSchema { found: 99, .. }), "{error}");
    fresh.ping().await.expect_err("a node that runs says that it is not ready");
    let version = client.query_one("SELECT version FROM trustrelay_schema", &[]).await.expect("asks");
    assert_eq!(version.get::<_, i64>(0), 99);
}

#[tokio::test]
async fn what_cannot_be_a_database_for_it_is_refused_with_the_reason() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let network = cluster.network_url(&database);
    PostgresStore::open(&network).await.expect("the password is right");

    let error = refused(&network.replace(PASSWORD, "s3cret")).await;
    assert!(matches!(error, PostgresOpenError::Refused { .. }), "{error}");
    let error = refused(&network.replace(&format!(":{PASSWORD}"), "")).await;
    assert!(matches!(error, PostgresOpenError::Refused { .. }), "{error}");
    let error = refused(&network.replace(ROLE, "nobody")).await;
    assert!(matches!(error, PostgresOpenError::Refused { .. }), "{error}");
    let error = refused(&cluster.network_url("nowhere")).await;
    assert!(matches!(error, PostgresOpenError::NoDatabase { .. }), "{error}");
    assert!(error.to_string().contains("/nowhere"), "{error}");
    let error = refused(&format!("{network}?sslmode=require")).await;
    assert!(matches!(error, PostgresOpenError::Unreachable { .. }), "it speaks no TLS: {error}");
    let error = refused("mysql://ada:s3cret@h/d").await;
    assert!(matches!(error, PostgresOpenError::Url(_)), "{error}");
    let error = refused("postgres://ada:s3cret@h/d?sslmode=verify-full&sslrootcert=/nowhere.pem").await;
    assert!(matches!(error, PostgresOpenError::Certificates(_)), "{error}");

    let latin = "latin";
    cluster
        .sql(&format!("CREATE DATABASE {latin} OWNER {ROLE} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0"));
    let error = refused(&cluster.url(latin)).await;
    assert!(
        matches!(&error, PostgresOpenError::Encoding { encoding, .. } if encoding == "LATIN1"),
        "{error}"
    );
}

#[tokio::test]
async fn a_database_that_it_may_not_write_to_is_left_as_it_is() {
    let cluster = Cluster::shared();
    let read_only = cluster.database();
    cluster.sql(&format!("ALTER DATABASE {read_only} SET default_transaction_read_only = on"));
    let error = refused(&cluster.url(&read_only)).await;
    assert!(matches!(error, PostgresOpenError::ReadOnly { .. }), "{error}");

    let foreign = cluster.database();
    client(&foreign).await.batch_execute("CREATE TABLE users (name TEXT)").await.expect("another program's");
    let error = refused(&cluster.url(&foreign)).await;
    assert!(matches!(error, PostgresOpenError::Foreign { .. }), "{error}");

    let guest = cluster.database();
    cluster.sql("CREATE ROLE guest LOGIN");
    let error = refused(&cluster.url(&guest).replace(ROLE, "guest")).await;
    assert!(matches!(error, PostgresOpenError::NoRights { .. }), "{error}");

    for database in [read_only, foreign, guest] {
        let tables =
            cluster.sql_in(&database, "SELECT count(*) FROM pg_tables WHERE tablename = 'trustrelay_schema'");
        assert_eq!(tables, "0", "nothing half done");
    }
}

#[tokio::test]
async fn who_does_not_answer_is_unreachable_in_bounded_time() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound")
    };
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    for at in [closed, silent.local_addr().expect("bound")] {
        let opening = refused_at(at);
        tokio::time::timeout(crate::cluster::PATIENCE, opening).await.expect("it gives up");
    }
}

async fn refused_at(at: std::net::SocketAddr) {
    let error = refused(&format!("postgres://ada:s3cret@{at}/relay")).await;
    assert!(matches!(error, PostgresOpenError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&at.to_string()), "{error}");
}

/// The settings do not depend on the server's defaults.
#[tokio::test]
async fn each_connection_is_set_to_what_the_promises_need() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    for setting in [
        "synchronous_commit = off",
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = '10s'",
    ] {
        cluster.sql(&format!("ALTER ROLE {ROLE} IN DATABASE {database} SET {setting}"));
    }
    let store = PostgresStore::open(&cluster.url(&database)).await.expect("opens");
    client(&database)
        .await
        .batch_execute(
            "CREATE TABLE seen (name TEXT, setting TEXT); \
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen SELECT name, setting FROM pg_settings; RETURN NEW; END $$; \
             CREATE TRIGGER look BEFORE UPDATE ON log_head FOR EACH ROW EXECUTE FUNCTION look()",
        )
        .await
        .expect("watches");
    crate::kit::change(&store).await;
    for (name, setting) in [
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("statement_timeout", "0"),
    ] {
        let sql = format!("SELECT DISTINCT setting FROM seen WHERE name = '{name}'");
        assert_eq!(cluster.sql_in(&database, &sql), setting, "{name}");
    }
}

/// A stronger setting by the operator is kept.
#[tokio::test]
async fn a_commit_that_waits_for_more_than_the_disk_goes_on_doing_so() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    cluster.sql(&format!("ALTER DATABASE {database} SET synchronous_commit = remote_apply"));
    let store = PostgresStore::open(&cluster.url(&database)).await.expect("opens");
    client(&database)
        .await
        .batch_execute(
            "CREATE TABLE seen (setting TEXT); \
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$; \
             CREATE TRIGGER look BEFORE UPDATE ON log_head FOR EACH ROW EXECUTE FUNCTION look()",
        )
        .await
        .expect("watches");
    crate::kit::change(&store).await;
    assert_eq!(cluster.sql_in(&database, "SELECT DISTINCT setting FROM seen"), "remote_apply");
}
