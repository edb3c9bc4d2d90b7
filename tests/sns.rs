//! The channel sns: what arrives at queues that are subscribed to its topics, and what it makes of refusals.

use std::{collections::BTreeMap, time::Duration};

use devservers::{sns, sqs};
use serde_json::{Value, json};
use testkit::{Arena, Program, wait_for};
use tokio::process::Command;

use crate::sns_double::{Misbehaviour, SnsDouble};

/// A topic with a queue that is subscribed to it, both of the test's own.
pub(crate) struct Topic {
    endpoint: String,
    name: String,
    pub(crate) arn: String,
    queue_url: String,
}

impl Topic {
    /// `name` ends in `.fifo` or doesn't. With raw delivery a message is what was published, else an envelope around it.
    pub(crate) fn create(arena: &Arena, name: &str, raw: bool) -> Self {
        let endpoint = arena.queue.endpoint.clone();
        let unique = arena.queue.url.rsplit('/').next().unwrap().trim_end_matches(".fifo");
        let name = format!("{unique}-{name}");
        let mut attributes = json!({});
        if name.ends_with(".fifo") {
            attributes["FifoQueue"] = "true".into();
        }
        let made = sqs(&endpoint, "CreateQueue", &json!({"QueueName": name, "Attributes": attributes})).unwrap();
        let queue_url = made["QueueUrl"].as_str().unwrap().to_owned();
        let ask = json!({"QueueUrl": queue_url, "AttributeNames": ["QueueArn"]});
        let queue_arn = sqs(&endpoint, "GetQueueAttributes", &ask).unwrap()["Attributes"]["QueueArn"].clone();
        let answer = sns(&endpoint, "CreateTopic", &[("Name", &name)]).unwrap();
        let (_, rest) = answer.split_once("<TopicArn>").unwrap();
        let arn = rest.split_once('<').unwrap().0.to_owned();
        let raw = raw.to_string();
        let subscription = [
            ("TopicArn", arn.as_str()),
            ("Protocol", "sqs"),
            ("Endpoint", queue_arn.as_str().unwrap()),
            ("Attributes.entry.1.key", "RawMessageDelivery"),
            ("Attributes.entry.1.value", &raw),
        ];
        sns(&endpoint, "Subscribe", &subscription).unwrap();
        Self { endpoint, name, arn, queue_url }
    }

    fn notification(&self, payload: Value) -> Value {
        json!({"channel": "sns", "at": 1, "topic-arn": self.arn, "payload": payload})
    }

    /// Takes so many messages from the queue, with AWS's own client.
    pub(crate) async fn receive(&self, count: usize) -> Vec<Value> {
        let mut messages = Vec::new();
        let aws = devservers::workspace().join(".dev/python/bin/aws");
        let everything = ["--attribute-names", "All", "--message-attribute-names", "All"];
        while messages.len() < count {
            let mut command = Command::new(&aws);
            command.args(["--endpoint-url", &self.endpoint, "--output", "json", "sqs", "receive-message"]);
            command.args([
                "--queue-url",
                &self.queue_url,
                "--max-number-of-messages",
                "10",
                "--wait-time-seconds",
                "5",
            ]);
            command.args(everything).env_clear().env("PATH", "/usr/bin:/bin").env("AWS_DEFAULT_REGION", "us-east-1");
            command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
            let output = command.output().await.unwrap();
            assert!(output.status.success(), "{output:?}");
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            for message in answer["Messages"].as_array().cloned().unwrap_or_default() {
                let receipt = json!({"QueueUrl": self.queue_url, "ReceiptHandle": message["ReceiptHandle"]});
                sqs(&self.endpoint, "DeleteMessage", &receipt).unwrap();
                messages.push(message);
            }
        }
        messages
    }

