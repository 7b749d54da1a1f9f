//! What is counted: each in this process, over a store in memory, with the program's metrics and
//! without its log.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use axum::body::Body;
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use trustrelay_authority::contract::MemoryStore;
use trustrelay_authority::{
    Authority, AuthorityConfig, MAX_LEASE, NewAccount, NewPat, ServerSecret, SystemClock,
};
use trustrelay_guard::GuardLayer;
use trustrelay_relay::{Relay, RelayConfig};
use trustrelay_token::{DigestKey, KeyId, Token, Verification, Verifier};
use trustrelay_web::{AppState, WebConfig};
use zeroize::Zeroizing;

use crate::callgrind::counted;

const EMAIL: &str = "counted@example.org";

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// The keyed hash of a token alone.
    Hash,
    /// From the text of a token to the answer, from memory.
    Verification,
    /// A request whose token has a wrong checksum, at the guard.
    Malformed,
    /// A request with a good token through the guard.
    Guarded,
    /// `GET /api/user` with a good token through the whole router.
    ApiUser,
}

impl Case {
    /// What is held to a bound.
    pub(crate) const BOUND: [Self; 4] = [Self::Verification, Self::Malformed, Self::Guarded, Self::ApiUser];

    /// Whether the keyed hash is a part of it.
    pub(crate) fn hashes(self) -> bool {
        !matches!(self, Self::Hash | Self::Malformed)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hash => "keyed-hash",
            Self::Verification => "warm-verification",
            Self::Malformed => "malformed-refused",
            Self::Guarded => "guarded-request",
            Self::ApiUser => "get-api-user",
        }
    }

    /// Does it once uncounted, and then so many times.
    pub(crate) fn run(self, times: u64) -> Result<()> {
        // What goes on beside runs on a thread of its own, and is not counted.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let _entered = runtime.enter();
        metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
        let (authority, token) = runtime.block_on(set_up())?;
        runtime.block_on(authority.verify(token.clone()).wait()).context("the token is refused")?;
        // The last request drops its service: the authority is not to end with it, while that is
        // counted.
        let _kept = Arc::clone(&authority);
        match self {
            Self::Hash => {
                let key = DigestKey::new(KeyId(1), &[7; 32]);
                counted(times, || {
                    black_box(key.digest(&token));
                });
                Ok(())
            }
            Self::Verification => verify(&authority, &token, times),
            Self::Malformed => {
                let mut text = token.expose().to_owned();
                // The last digit of the checksum.
                let last = text.pop();
                text.push(if last == Some('0') { '1' } else { '0' });
                ask(guarded(authority), "/", &text, StatusCode::UNAUTHORIZED, times)
            }
            Self::Guarded => ask(guarded(authority), "/", token.expose(), StatusCode::OK, times),
            Self::ApiUser => {
                let relay = Relay::new(RelayConfig::default())?;
                let router = trustrelay_web::router(AppState::new(authority, relay, WebConfig::default()));
                ask(router, "/api/user", token.expose(), StatusCode::OK, times)
            }
        }?;
        stop(runtime);
        Ok(())
    }
}

fn stop(runtime: Runtime) {
    runtime.shutdown_background();
}

async fn set_up() -> Result<(Arc<Authority>, Token)> {
    let secret = ServerSecret::generate()?;
    let config = AuthorityConfig { password_memory_kib: 8, lease: MAX_LEASE, ..AuthorityConfig::default() };
    let (store, clock) = (Arc::new(MemoryStore::default()), Arc::new(SystemClock));
    let authority = Authority::open(store, &[secret], clock, config).await?;
    authority.start().await?;
    let password = Zeroizing::new("counted and not hashed".to_owned());
    authority.add_account(NewAccount { email: EMAIL.into(), password, is_admin: false }).await?;
    let new = NewPat { name: "ci-pipeline".into(), scope: "mcp api".into(), ..NewPat::default() };
    let issued = authority.issue_for(EMAIL, new).await?;
    Ok((authority, issued.token))
}

fn verify(authority: &Authority, token: &Token, times: u64) -> Result<()> {
    let mut accepted = 0;
    let mut once = || {
        let token = Token::from_bytes(token.expose().as_bytes()).ok();
        let answer = token.map(|token| authority.verify(token));
        accepted += u64::from(matches!(answer, Some(Verification::Ready(Ok(_)))));
    };
    once();
    counted(times, once);
    ensure!(accepted == times + 1, "{accepted} of {} were accepted from memory", times + 1);
    Ok(())
}

fn guarded(
    authority: Arc<Authority>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone {
    let answer = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    GuardLayer::new(authority).layer(answer)
}

/// Sends a request so many times. Each has to be answered at once, from memory.
fn ask<S>(service: S, path: &str, token: &str, expected: StatusCode, times: u64) -> Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let authorization = format!("Bearer {token}");
    let requests = (0..=times).map(|_| {
        let request = Request::get(path).header("host", "127.0.0.1").header("authorization", &authorization);
        Ok(request.header("user-agent", "counts/1").body(Body::empty())?)
    });
    let mut requests = requests.collect::<Result<Vec<_>>>()?.into_iter();
    let mut services = vec![service; requests.len()].into_iter();
    let mut answers = Vec::with_capacity(requests.len());
    let mut once = || {
        if let (Some(request), Some(service)) = (requests.next(), services.next()) {
            answers.push(service.oneshot(request).now_or_never());
        }
    };
    once();
    counted(times, once);
    for answer in &answers {
        let Some(Ok(answer)) = answer else { anyhow::bail!("a request was not answered at once") };
        ensure!(answer.status() == expected, "a request was answered {}", answer.status());
    }
    Ok(())
}
