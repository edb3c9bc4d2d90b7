use std::sync::atomic::{AtomicU32, Ordering};

use devservers::sqs;
use serde_json::{Value, json};

const MAX_BATCH: usize = 10;
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// A fresh SQS FIFO queue.
#[derive(Debug)]
pub struct Queue {
    /// The endpoint.
    pub endpoint: String,
    /// The queue's URL.
    pub url: String,
}

impl Queue {
    /// Makes one with content-based deduplication, and a visibility timeout of 5 s.
    pub fn create() -> Self {
        Self::create_with(&json!({"ContentBasedDeduplication": "true"}))
    }

    /// Makes one with these attributes beside.
    pub fn create_with(attributes: &Value) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let endpoint = crate::addresses().sqs_url;
        let name = format!("t-{}-{}.fifo", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut all = json!({"FifoQueue": "true", "VisibilityTimeout": "5"});
        for (key, value) in attributes.as_object().expect("an object") {
            all[key] = value.clone();
        }
        let answer = sqs(&endpoint, "CreateQueue", &json!({"QueueName": name, "Attributes": all}));
        let url = answer.expect("the queue is made")["QueueUrl"].as_str().expect("a queue URL").to_owned();
        Self { endpoint, url }
    }

    /// Sends a request, in the message group of its process.
    pub fn send(&self, group: &str, body: &str) {
        self.send_all(&[(group, body)]);
    }

    /// Sends requests in order, as many at a time as SQS takes.
    pub fn send_all(&self, requests: &[(&str, &str)]) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut rest = requests;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(_, body): &&(&str, &str)| {
                bytes += body.len();
                bytes <= MAX_BATCH_BYTES
            };
            let batch;
            (batch, rest) = rest.split_at(rest.iter().take(MAX_BATCH).take_while(fits).count().max(1));
            let entries = batch.iter().enumerate().map(|(n, (group, body))| {
                let unique = COUNT.fetch_add(1, Ordering::Relaxed);
                json!({
                    "Id": n.to_string(), "MessageGroupId": group, "MessageBody": body,
                    "MessageDeduplicationId": format!("{}-{unique}", std::process::id()),
                })
            });
            self.send_entries(&entries.collect::<Vec<_>>());
        }
    }

    /// Sends a request without a deduplication id, so that the queue makes one of the body.
    pub fn send_deduplicated_by_content(&self, group: &str, body: &str) {
        self.send_entries(&[json!({"Id": "0", "MessageGroupId": group, "MessageBody": body})]);
    }

    fn send_entries(&self, entries: &[Value]) {
        let answer = self.ask("SendMessageBatch", json!({"Entries": entries}));
        assert_eq!(answer["Successful"].as_array().map(Vec::len), Some(entries.len()), "{answer}");
    }

    /// Its ARN.
    pub fn arn(&self) -> String {
        let answer = self.ask("GetQueueAttributes", json!({"AttributeNames": ["QueueArn"]}));
        answer["Attributes"]["QueueArn"].as_str().expect("an ARN").to_owned()
    }

    /// How many messages the queue has, hidden ones among them.
    pub fn depth(&self) -> u64 {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let answer = self.ask("GetQueueAttributes", json!({"AttributeNames": names}));
        let number = |name: &str| answer["Attributes"][name].as_str().and_then(|n| n.parse::<u64>().ok());
        names.iter().map(|name| number(name).expect("a number of messages")).sum()
    }

    fn ask(&self, action: &str, mut body: Value) -> Value {
        body["QueueUrl"] = self.url.clone().into();
        sqs(&self.endpoint, action, &body).unwrap_or_else(|error| panic!("{error:#}"))
    }
}
