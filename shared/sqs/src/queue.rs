use std::time::Duration;

use aws_config::{BehaviorVersion, Region, timeout::TimeoutConfig};
use aws_sdk_sqs::{
    Client,
    error::DisplayErrorContext,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, MessageSystemAttributeName,
        QueueAttributeName,
    },
};
use runtime::{
    Reader,
    settings::{SQS_ENDPOINT_URL, SQS_QUEUE_URL, SQS_WAIT_TIME_SECONDS},
};

/// The most messages that SQS hands out, deletes or changes at once.
const BATCH: usize = 10;

/// How much longer than its wait a receive may take.
const ANSWER_TIME: Duration = Duration::from_secs(8);

/// Which queue, and how it is read.
#[derive(Debug)]
pub struct Config {
    queue_url: String,
    endpoint_url: Option<String>,
    wait: Duration,
}

impl Config {
    /// Reads the [`SETTINGS`](crate::SETTINGS); `None` if any is wrong.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let queue_url = reader.url(&SQS_QUEUE_URL);
        if queue_url.as_ref().is_some_and(|url| !url.ends_with(".fifo")) {
            reader.wrong(&SQS_QUEUE_URL, "must be a FIFO queue, whose name ends in .fifo");
        }
        let endpoint_url = reader.optional_url(&SQS_ENDPOINT_URL);
        let wait = reader.seconds(&SQS_WAIT_TIME_SECONDS, 1..=20);
        Some(Self { queue_url: queue_url?, endpoint_url: endpoint_url?, wait: wait? })
    }
}

/// The SQS FIFO queue of requests.
#[derive(Debug)]
pub struct Queue {
    client: Client,
    url: String,
    wait: Duration,
}

/// A message that was received.
#[derive(Debug)]
pub struct Message {
    /// What it is deleted by.
    pub receipt: Receipt,
    /// Its MessageGroupId.
    pub group: String,
    /// Its body.
    pub body: String,
}

/// By what a message is known, and by what it can be deleted.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Its MessageId.
    pub message_id: String,
    /// Its ReceiptHandle.
    pub handle: String,
}

/// What SQS said was wrong, in one line.
pub type Problem = String;

impl Queue {
    /// Prepares a client; region and credentials are found as AWS's own tools find them.
    pub async fn new(config: &Config) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(config.wait + ANSWER_TIME)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts).region(
            aws_config::meta::region::RegionProviderChain::default_provider().or_else(region(&config.queue_url)),
        );
        if let Some(endpoint) = &config.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        Self { client: Client::new(&loader.load().await), url: config.queue_url.clone(), wait: config.wait }
    }

    /// The queue's name in the database: its account and name, which stay when its host doesn't.
    pub fn source(&self) -> String {
        let mut parts = self.url.rsplit('/');
        let name = parts.next().unwrap_or_default();
        let account = parts.next().unwrap_or_default();
        format!("sqs:{account}/{name}")
    }

    /// Asks for the queue's attributes, which receives nothing.
    pub async fn check(&self) -> Result<String, Problem> {
        let names = [QueueAttributeName::FifoQueue, QueueAttributeName::ApproximateNumberOfMessages];
        let request = self.client.get_queue_attributes().queue_url(&self.url).set_attribute_names(Some(names.to_vec()));
        let answer = request.send().await.map_err(|error| DisplayErrorContext(error).to_string())?;
        let attributes = answer.attributes.unwrap_or_default();
        if attributes.get(&QueueAttributeName::FifoQueue).is_none_or(|fifo| fifo != "true") {
            return Err("the queue is no FIFO queue".to_owned());
        }
        let waiting = attributes.get(&QueueAttributeName::ApproximateNumberOfMessages).map_or("?", String::as_str);
        Ok(format!("the queue answers, and has about {waiting} messages waiting"))
    }

    /// Up to ten messages, in order within each group; none if none came in time.
    pub async fn receive(&self, wait: Option<Duration>) -> Result<Vec<Message>, Problem> {
        let wait = wait.unwrap_or(self.wait).as_secs();
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(BATCH as i32)
            .wait_time_seconds(i32::try_from(wait).unwrap_or(20))
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
            .send()
            .await
            .map_err(|error| DisplayErrorContext(error).to_string())?;
        let message = |message: aws_sdk_sqs::types::Message| {
            let group = message.attributes.as_ref()?.get(&MessageSystemAttributeName::MessageGroupId)?.clone();
            let receipt = Receipt { message_id: message.message_id?, handle: message.receipt_handle? };
            Some(Message { receipt, group, body: message.body.unwrap_or_default() })
        };
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    /// Sends one message. `deduplication_id` tells it from every other of the last five minutes.
    pub async fn send(&self, group: &str, deduplication_id: &str, body: &str) -> Result<(), Problem> {
        let request = self.client.send_message().queue_url(&self.url).message_body(body);
        let request = request.message_group_id(group).message_deduplication_id(deduplication_id);
        request.send().await.map(drop).map_err(|error| DisplayErrorContext(error).to_string())
    }

    /// Deletes messages, and answers those that could not be.
    pub async fn delete(&self, messages: Vec<Receipt>) -> (Vec<Receipt>, Option<Problem>) {
        let (mut left, mut problem) = (Vec::new(), None);
        for chunk in messages.chunks(BATCH) {
            let entries = chunk.iter().enumerate().map(|(n, message)| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(n.to_string())
                    .receipt_handle(&message.handle)
                    .build()
                    .expect("id and receipt handle are set")
            });
            let request = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries.collect()));
            match request.send().await {
                Ok(answer) => {
                    for failed in answer.failed {
                        problem = Some(format!("{}: {}", failed.code, failed.message.unwrap_or_default()));
                        left.extend(failed.id.parse().ok().and_then(|n: usize| chunk.get(n)).cloned());
                    }
                }
                Err(error) => {
                    problem = Some(DisplayErrorContext(error).to_string());
                    left.extend_from_slice(chunk);
                }
            }
        }
        (left, problem)
    }

    /// Keeps messages from being handed out again for another while.
    pub async fn extend(&self, messages: &[Receipt], time: Duration) {
        for chunk in messages.chunks(BATCH) {
            let entries = chunk.iter().enumerate().map(|(n, message)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(n.to_string())
                    .receipt_handle(&message.handle)
                    .visibility_timeout(i32::try_from(time.as_secs()).unwrap_or(i32::MAX))
                    .build()
                    .expect("id and receipt handle are set")
            });
            let request = self.client.change_message_visibility_batch().queue_url(&self.url);
            if let Err(error) = request.set_entries(Some(entries.collect())).send().await {
                let error = DisplayErrorContext(error).to_string();
                tracing::warn!(event = "extend_failed", error, "messages may be received a second time");
            }
        }
    }
}

/// The region that the queue's URL names, for when the environment names none.
fn region(queue_url: &str) -> Region {
    let host = queue_url.split('/').nth(2).unwrap_or_default();
    let named = host.strip_prefix("sqs.").and_then(|rest| rest.split_once('.')).map(|(region, _)| region);
    Region::new(named.unwrap_or("us-east-1").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_taken_from_the_queue_url() {
        assert_eq!(region("https://sqs.eu-west-1.amazonaws.com/123456789012/a.fifo").as_ref(), "eu-west-1");
        assert_eq!(region("http://127.0.0.1:4566/000000000000/a.fifo").as_ref(), "us-east-1");
    }
}
