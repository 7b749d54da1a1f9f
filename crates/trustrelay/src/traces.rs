//! OpenTelemetry traces over OTLP: spans of requests and of relayed calls. Never arguments, results
//! or tokens: a span carries what the log carries.

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, Registry};
use trustrelay_relay::Propagator;
use url::Url;

use crate::logging::Spans;

/// Sends spans away, in batches, on a thread of its own.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts to send to a collector. The endpoint is its base: `/v1/traces` is added, as the
    /// standard has it (OpenTelemetry Protocol Exporter, "Endpoint URLs for OTLP/HTTP").
    pub(crate) fn start(endpoint: &Url) -> anyhow::Result<(Self, Spans)> {
        let endpoint = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter = exporter.with_endpoint(endpoint).build().context("--otlp-endpoint cannot be used")?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let resource = Resource::builder().with_service_name("trustrelay");
        let resource = resource.with_attribute(KeyValue::new("host.name", host));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("trustrelay"))
            // Spans know each other without it; and a span that is entered can still be told its
            // parent, which a request's body may name.
            .with_context_activation(false)
            // Places in the source and threads tell an operator nothing.
            .with_location(false)
            .with_threads(false);
        // What libraries say of their own work may hold what they work on.
        let ours = filter_fn(|metadata| {
            metadata.target().starts_with("trustrelay")
                && (metadata.is_span() || *metadata.level() <= Level::INFO)
        });
        let spans = Layer::<Registry>::boxed(layer.with_filter(ours));
        trustrelay_relay::set_propagator(TraceContext(TraceContextPropagator::new()));
        Ok((Self(provider), spans))
    }

    /// Sends what waits, for as long as the exporter gives itself: some seconds.
    pub(crate) async fn stop(self) {
        let stopped = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        if !matches!(stopped, Ok(Ok(()))) {
            tracing::warn!("could not send the last traces");
        }
    }
}

struct TraceContext(TraceContextPropagator);

impl Propagator for TraceContext {
    fn continue_trace(&self, span: &Span, headers: &HeaderMap) {
        let context = self.0.extract(&Headers(headers));
        if context.span().span_context().is_valid() {
            // A span that is not recorded has no parent either.
            let _ = span.set_parent(context);
        }
    }

    fn name(&self, span: &Span, headers: &mut HeaderMap) {
        let context = span.context();
        if context.span().span_context().is_valid() {
            self.0.inject_context(&context, &mut HeadersMut(headers));
        }
    }
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'h>(&'h mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            if value.is_empty() {
                self.0.remove(name);
            } else {
                self.0.insert(name, value);
            }
        }
    }
}
