//! A small world: the real router over the real SQLite store, in process, with a clock that is
//! moved by hand.

mod answer;
mod call;
pub(crate) mod described;
mod logs;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use trustrelay_authority::{
    AllowsFrom, AuditEntry, AuditStore as _, Authority, AuthorityConfig, CheckedUrl, Courier, Cut, Expiry,
    Issued, ManualClock, NewAccount, NewPat, Outgoing, ServerSecret, To, Undelivered,
};
use trustrelay_relay::{Relay, RelayConfig, UpstreamConfig, UpstreamTransport};
use trustrelay_store::{SqliteOptions, SqliteStore};
use trustrelay_token::TokenDigest;
use trustrelay_web::{AppState, GithubKeys, TrustedProxies, WebConfig};
use uuid::Uuid;
use zeroize::Zeroizing;

pub(crate) use answer::Answer;
pub(crate) use call::Call;
pub(crate) use logs::Logs;

pub(crate) const ADA: &str = "ada@example.org";
pub(crate) const EVE: &str = "eve@example.org";
pub(crate) const PASSWORD: &str = "correct horse battery";
/// The world's beginning. Far ahead, since the relay goes by the machine's own clock: its tokens
/// never expire there.
pub(crate) const NOW: &str = "2126-04-07T00:00:00Z";
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) router: Router,
    /// What the operators' own address serves.
    pub(crate) ops_router: Router,
    store: Arc<SqliteStore>,
    /// What no answer may repeat, but the one that makes it.
    secrets: Mutex<Vec<String>>,
    _dir: tempfile::TempDir,
}

struct CutRelay(Relay);

impl Cut for CutRelay {
    fn cut_token(&self, pat_id: Uuid) -> Vec<u64> {
        self.0.cut_token(pat_id).sessions
    }

    fn cut_user(&self, user_id: Uuid) -> Vec<u64> {
        self.0.cut_user(user_id).sessions
    }

    fn cut_secret(&self, pat_id: Uuid, digest: &TokenDigest) -> usize {
        let cut = self.0.cut_secret(pat_id, digest);
        cut.streams + cut.calls
    }

    fn cut_from_elsewhere(&self, allows: Option<AllowsFrom>) -> usize {
        let cut = self.0.cut_from_elsewhere(allows);
        cut.streams + cut.calls
    }
}

/// Everything arrives but at `https://down.example`, and a URL is https.
struct Receiver;

#[async_trait::async_trait]
impl Courier for Receiver {
    fn has_mail(&self) -> bool {
        true
    }

    fn check_webhook(&self, url: &str) -> Result<CheckedUrl, String> {
        let host = url.strip_prefix("https://").ok_or("must begin with https://")?;
        let origin = format!("https://{}", host.split('/').next().unwrap_or_default());
        Ok(CheckedUrl { url: url.to_owned(), origin })
    }

    async fn carry(&self, outgoing: Outgoing<'_>) -> Result<(), Undelivered> {
        match outgoing.to {
            To::Webhook { url, .. } if url.starts_with("https://down.example") => {
                Err(Undelivered::Later("the receiver answered 500".into()))
            }
            _ => Ok(()),
        }
    }
}

/// What a world is made with, where a story needs another than usual.
pub(crate) struct Setting {
    pub(crate) public_url: Option<&'static str>,
    pub(crate) secure_cookies: bool,
    pub(crate) time_limit: Duration,
    pub(crate) metrics: Option<PrometheusHandle>,
    pub(crate) metrics_elsewhere: bool,
    pub(crate) proxies: TrustedProxies,
    pub(crate) github_keys: Option<Arc<GithubKeys>>,
    pub(crate) accounts: &'static [&'static str],
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            public_url: None,
            secure_cookies: false,
            time_limit: Duration::from_secs(30),
            metrics: None,
            metrics_elsewhere: false,
            proxies: TrustedProxies::default(),
            github_keys: None,
            accounts: &[ADA, EVE],
        }
    }
}

impl World {
    /// A server with Ada and Eve on it, and an upstream `github` that is not running.
    pub(crate) async fn new() -> Self {
        Self::with(Setting::default()).await
    }