    /// How many messages the queue has.
    pub(crate) fn depth(&self) -> String {
        let ask = json!({"QueueUrl": self.queue_url, "AttributeNames": ["ApproximateNumberOfMessages"]});
        let answer = sqs(&self.endpoint, "GetQueueAttributes", &ask).unwrap();
        answer["Attributes"]["ApproximateNumberOfMessages"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn what_a_standard_topic_gets() {
    let arena = Arena::new().await;
    let topic = Topic::create(&arena, "orders", false);
    let _programs = arena.start_all(&["sns"]).await;
    let mut text = topic.notification("a new order: ü <b>&</b> \"7\"\n".into());
    text["subject"] = "Order 7".into();
    text["attributes"] = json!({"kind": "order", "restaurant.name": "Pizzeria ü"});
    arena.start_process("r", &[text, topic.notification(json!({"order": [7, null, 1.5]}))]);
    arena.notifications_in("delivered", 2, 20).await;
    let messages = topic.receive(2).await;
    let envelopes: Vec<Value> =
        messages.iter().map(|message| serde_json::from_str(message["Body"].as_str().unwrap()).unwrap()).collect();
    let of = |start: &str| envelopes.iter().find(|e| e["Message"].as_str().unwrap().starts_with(start)).unwrap();

    let text = of("a new");
    assert_eq!(text["Message"], "a new order: ü <b>&</b> \"7\"\n", "as it is");
    assert_eq!((&text["Subject"], &text["TopicArn"]), (&json!("Order 7"), &json!(topic.arn)));
    let attribute = |value: &str| json!({"Type": "String", "Value": value});
    let attributes = json!({"kind": attribute("order"), "restaurant.name": attribute("Pizzeria ü")});
    assert_eq!(text["MessageAttributes"], attributes);

    let other = of("{");
    assert_eq!(other["Message"], r#"{"order":[7,null,1.5]}"#);
    let ids = arena.database.texts("SELECT provider_id FROM attempt").await;
    assert!(envelopes.iter().all(|e| ids.iter().any(|id| e["MessageId"] == **id)), "SNS's id is kept: {ids:?}");
}

#[tokio::test]
async fn what_a_fifo_topic_gets_and_gets_once_however_often_it_is_tried() {
    let arena = Arena::new().await;
    let double = SnsDouble::before(&arena.queue.endpoint);
    let topic = Topic::create(&arena, "orders.fifo", true);
    double.plan(&topic.name, Misbehaviour::LoseAnswer, 1);
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let _worker = arena.start_with("notifier-sns", &[], &[("TOCSIN_SNS__ENDPOINT_URL", &double.url)]).ready().await;
    let long = "ü ".repeat(127);
    arena.start_process(&long, &[topic.notification("lost".into())]);
    arena.counted("SELECT count(*) FROM attempt WHERE outcome = 'unknown'", 1, 20).await;
    arena.start_process("other", &[topic.notification("other".into())]);
    arena.notifications_in("delivered", 2, 30).await;
    arena.start_process(&long, &[topic.notification("next".into())]);
    arena.notifications_in("delivered", 3, 20).await;
    assert_eq!(double.calls(&topic.name), 4, "three, and one again");

    let messages = topic.receive(3).await;
    assert_eq!(topic.depth(), "0", "and nothing beyond those");
    let group = |body: &str| {
        let message = messages.iter().find(|message| message["Body"] == body).unwrap();
        message["Attributes"]["MessageGroupId"].as_str().unwrap().to_owned()
    };
    assert_eq!(group("lost"), group("next"), "one process is one group");
    assert_ne!(group("lost"), group("other"));
    let key = |message: &Value| message["Attributes"]["MessageDeduplicationId"].as_str().unwrap().to_owned();
    let keys: std::collections::BTreeSet<_> = messages.iter().map(key).collect();
    assert_eq!(keys.len(), 3);
}

/// What came of each topic's message, by the topic's name.
async fn outcomes(arena: &Arena) -> BTreeMap<String, String> {
    let rows = arena
        .database
        .texts(
            "SELECT t.address || ' ' || string_agg(a.outcome, ' ' ORDER BY a.number) FROM attempt a
             JOIN notification_content t USING (notification_id) GROUP BY notification_id, t.address",
        )
        .await;
    let pair = |row: &String| {
        let (arn, outcomes) = row.split_once(' ').unwrap();
        (arn.rsplit(':').next().unwrap().to_owned(), outcomes.to_owned())
    };
    rows.iter().map(pair).collect()
}

#[tokio::test]
async fn each_kind_of_refusal() {
    let arena = Arena::new().await;
    let double = SnsDouble::before(&arena.queue.endpoint);
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    let settings = [("TOCSIN_SNS__ENDPOINT_URL", double.url.as_str()), ("TOCSIN_NOTIFIER__CALL_TIMEOUT_SECONDS", "3")];
    let worker = arena.start_with("notifier-sns", &[], &settings).ready().await;
    let cases = [
        ("throttled", Misbehaviour::Refuse(400, "Throttling"), 1, "rate_limited delivered"),
        ("busy", Misbehaviour::Refuse(503, "ServiceUnavailable"), 1, "temporary delivered"),
        ("internal", Misbehaviour::Refuse(500, "InternalError"), 1, "unknown delivered"),
        ("silent", Misbehaviour::KeepSilent, 1, "unknown delivered"),
        ("nonsense", Misbehaviour::AnswerNonsense, 1, "unknown delivered"),
        ("lost", Misbehaviour::LoseAnswer, 1, "unknown delivered"),
        ("forbidden", Misbehaviour::Refuse(403, "AuthorizationError"), 9, "permanent"),
        ("invalid", Misbehaviour::Refuse(400, "InvalidParameter"), 9, "permanent"),
    ];
    let mut topics: Vec<_> = cases.iter().map(|(name, ..)| Topic::create(&arena, name, true)).collect();
    let mut expected = BTreeMap::new();
    for (topic, (_, misbehaviour, times, outcome)) in topics.iter().zip(cases) {
        double.plan(&topic.name, misbehaviour, times);
        expected.insert(topic.name.clone(), outcome.to_owned());
    }
    // That there is no such topic, the emulator says itself.
    let missing = format!("{}-missing", topics[0].name);
    let arn = topics[0].arn.replace(&topics[0].name, &missing);
    topics.push(Topic { arn, name: missing.clone(), endpoint: String::new(), queue_url: String::new() });
    expected.insert(missing, "permanent".to_owned());
    arena.start_process("r", &topics.iter().map(|topic| topic.notification("x".into())).collect::<Vec<_>>());
    arena.notifications_in("failed", 3, 30).await;
    arena.notifications_in("delivered", 6, 60).await;
    assert_eq!(outcomes(&arena).await, expected);
    for topic in &topics {
        let attempts = expected[&topic.name].split(' ').count();
        assert_eq!(double.calls(&topic.name), attempts, "one call an attempt: {}", topic.name);
    }
    assert_eq!(worker.get("/health/ready").await.0, 200, "one topic's trouble is not the channel's");
    let details = arena.database.texts("SELECT DISTINCT detail FROM attempt WHERE outcome <> 'delivered'").await;
    assert!(details.iter().all(|detail| !detail.contains("arn:")), "{details:?}");
    let limited =
        "SELECT attempts::bigint FROM notification JOIN attempt ON notification_id = id AND outcome = 'rate_limited'";
    assert_eq!(arena.database.count(limited).await, 1, "being told to wait costs no attempt");
}

async fn not_ready(worker: &Program, words: &str) {
    wait_for(&format!("not ready: {words}"), Duration::from_secs(30), || async {
        let (status, body) = worker.get("/health/ready").await;
        (status == 503 && body.contains(words)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn refused_or_missing_credentials_and_a_server_that_is_away_cost_no_attempt() {
    let arena = Arena::new().await;
    let double = SnsDouble::before(&arena.queue.endpoint);
    let topic = Topic::create(&arena, "orders", true);
    let _bridge = arena.start("bridge").await;
    let _activator = arena.start("activator").await;
    arena.start_process("r", &[topic.notification("x".into())]);
    double.plan("*", Misbehaviour::Refuse(403, "InvalidClientTokenId"), usize::MAX);
    let endpoint = "TOCSIN_SNS__ENDPOINT_URL";
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[(endpoint, "http://127.0.0.1:1")], "could not connect to SNS: Connection refused"),
        (&[("AWS_ACCESS_KEY_ID", ""), ("AWS_EC2_METADATA_DISABLED", "true")], "nothing could be sent to SNS"),
        (&[(endpoint, &double.url)], "credentials were refused"),
    ];
    for (settings, words) in cases {
        let worker = arena.start_with("notifier-sns", &[], settings);
        not_ready(&worker, words).await;
        worker.stop().await;
    }
    assert_eq!(topic.depth(), "0");
    double.behave();
    let _worker = arena.start_with("notifier-sns", &[], &[("TOCSIN_SNS__ENDPOINT_URL", &double.url)]).ready().await;
    arena.notifications_in("delivered", 1, 40).await;
    assert_eq!(arena.database.count("SELECT attempts::bigint FROM notification").await, 1);
    assert_eq!(topic.receive(1).await[0]["Body"], "x");
}

#[tokio::test]
async fn a_check_asks_sns_and_publishes_nothing() {
    let arena = Arena::new().await;
    let good = arena.run("notifier-sns", &["--check"]).await;
    let words = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(good.status.success() && words.contains("SNS answers, and knows the credentials"), "{good:?}");
    let away =
        arena.run_with("notifier-sns", &["--check"], &[("TOCSIN_SNS__ENDPOINT_URL", "http://127.0.0.1:1")]).await;
    let words = String::from_utf8_lossy(&away.stdout).into_owned();
    assert!(away.status.code() == Some(69) && words.contains("could not connect to SNS"), "{away:?}");
}
