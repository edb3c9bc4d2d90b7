//! The sns channel: publishes to topics of Amazon SNS, standard and FIFO.

mod refusals;
mod sns;

use runtime::{Checks, Failure, Lifecycle, NOT_CONFIGURED, Program, Reader, Run, settings::SNS_ENDPOINT_URL};

use tokio::time::timeout;

use crate::sns::Sns;

/// The program.
pub const PROGRAM: Program<Config> = Program {
    name: "notifier-sns",
    about: "Publishes to SNS topics; any number of copies may run. Region and credentials are found as AWS's own tools find them",
    settings: &[notifier::SETTINGS, &[SNS_ENDPOINT_URL]],
    has_once: false,
    read: Config::read,
};

/// How the sns worker works.
pub struct Config {
    worker: notifier::Config,
    endpoint_url: Option<String>,
}

impl Config {
    fn read(reader: &mut Reader) -> Option<Self> {
        let worker = notifier::Config::read(reader);
        let endpoint_url = reader.optional_url(&SNS_ENDPOINT_URL);
        Some(Self { worker: worker?, endpoint_url: endpoint_url? })
    }
}

/// Runs until it is told to stop.
pub async fn run(config: Config, run: Run, lifecycle: Lifecycle) -> Result<(), Failure> {
    let sns = Sns::new(config.endpoint_url.as_deref(), config.worker.call_timeout()).await;
    // It has no setting that is required. Without an endpoint and credentials of anybody's it may simply not be wanted.
    if let (Some(format), None) = (run.check, &config.endpoint_url)
        && let Ok(Some(problem)) = timeout(config.worker.call_timeout(), sns.lacks_credentials()).await
    {
        let mut checks = Checks::new(format);
        let mend = "give it credentials that may publish to your topics, as README.md says";
        checks.check(NOT_CONFIGURED, mend, async { Err::<String, _>(problem) }).await;
        return checks.finish();
    }
    notifier::run(sns, config.worker, run, lifecycle).await
}
