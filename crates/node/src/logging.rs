//! What the process says of itself, on stderr: lines for people on a terminal, JSON otherwise.
//! With a collector the same goes there too, and so do spans, which stderr does not show.

use std::io::IsTerminal;

use postrider_cluster::trace;
use tracing::Level;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::telemetry::Otlp;

/// Variables that hold a filter, the first of them that is set counting.
const VARIABLES: [&str; 2] = ["POSTRIDER_LOG", "RUST_LOG"];
/// OpenTelemetry tells at `info` of its own start, and of every export that fails, which our own
/// telemetry sums up; ractor's spans would stand in every line that an actor writes.
const DEFAULT: &str = "info,opentelemetry=warn,opentelemetry_sdk=off,opentelemetry-otlp=off,ractor=warn,ractor_cluster=error";
/// Those who make an export, and what would feed on itself if it were exported.
const OF_EXPORTS: [&str; 7] =
    ["opentelemetry", "reqwest", "hyper", "hyper_util", "rustls", "tower", "postrider::telemetry"];

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// A variable holds no filter.
    #[error("{variable}: must be a log filter such as info or info,postrider_delivery=debug")]
    Filter {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Something else in the process logs already.
    #[error("logging cannot be started: {0}")]
    Start(Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging, for the whole process, and sends what is said to the collector too.
///
/// # Errors
/// When the environment asks for what cannot be, or logging has been started before.
pub fn start(otlp: Option<&Otlp>) -> Result<(), LoggingError> {
    let variable = |name: &str| std::env::var(name).ok();
    let mut layers =
        vec![lines().with_filter(without(&[trace::TARGET], filter(variable)?)).boxed()];
    if let Some(otlp) = otlp {
        let spans = Targets::new().with_target(trace::TARGET, Level::INFO);
        layers.push(otlp.spans().with_filter(spans).boxed());
        let said = without(&[trace::TARGET], without(&OF_EXPORTS, filter(variable)?));
        layers.push(otlp.logs().with_filter(said).boxed());
    }
    let started = tracing_subscriber::registry().with(layers).try_init();
    started.map_err(|error| LoggingError::Start(error.into()))
}

fn lines() -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = fmt::layer().with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        lines.with_ansi(colours_wanted()).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    }
}

/// The filter, but for these targets.
fn without(targets: &[&str], filter: EnvFilter) -> EnvFilter {
    let off = |target: &&str| format!("{target}=off").parse().expect("a directive");
    targets.iter().map(off).fold(filter, EnvFilter::add_directive)
}

/// Whether the user has not asked for plain text (<https://no-color.org>).
pub fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn filter(variable: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, LoggingError> {
    let set = VARIABLES
        .into_iter()
        .filter_map(|name| Some((name, variable(name)?)))
        .find(|(_, text)| !text.trim().is_empty());
    let (variable, text) = set.unwrap_or((VARIABLES[0], DEFAULT.to_owned()));
    EnvFilter::try_new(text).map_err(|source| LoggingError::Filter { variable, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter, given the two variables.
    fn filtered(ours: Option<&str>, rust: Option<&str>) -> Result<String, LoggingError> {
        let variable = |name: &str| match name {
            "POSTRIDER_LOG" => ours.map(str::to_owned),
            _ => rust.map(str::to_owned),
        };
        filter(variable).map(|filter| filter.to_string())
    }

    #[test]
    fn ours_comes_first_and_the_default_last() {
        let is = |ours, rust| filtered(ours, rust).expect("a filter");
        assert_eq!(is(None, None), is(Some(DEFAULT), None));
        assert_eq!(is(Some(""), None), is(None, None));
        assert_eq!(is(None, Some("warn")), "warn");
        assert_eq!(is(Some("debug"), Some("warn")), "debug");
    }

    #[test]
    fn the_default_keeps_libraries_quiet() {
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
    fn without_a_collector_there_are_no_spans_to_export() {
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
    fn a_bad_filter_is_named() {
        let refused = filtered(None, Some("postrider=loud")).expect_err("refused");
        assert!(refused.to_string().starts_with("RUST_LOG: "), "{refused}");
    }
}
