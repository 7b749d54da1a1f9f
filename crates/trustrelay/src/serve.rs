//! `trustrelay serve`.

use std::process::ExitCode;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, bail};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trustrelay_authority::{AllowsFrom, Authority, AuthorityConfig, Call, Cut};
use trustrelay_notify::{Post, Webhooks};
use trustrelay_relay::{CallRecord, Recorder, Relay, RelayConfig};
use trustrelay_token::TokenDigest;
use trustrelay_web::{AppState, Nodes, WebConfig};
use url::Url;
use uuid::Uuid;

use crate::cli::{Place, Serve};
use crate::config::Data;
use crate::open::Missing;
use crate::output::say;
use crate::traces::Traces;
use crate::{config, dev, listener, logging, open};

/// Lets the authority cut what the relay holds open; neither knows the other.
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

/// Hands what the relay records to the authority. Weak, since the authority holds what cuts the
/// relay.
struct NoteCalls(Weak<Authority>);

impl Recorder for NoteCalls {
    fn record(&self, call: CallRecord) {
        let Some(authority) = self.0.upgrade() else {
            return;
        };
        let CallRecord { at, pat_id, upstream, tool, outcome, duration, bytes_in, bytes_out, user_id: _ } =
            call;
        let outcome = outcome.into();
        authority.note_call(pat_id, Call { at, upstream, tool, outcome, duration, bytes_in, bytes_out });
    }
}

/// What others call this node if nothing else is said: its host and port.
fn node_name(address: std::net::SocketAddr) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", address.port())
}

/// How often samples are folded into histograms: between two looks at `/metrics` they would pile up
/// else.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

async fn keep_metrics(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(METRICS_UPKEEP).await;
        metrics.run_upkeep();
    }
}

/// Where revocations are told apart, in seconds: one takes milliseconds, and a lease if a node has
/// died.
const REVOCATIONS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 60.0];

fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    let revocations = Matcher::Full("trustrelay_revocation_seconds".into());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(revocations, &REVOCATIONS);
    builder.and_then(PrometheusBuilder::install_recorder).context("metrics could not be started")
}

/// Runs the server until SIGTERM or SIGINT.
pub(crate) async fn run(place: &Place, serve: Serve) -> anyhow::Result<ExitCode> {
    let file = config::read_file(place)?;
    let location = config::location(place, &file)?;
    let config = config::serve_config(&serve, file)?;
    if config.node_url.is_some() && matches!(location.data, Data::Directory(_)) {
        bail!("--node-url is for nodes that share a database; use it with --database-url, or remove it");
    }
    let (traces, spans) = config.otlp_endpoint.as_ref().map(Traces::start).transpose()?.unzip();
    let _writing = logging::start(&config.log, spans)?;
    // Signals that come while starting are kept.
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;

    let public_origin = config.public_url.as_ref().map(|url| url.origin().ascii_serialization());
    // The port before the data: a second start on the same port changes nothing.
    let listener = listener::bind("--listen", config.listen).await?;
    let address = listener.local_addr().context("the listener has no address")?;
    let ops_listener = match config.ops_listen {
        Some(address) => Some(listener::bind("--ops-listen", address).await?),
        None => None,
    };
    // The lock before the data: a newer program must not migrate it beneath a running server.
    let _lock = match &location.data {
        Data::Directory(dir) => Some(open::lock(dir)?),
        Data::Database(_) => None,
    };
    // Before anything is counted: what is counted with nobody there to keep it stays uncounted.
    let metrics = install_metrics()?;
    let opened = open::data_at(
        &location,
        Missing::Create,
        AuthorityConfig {
            lease: config.lease,
            node_name: node_name(address),
            node_url: config.node_url.as_ref().map(ToString::to_string),
            audit_retention: config.audit_retention,
            adopt_newest_secret: true,
            ..AuthorityConfig::default()
        },
    )
    .await?;
    let relay = Relay::new(RelayConfig {
        upstreams: config.upstreams,
        public_origin,
        home: config.node_url.clone(),
        seal_keys: opened.mcp_keys,
        recorder: Some(Arc::new(NoteCalls(Arc::downgrade(&opened.authority)))),
        ..RelayConfig::default()
    })?;
    let authority = opened.authority;
    authority.set_cut(Arc::new(CutRelay(relay.clone())));
    let base = config.public_url.clone().map_or_else(|| Url::parse(&format!("http://{address}")), Ok)?;
    let webhooks = Webhooks::new(config.webhook_private_networks);
    authority.set_courier(Arc::new(Post::new(config.mailer, webhooks, base.clone())));
    authority.start().await?;

    let has_accounts = authority.has_accounts().await?;
    if config.dev {
        dev::prepare(&authority, &opened.dev_keys, &base).await?;
    } else if !has_accounts {
        let secret = authority.open_setup()?;
        say(format_args!(
            "set up the first account (this link works once): {}",
            base.join(&format!("/setup?token={secret}"))?
        ))?;
    }
    let secure_cookies = base.scheme() == "https";
    tokio::spawn(keep_metrics(metrics.clone()));
    let nodes = config
        .node_url
        .map(|_| Nodes::new(&opened.carry_keys))
        .transpose()
        .context("the connection to other nodes could not be set up")?;
    let stopping = CancellationToken::new();
    let web = WebConfig {
        public_url: config.public_url,
        secure_cookies,
        metrics: Some(metrics),
        metrics_elsewhere: ops_listener.is_some(),
        proxies: config.proxies,
        github_keys: config.github_keys.map(Arc::new),
        nodes: nodes.clone(),
        stopping: stopping.clone(),
    };
    let state = AppState::new(authority.clone(), relay.clone(), web);
    if let Some(listener) = &ops_listener {
        let address = listener.local_addr().context("the operators' listener has no address")?;
        say(format_args!("metrics on http://{address}/metrics"))?;
    }
    say(format_args!("listening on http://{address}"))?;
    tracing::info!(%address, data = opened.place, "ready");

    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
        if !config.drain.is_zero() {
            tracing::info!(drain = ?config.drain, "stopping: reporting not ready, still serving requests");
            // Who says it twice does not want to wait.
            tokio::select! {
                () = tokio::time::sleep(config.drain) => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        tracing::info!("stopping: waiting for open requests to finish");
    };
    let end_streams = async {
        if let Some(nodes) = &nodes {
            nodes.stop();
        }
        relay.shutdown().await;
    };
    // Both take in nothing more at the same moment.
    let stopped = CancellationToken::new();
    let stop = async {
        stop.await;
        stopped.cancel();
    };
    let ops = async {
        if let Some(listener) = ops_listener {
            let router = trustrelay_web::ops_router(state.clone());
            let stop = stopped.cancelled();
            let places = listener::MAX_OPS_CONNECTIONS;
            listener::serve(listener, places, router, stopping.clone(), stop, async {}).await;
        }
    };
    let router = trustrelay_web::router(state.clone());
    let main =
        listener::serve(listener, listener::MAX_CONNECTIONS, router, stopping.clone(), stop, end_streams);
    tokio::join!(main, ops);
    authority.stop().await;
    if let Some(traces) = traces {
        traces.stop().await;
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