    pub(crate) async fn with(setting: Setting) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens"));
        let secret = ServerSecret::generate().expect("random");
        let clock = Arc::new(ManualClock::at(NOW.parse().expect("a time")));
        // An hour: a lease is lost when a story moves the clock past it, and not renewed behind the
        // story's back.
        let config = AuthorityConfig {
            password_memory_kib: 8,
            lease: Duration::from_secs(3600),
            ..AuthorityConfig::default()
        };
        let authority =
            Authority::open(store.clone(), &[secret], clock.clone(), config).await.expect("opens");
        // Port 9 of this machine: nothing answers there.
        let transport = UpstreamTransport::Http {
            url: "http://127.0.0.1:9/mcp".parse().expect("a URL"),
            headers: vec![],
        };
        let upstreams = vec![UpstreamConfig { name: "github".parse().expect("a name"), transport }];
        let relay = Relay::new(RelayConfig { upstreams, ..RelayConfig::default() }).expect("a relay");
        authority.set_cut(Arc::new(CutRelay(relay.clone())));
        authority.set_courier(Arc::new(Receiver));
        authority.start().await.expect("starts");
        let web = WebConfig {
            public_url: setting.public_url.map(|url| url.parse().expect("a URL")),
            secure_cookies: setting.secure_cookies,
            metrics: setting.metrics,
            metrics_elsewhere: setting.metrics_elsewhere,
            proxies: setting.proxies,
            github_keys: setting.github_keys,
            ..WebConfig::default()
        };
        let state = AppState::new(authority.clone(), relay, web).with_time_limit(setting.time_limit);
        let ops_router = trustrelay_web::ops_router(state.clone());
        let router = trustrelay_web::router(state);
        for email in setting.accounts {
            let password = Zeroizing::new(PASSWORD.to_owned());
            let account = NewAccount { email: (*email).into(), password, is_admin: *email == ADA };
            authority.add_account(account).await.expect("added");
        }
        Self {
            clock,
            authority,
            router,
            ops_router,
            store,
            secrets: Mutex::new(vec![PASSWORD.to_owned()]),
            _dir: dir,
        }
    }

    /// A token of Ada's.
    pub(crate) async fn token(&self, scope: &str) -> Issued {
        self.token_of(ADA, scope).await
    }

    pub(crate) async fn token_of(&self, email: &str, scope: &str) -> Issued {
        let new = NewPat {
            name: "ci-pipeline".into(),
            scope: scope.into(),
            expiry: Expiry::Default,
            ..NewPat::default()
        };
        let issued = self.authority.issue_for(email, new).await.expect("issued");
        self.keep_secret(issued.token.expose());
        issued
    }

    /// The id of an account.
    pub(crate) async fn id_of(&self, email: &str) -> String {
        let accounts = self.authority.accounts().await.expect("asks");
        accounts.into_iter().find(|user| user.email == email).expect("there").user_id.to_string()
    }

    /// Ada's browser: the value of its cookie.
    pub(crate) async fn browser(&self) -> String {
        self.browser_of(ADA).await
    }

    pub(crate) async fn browser_of(&self, email: &str) -> String {
        let (secret, _) = self.authority.login(email, PASSWORD.into(), None).await.expect("signs in");
        self.keep_secret(secret.expose());
        secret.expose().to_owned()
    }

    /// From now on no answer may hold it.
    pub(crate) fn keep_secret(&self, secret: &str) {
        self.secrets.lock().push(secret.to_owned());
    }

    /// All of the audit log.
    pub(crate) async fn audit(&self) -> Vec<AuditEntry> {
        let log = self.store.audit_after(0, 10_000).await.expect("asks");
        log.iter().map(|record| AuditEntry::from_bytes(&record.entry).expect("reads")).collect()
    }

    /// Goes where a form has led to, as a browser does: with what it was handed for that page.
    pub(crate) async fn follow(&self, session: &str, answer: &Answer) -> Answer {
        assert_eq!(answer.status, http::StatusCode::SEE_OTHER, "{answer}");
        let call = self.get(answer.header("location")).session(session);
        match answer.header("set-cookie").split_once(';') {
            Some((once, _)) => call.header("cookie", once).send().await,
            None => call.send().await,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    pub(crate) fn post(&self, path: &str) -> Call<'_> {
        self.call("POST", path)
    }

    pub(crate) fn put(&self, path: &str) -> Call<'_> {
        self.call("PUT", path)
    }

    pub(crate) fn patch(&self, path: &str) -> Call<'_> {
        self.call("PATCH", path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call<'_> {
        self.call("DELETE", path)
    }

    pub(crate) fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call::new(self, method, path)
    }
}

/// The path of a token.
pub(crate) fn path_of(issued: &Issued) -> String {
    format!("/api/user/personal-access-tokens/{}", issued.record.pat_id)
}

/// Counts what this test does, and nothing of what others do beside it.
pub(crate) fn recorder() -> (metrics_exporter_prometheus::PrometheusRecorder, PrometheusHandle) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    (recorder, handle)
}
