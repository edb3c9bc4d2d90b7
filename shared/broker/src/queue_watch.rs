use lapin::Connection;

use crate::{
    Broker, Error, Result,
    connection::{close, in_time, verify_queue},
};

/// A session that only looks at queues.
pub struct QueueWatch {
    connection: Connection,
}

/// What can be seen of a queue by whoever may do nothing with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that nobody has taken.
    pub messages: u32,
    /// Those who take its messages.
    pub consumers: u32,
}

impl QueueWatch {
    /// Connects.
    pub async fn open(broker: &Broker) -> Result<Self> {
        Ok(Self { connection: broker.connect("queue watch").await? })
    }

    /// What each of these queues has, in their order; `None` for one that is not there.
    pub async fn look(&self, queues: &[String]) -> Result<Vec<Option<QueueDepth>>> {
        let mut depths = Vec::with_capacity(queues.len());
        let mut open = None;
        for queue in queues {
            let channel = match open.take() {
                Some(channel) => channel,
                None => in_time("opening a channel", self.connection.create_channel()).await?,
            };
            match verify_queue(&channel, queue).await {
                Ok(depth) => {
                    depths.push(Some(depth));
                    open = Some(channel);
                }
                // With it the broker has closed the channel.
                Err(Error::Missing { .. }) => depths.push(None),
                Err(error) => return Err(error),
            }
        }
        if let Some(channel) = open {
            in_time("closing a channel", channel.close(200, "done".into())).await?;
        }
        Ok(depths)
    }

    /// Closes in good order.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}
