//! Logs to standard error, and panics into the log.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};
use prometheus::Registry;
use tracing_subscriber::EnvFilter;

use crate::admin::process::ProcessMetrics;

/// What is logged unless `ENFILADE_LOG` says otherwise: warnings of libraries, news of ours. s3s
/// logs every mistake of a client as an error, with its body; openraft warns of every election.
const FILTER_DEFAULT: &str = "warn,openraft=error,s3s=off,enfilade=info,\
                              enfilade_placement=info,enfilade_cluster=info,\
                              enfilade_storage_node=info,enfilade_gateway=info";

/// Begins to log, as `ENFILADE_LOG` filters (`debug`, `warn,enfilade_cluster=trace`, ...).
///
/// # Errors
/// When `ENFILADE_LOG` is no filter.
pub(crate) fn init() -> Result<()> {
    let filter = match std::env::var("ENFILADE_LOG") {
        Ok(text) if !text.is_empty() => text,
        _ => FILTER_DEFAULT.to_owned(),
    };
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("ENFILADE_LOG: '{filter}' is no filter"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true)
        .init();
    let inner = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(
            place,
            thread = std::thread::current().name(),
            "panic: {panic}"
        );
        inner(panic);
    }));
    Ok(())
}

/// Enters the metrics of the process itself.
///
/// # Errors
/// When they are in the registry already.
pub(crate) fn register(registry: &Registry) -> Result<()> {
    let metrics = ProcessMetrics::new().context("metrics of the process")?;
    registry
        .register(Box::new(metrics))
        .context("metrics of the process")?;
    enfilade_storage_node::metrics::register_codec(registry).context("metrics of the codec")
}
