use std::time::Duration;

use broker::{Broker, QueueWatch};
use domain::{CHANNELS, RetryTier};
use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};
use utoipa::ToSchema;

/// Who asks how things are does not want to wait for a broker that is away.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where messages end that no worker could use, until the activator has kept them.
pub(crate) const DEAD: &str = "dead";

/// Looks at the broker's queues, over a session that is kept for the next time.
pub(crate) struct Queues {
    broker: Option<Broker>,
    session: Mutex<Option<QueueWatch>>,
}

/// A queue of the broker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueView {
    pub(crate) queue: String,
    /// Messages that nobody has taken; null if there is no such queue.
    pub(crate) messages: Option<u32>,
    /// Those who take its messages; null if there is no such queue. Nobody takes from a retry queue: it gives its
    /// messages back when their time has come.
    pub(crate) consumers: Option<u32>,
}

/// Why nothing is known of the queues.
pub(crate) enum Unknown {
    /// Nobody told where the broker is.
    NotConfigured,
    /// It did not answer, as the text says.
    Away(String),
}

impl Queues {
    pub(crate) fn new(broker: Option<Broker>) -> Self {
        Self { broker, session: Mutex::default() }
    }

    /// What each queue has.
    pub(crate) async fn look(&self) -> Result<Vec<QueueView>, Unknown> {
        let broker = self.broker.as_ref().ok_or(Unknown::NotConfigured)?;
        let names = names();
        let depths = async {
            let mut kept = self.session.lock().await;
            // It may have ended long ago without anybody noticing.
            if let Some(session) = kept.take()
                && let Ok(depths) = session.look(&names).await
            {
                *kept = Some(session);
                return Ok(depths);
            }
            let session = QueueWatch::open(broker).await?;
            let depths = session.look(&names).await?;
            *kept = Some(session);
            Ok(depths)
        };
        let depths = match timeout(PATIENCE, depths).await {
            Ok(Ok(depths)) => depths,
            Ok(Err(error)) => return Err(Unknown::Away(broker::Error::to_string(&error))),
            Err(_) => return Err(Unknown::Away(format!("broker: no answer within {} s", PATIENCE.as_secs()))),
        };
        let view = |(queue, depth): (String, Option<broker::QueueDepth>)| QueueView {
            queue,
            messages: depth.map(|depth| depth.messages),
            consumers: depth.map(|depth| depth.consumers),
        };
        Ok(names.into_iter().zip(depths).map(view).collect())
    }

    /// Ends the session.
    pub(crate) async fn close(&self) {
        if let Some(session) = self.session.lock().await.take() {
            session.close().await;
        }
    }
}

/// Every queue: the channels' own, the retry queues, and that of the dead.
pub(crate) fn names() -> Vec<String> {
    let channels = CHANNELS.iter().map(|channel| wire::queue_name(channel.name));
    let retries = RetryTier::ALL.iter().map(|tier| tier.exchange().to_owned());
    channels.chain(retries).chain([DEAD.to_owned()]).collect()
}
