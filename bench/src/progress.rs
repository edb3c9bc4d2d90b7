use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line on the terminal that says what is being measured. Nothing where there is no terminal but what is printed.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(measures: usize) -> Self {
        let bar = ProgressBar::new(measures as u64);
        let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed} {prefix}: {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_secs(1));
        Self(bar)
    }

    /// A measure begins.
    pub(crate) fn begin(&self, measure: &str) {
        self.0.set_prefix(measure.to_owned());
        self.0.set_message("");
    }

    /// What is going on.
    pub(crate) fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// A line that stays.
    pub(crate) fn print(&self, line: &str) {
        self.0.suspend(|| println!("{line}"));
    }

    /// A measure is done.
    pub(crate) fn end(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
