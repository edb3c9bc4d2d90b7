use std::{
    cell::RefCell,
    io::{self, IsTerminal, Write},
};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person, coloured on a terminal.
    Human,
}

/// Logs go to standard error, one line a fact.
pub(crate) fn init_log(format: LogFormat, filter: EnvFilter) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines)
        .with_target(false)
        // A full disk under the log must stop no call: without this a failed write panics.
        .log_internal_errors(false);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
        LogFormat::Human => builder.with_ansi(io::stderr().is_terminal()).init(),
    }
}

thread_local! {
    /// Lines that wait to be written together.
    static TOGETHER: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Writes what `work` logs at once when it ends, instead of line by line: a system call a line is a good part of what a
/// call costs. `work` should do little else, so that no line is late.
pub fn log_together<T>(work: impl FnOnce() -> T) -> T {
    struct Written;
    impl Drop for Written {
        fn drop(&mut self) {
            let lines = TOGETHER.take().unwrap_or_default();
            // A full disk under the log must stop no call.
            io::stderr().write_all(&lines).unwrap_or_default();
        }
    }
    TOGETHER.with_borrow_mut(|together| together.get_or_insert_default().reserve(4096));
    let _written = Written;
    work()
}

struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        TOGETHER.with_borrow_mut(|together| match together {
            Some(lines) => lines.write(line),
            None => io::stderr().write(line),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From 1 ms to 10 min: lateness and call times have the same scale.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0];

pub(crate) fn init_metrics() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?.install_recorder()
}
