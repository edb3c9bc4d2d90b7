use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::stage::{Stage, Worker};

/// Work that falls due: `count` notifications, the first at `t0`, each `step` after the one before. They are handed
/// over in batches long before, or, with `ahead`, one by one, each so long before it is due. All in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) count: u64,
    pub(crate) t0: u64,
    pub(crate) step: u64,
    pub(crate) ahead: u64,
}

/// Who does the work: Tocsin, or what a user would pick instead.
pub(crate) trait Contender: Sync {
    /// As results and options call it.
    fn name(&self) -> &str;

    /// Installs what is missing, and makes its tables.
    fn prepare(&self, stage: &Stage) -> Result<()>;

    /// Forgets all work.
    fn reset(&self, stage: &Stage) -> Result<()>;

    /// Adds so many rows of work that is due in years.
    fn add_far_future(&self, stage: &Stage, count: u64) -> Result<()>;

    /// Starts its programs, and waits until they are ready.
    fn start(&self, stage: &Stage) -> Result<Vec<Worker>>;

    /// Hands the work over.
    fn enqueue(&self, stage: &Stage, work: Work) -> Result<()>;

    /// How long handing over so many takes at most.
    fn enqueue_time(&self, count: u64) -> Duration;

    /// Whether the outcome of everything that is due has been recorded. Cheap.
    fn is_recorded(&self, stage: &Stage) -> Result<bool>;

    /// How many good outcomes of the work have been recorded.
    fn recorded(&self, stage: &Stage, work: Work) -> Result<u64>;

    /// An error unless each of the work has arrived and is recorded as good: then there is no figure.
    fn check(&self, stage: &Stage, work: Work, arrivals: &Value) -> Result<()> {
        let (count, distinct, recorded) = (work.count, arrivals["distinct"].as_u64(), self.recorded(stage, work)?);
        ensure!(
            distinct == Some(count) && recorded == count,
            "{}: of {count}, {distinct:?} arrived and {recorded} were recorded: no figure",
            self.name()
        );
        Ok(())
    }
}
