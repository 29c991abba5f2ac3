//! Metrics of requests.

use std::time::Duration;

use http::StatusCode;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

/// What an operation is called whose request was refused before it was known.
const UNKNOWN: &str = "Unknown";

/// Metrics of requests, by S3 operation.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    errors: IntCounterVec,
    seconds: HistogramVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    connections: IntGauge,
}

/// A request that was answered.
pub(crate) struct Served {
    /// Its operation, when it was known.
    pub(crate) operation: Option<&'static str>,
    /// The status of the answer.
    pub(crate) status: StatusCode,
    /// From its head to the end of its answer.
    pub(crate) time: Duration,
    /// Bytes of its body.
    pub(crate) received: u64,
    /// Bytes of the answer's body.
    pub(crate) sent: u64,
}

impl Metrics {
    /// Enters the metrics into a registry.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_operation = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["operation"])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let errors = IntCounterVec::new(
            Opts::new(
                "enfilade_gateway_errors_total",
                "Answers with status 4xx or 5xx.",
            ),
            &["operation", "class"],
        )?;
        registry.register(Box::new(errors.clone()))?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "enfilade_gateway_request_seconds",
                "From a request's head to the end of its answer.",
            )
            // 0.5 ms to 16 s.
            .buckets(exponential_buckets(0.0005, 2.0, 16)?),
            &["operation"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let connections = IntGauge::new(
            "enfilade_gateway_connections",
            "Open connections of clients.",
        )?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Self {
            requests: by_operation("enfilade_gateway_requests_total", "Requests answered.")?,
            errors,
            seconds,
            received: by_operation(
                "enfilade_gateway_received_bytes_total",
                "Bytes of bodies of requests.",
            )?,
            sent: by_operation(
                "enfilade_gateway_sent_bytes_total",
                "Bytes of bodies of answers.",
            )?,
            connections,
        })
    }

    /// Counts a request that was answered.
    pub(crate) fn served(&self, served: &Served) {
        let operation = &[served.operation.unwrap_or(UNKNOWN)];
        self.requests.with_label_values(operation).inc();
        self.seconds
            .with_label_values(operation)
            .observe(served.time.as_secs_f64());
        self.received
            .with_label_values(operation)
            .inc_by(served.received);
        self.sent.with_label_values(operation).inc_by(served.sent);
        let class = match served.status {
            status if status.is_client_error() => "client",
            status if status.is_server_error() => "server",
            _ => return,
        };
        self.errors.with_label_values(&[operation[0], class]).inc();
    }

    /// Counts a connection for as long as what is returned lives.
    pub(crate) fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }
}

/// A connection that is counted.
pub(crate) struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
