//! Logging to stderr: human-readable on a terminal, JSON otherwise. If a collector is configured,
//! the logs are also exported to it, together with spans, which stderr does not show.

use std::io::IsTerminal;

use postrider_cluster::trace;
use tracing::Level;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::telemetry::Otlp;

/// Variables that may hold the log filter. The first one that is set applies.
const FILTER_VARIABLES: [&str; 2] = ["POSTRIDER_LOG", "RUST_LOG"];
/// OpenTelemetry logs its own start and every failed export, which our telemetry summarizes;
/// ractor's spans would appear in every line that an actor logs.
const DEFAULT_FILTER: &str = "info,opentelemetry=warn,opentelemetry_sdk=off,opentelemetry-otlp=off,ractor=warn,ractor_cluster=error";
/// Targets involved in exporting. Exporting their logs would cause a feedback loop.
const EXPORT_TARGETS: [&str; 7] =
    ["opentelemetry", "reqwest", "hyper", "hyper_util", "rustls", "tower", "postrider::telemetry"];

/// Logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// A variable holds an invalid filter.
    #[error("{variable}: must be a log filter such as info or info,postrider_delivery=debug")]
    Filter { variable: &'static str, source: ParseError },
    /// A global subscriber is already installed.
    #[error("cannot start logging: {0}")]
    Start(Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging for the whole process, to stderr and, if given, to the collector.
///
/// # Errors
/// If the filter is invalid, or logging was already started.
pub fn start(otlp: Option<&Otlp>) -> Result<(), LoggingError> {
    let variable = |name: &str| std::env::var(name).ok();
    let mut layers =
        vec![stderr_layer().with_filter(without(&[trace::TARGET], filter(variable)?)).boxed()];
    if let Some(otlp) = otlp {
        let spans = Targets::new().with_target(trace::TARGET, Level::INFO);
        layers.push(otlp.spans().with_filter(spans).boxed());
        let logs = without(&[trace::TARGET], without(&EXPORT_TARGETS, filter(variable)?));
        layers.push(otlp.logs().with_filter(logs).boxed());
    }
    let started = tracing_subscriber::registry().with(layers).try_init();
    started.map_err(|error| LoggingError::Start(error.into()))
}

fn stderr_layer() -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = fmt::layer().with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        lines.with_ansi(colours_enabled()).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    }
}

/// The filter with these targets turned off.
fn without(targets: &[&str], filter: EnvFilter) -> EnvFilter {
    let off = |target: &&str| format!("{target}=off").parse().expect("a directive");
    targets.iter().map(off).fold(filter, EnvFilter::add_directive)
}

/// Whether colours are enabled (see <https://no-color.org>).
pub fn colours_enabled() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn filter(variable: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, LoggingError> {
    let set = FILTER_VARIABLES
        .into_iter()
        .filter_map(|name| Some((name, variable(name)?)))
        .find(|(_, text)| !text.trim().is_empty());
    let (variable, text) = set.unwrap_or((FILTER_VARIABLES[0], DEFAULT_FILTER.to_owned()));
    EnvFilter::try_new(text).map_err(|source| LoggingError::Filter { variable, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter for these values of the two variables.
    fn filtered(ours: Option<&str>, rust: Option<&str>) -> Result<String, LoggingError> {
        let variable = |name: &str| match name {
            "POSTRIDER_LOG" => ours.map(str::to_owned),
            _ => rust.map(str::to_owned),
        };
        filter(variable).map(|filter| filter.to_string())
    }

    #[test]
    fn postrider_log_takes_precedence_over_rust_log() {
        let is = |ours, rust| filtered(ours, rust).expect("a filter");
        assert_eq!(is(None, None), is(Some(DEFAULT_FILTER), None));
        assert_eq!(is(Some(""), None), is(None, None));
        assert_eq!(is(None, Some("warn")), "warn");
        assert_eq!(is(Some("debug"), Some("warn")), "debug");
    }

    #[test]
    fn the_default_filter_silences_libraries() {
        let filter = filter(|_| None).expect("a filter");
        let logs = tracing_subscriber::fmt().with_env_filter(filter).finish();
        tracing::subscriber::with_default(logs, || {
            assert!(tracing::enabled!(tracing::Level::INFO));
            assert!(!tracing::enabled!(target: "opentelemetry", tracing::Level::INFO));
            assert!(!tracing::enabled!(target: "opentelemetry_sdk", tracing::Level::INFO));
            assert!(tracing::enabled!(target: "opentelemetry", tracing::Level::WARN));
            assert!(!tracing::enabled!(target: "opentelemetry_sdk", tracing::Level::ERROR));
            assert!(!tracing::enabled!(target: "opentelemetry-otlp", tracing::Level::ERROR));
            assert!(tracing::info_span!(target: "ractor::actor", "Actor").is_disabled());
        });
    }

    #[test]
    fn spans_are_disabled_without_a_collector() {
        for text in ["info", "trace", "postrider=debug,ractor=trace"] {
            let filter = filter(|_| Some(text.to_owned())).expect("a filter");
            let lines = fmt::layer::<Registry>().with_filter(without(&[trace::TARGET], filter));
            let logs = tracing_subscriber::registry().with(lines);
            tracing::subscriber::with_default(logs, || {
                assert!(tracing::info_span!(target: trace::TARGET, "accept").is_disabled());
            });
        }
    }

    #[test]
    fn an_invalid_filter_names_its_variable() {
        let error = filtered(None, Some("postrider=loud")).expect_err("rejected");
        assert!(error.to_string().starts_with("RUST_LOG: "), "{error}");
    }
}
