//! TLS to the database, with libpq's meaning.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use trustrelay_authority::Store;
use trustrelay_store::{PostgresOpenError, PostgresStore};

use crate::cluster::Cluster;

/// The certificate of an authority, and a server certificate that it has signed for `host`.
struct Signed {
    authority: String,
    certificate: String,
    key: String,
}

fn signed(host: &str) -> Signed {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("good");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("signed").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec![host.to_owned()])
        .expect("good")
        .signed_by(&key, &issuer)
        .expect("signed");
    Signed { authority, certificate: certificate.pem(), key: key.serialize_pem() }
}

fn serving(signed: &Signed) -> Cluster {
    let mut cluster = Cluster::start();
    cluster.put("server.crt", &signed.certificate);
    cluster.put("server.key", &signed.key);
    cluster.append("postgresql.conf", "ssl = on\n");
    cluster.crash();
    cluster.begin();
    cluster
}

#[tokio::test]
async fn a_server_is_believed_as_far_as_sslmode_says() {
    let dir = TempDir::new().expect("a folder");
    let good = signed("127.0.0.1");
    let (elsewhere, stranger) = (signed("db.example.org"), signed("127.0.0.1"));
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let strangers = file("stranger.pem", &stranger.authority);
    let empty = file("empty.pem", "");
    for (server, full) in [(&good, true), (&elsewhere, false)] {
        let cluster = serving(server);
        let own = file("own.pem", &server.authority);
        let database = cluster.database();
        let url = |query: &str| format!("{}?{query}", cluster.network_url(&database));
        let is_encrypted = || {
            let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'trustrelay'";
            cluster.sql(sql)
        };
        for (query, accepted) in [
            ("sslmode=prefer".to_owned(), true),
            ("sslmode=require".to_owned(), true),
            (format!("sslmode=require&sslrootcert={strangers}"), false),
            (format!("sslmode=verify-ca&sslrootcert={own}"), true),
            (format!("sslmode=verify-ca&sslrootcert={strangers}"), false),
            (format!("sslmode=verify-full&sslrootcert={own}"), full),
            (format!("sslmode=verify-full&sslrootcert={strangers}"), false),
            ("sslmode=verify-full".to_owned(), false),
        ] {
            match PostgresStore::open(&url(&query)).await {
                Ok(store) => {
                    store.ping().await.expect("answers");
                    assert!(accepted, "{query} was accepted");
                    assert_eq!(is_encrypted(), "t", "{query}");
                }
                Err(error) => {
                    assert!(!accepted, "{query}: {error}");
                    assert!(matches!(&error, PostgresOpenError::Unreachable { .. }), "{query}: {error}");
                    assert!(error.to_string().contains("certificate"), "{query}: {error}");
                }
            }
        }
        let store = PostgresStore::open(&url("sslmode=disable")).await.expect("the server allows it");
        store.ping().await.expect("answers");
        let error = PostgresStore::open(&url(&format!("sslmode=verify-ca&sslrootcert={empty}"))).await.err();
        assert!(matches!(error, Some(PostgresOpenError::Certificates(_))), "{error:?}");
    }
}
