//! The sessions on a real RabbitMQ: each test has a fresh vhost with all that rabbitmq/definitions.json declares.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod rights;

use std::time::{Duration, Instant};

use broker::{Broker, Confirm, Consumer, Error, Message, Publisher};
use serde_json::json;
use testkit::Vhost;
use tokio::time::timeout;

fn broker(vhost: &Vhost, user: &str) -> Broker {
    Broker::new(&vhost.url(user), "test").unwrap()
}

async fn publish(publisher: &Publisher, exchange: &'static str, key: &str, body: &[u8]) -> broker::Result<Confirm> {
    let message = Message { exchange, routing_key: key.to_owned(), body: body.to_owned() };
    match publisher.publish(&[message]).await {
        (mut sent, None) => sent.remove(0).confirm().await,
        (_, Some(error)) => Err(error),
    }
}

async fn next(consumer: &mut Consumer) -> broker::Delivery {
    timeout(Duration::from_secs(20), consumer.next()).await.expect("a message in time").unwrap()
}

async fn is_silent(consumer: &mut Consumer) -> bool {
    timeout(Duration::from_millis(500), consumer.next()).await.is_err()
}

#[tokio::test]
async fn many_messages_arrive_in_their_order_and_those_that_come_back_say_which_they_are() {
    let vhost = Vhost::create();
    let publisher = Publisher::open(&broker(&vhost, "activator"), &["tocsin.deliver"]).await.unwrap();
    let message = |n: usize| {
        let routing_key = if n % 100 == 7 { "main.system.nobody" } else { "main.system.phone" };
        Message { exchange: "tocsin.deliver", routing_key: routing_key.to_owned(), body: n.to_string().into_bytes() }
    };
    let messages: Vec<_> = (0..1_000).map(message).collect();
    let (sent, error) = publisher.publish(&messages).await;
    assert!(error.is_none() && sent.len() == 1_000);
    let mut returned = Vec::new();
    for publication in sent {
        let confirm = publication.confirm().await.unwrap();
        assert!(confirm.is_ack);
        returned.extend(confirm.returned.map(|message| String::from_utf8(message.body).unwrap()));
    }
    // Which message's confirm tells of it is nobody's to say.
    returned.sort_by_key(|n| n.parse::<u32>().unwrap());
    assert_eq!(returned, (7..1_000).step_by(100).map(|n| n.to_string()).collect::<Vec<_>>());
    let mut consumer = Consumer::open(&broker(&vhost, "notifier-phone"), "notify.phone", 2_000).await.unwrap();
    for n in (0..1_000).filter(|n| n % 100 != 7) {
        assert_eq!(next(&mut consumer).await.body, n.to_string().into_bytes());
    }
}

#[tokio::test]
async fn a_message_is_routed_by_channel_and_confirmed() {
    let vhost = Vhost::create();
    let publisher = Publisher::open(&broker(&vhost, "activator"), &["tocsin.deliver"]).await.unwrap();
    let outcome = publish(&publisher, "tocsin.deliver", "main.system.phone", b"ring").await.unwrap();
    assert_eq!(outcome, Confirm { is_ack: true, returned: None });
    let mut consumer = Consumer::open(&broker(&vhost, "notifier-phone"), "notify.phone", 10).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.body, b"ring");
    consumer.acks().ack(delivery.tag).await.unwrap();
    let mut console = Consumer::open(&broker(&vhost, "notifier-console"), "notify.console", 10).await.unwrap();
    assert!(is_silent(&mut console).await);
    consumer.close().await;
    publisher.close().await;
}

#[tokio::test]
async fn what_has_no_queue_comes_back_and_counts_as_not_published() {
    let vhost = Vhost::create();
    let publisher = Publisher::open(&broker(&vhost, "activator"), &["tocsin.deliver"]).await.unwrap();
    let confirm = publish(&publisher, "tocsin.deliver", "main.system.pigeon", b"coo").await.unwrap();
    let returned = confirm.returned.unwrap();
    assert!(confirm.is_ack && returned.body == b"coo" && returned.reason.contains("NO_ROUTE"), "{returned:?}");
}

#[tokio::test]
async fn a_queue_that_is_full_refuses() {
    let vhost = Vhost::create();
    let policy = json!({"pattern": "^notify\\.phone$", "apply-to": "queues", "priority": 9,
                        "definition": {"max-length": 1, "overflow": "reject-publish"}});
    vhost.ask("PUT", "policies", "/full", Some(&policy));
    let publisher = Publisher::open(&broker(&vhost, "activator"), &["tocsin.deliver"]).await.unwrap();
    let mut refused = 0;
    for _ in 0..20 {
        let confirm = publish(&publisher, "tocsin.deliver", "main.system.phone", b"ring").await.unwrap();
        refused += usize::from(!confirm.is_ack);
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn what_definitions_json_should_have_declared_is_named() {
    let vhost = Vhost::create();
    let error = Publisher::open(&broker(&vhost, "activator"), &["tocsin.elsewhere"]).await.err().unwrap();
    assert!(matches!(&error, Error::Missing { kind: "exchange", name, .. } if name == "tocsin.elsewhere"), "{error}");
    let error = Consumer::open(&broker(&vhost, "notifier-phone"), "notify.pigeon", 1).await.err().unwrap();
    assert!(error.to_string().contains("queue notify.pigeon is missing: import rabbitmq/definitions.json"), "{error}");
}

#[tokio::test]
async fn a_retry_comes_back_to_the_queue_it_left_and_to_no_other_after_its_wait() {
    let vhost = Vhost::create();
    // Somebody else listens to everything that is delivered.
    let copy = json!({"durable": true, "arguments": {"x-queue-type": "quorum"}});
    vhost.ask("PUT", "queues", "/everything", Some(&copy));
    vhost.ask("POST", "bindings", "/e/tocsin.deliver/q/everything", Some(&json!({"routing_key": "#"})));
    let worker = broker(&vhost, "notifier-phone");
    let publisher = Publisher::open(&worker, &["tocsin.retry.5s"]).await.unwrap();
    let sent = Instant::now();
    let outcome = publish(&publisher, "tocsin.retry.5s", "notify.phone", b"again").await.unwrap();
    assert_eq!(outcome, Confirm { is_ack: true, returned: None });
    let mut consumer = Consumer::open(&worker, "notify.phone", 10).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.body, b"again");
    assert!(sent.elapsed() >= Duration::from_secs(5));
    let mut everything = Consumer::open(&broker(&vhost, "admin"), "everything", 10).await.unwrap();
    assert!(is_silent(&mut everything).await);
}

#[tokio::test]
async fn a_rejected_message_is_kept_with_its_reason() {
    let vhost = Vhost::create();
    let publisher = Publisher::open(&broker(&vhost, "activator"), &["tocsin.deliver"]).await.unwrap();
    publish(&publisher, "tocsin.deliver", "main.system.phone", b"gibberish").await.unwrap();
    let mut consumer = Consumer::open(&broker(&vhost, "notifier-phone"), "notify.phone", 10).await.unwrap();
    let delivery = next(&mut consumer).await;
    consumer.acks().reject(delivery.tag).await.unwrap();
    let mut dead = Consumer::open(&broker(&vhost, "activator"), "dead", 10).await.unwrap();
    let delivery = next(&mut dead).await;
    let death = delivery.first_death.unwrap();
    assert_eq!((death.queue.as_str(), death.reason.as_str()), ("notify.phone", "rejected"));
    assert_eq!(delivery.body, b"gibberish");
}

#[tokio::test]
async fn each_user_may_do_its_work_and_no_more() {
    let vhost = Vhost::create();
    let phone = broker(&vhost, "notifier-phone");
    assert!(Consumer::open(&phone, "notify.console", 1).await.is_err(), "read another channel's queue");
    assert!(Consumer::open(&phone, "dead", 1).await.is_err(), "read the dead letters");
    let publisher = Publisher::open(&phone, &[]).await.unwrap();
    assert!(publish(&publisher, "tocsin.deliver", "main.system.phone", b"x").await.is_err(), "publish work");
    let activator = broker(&vhost, "activator");
    assert!(Consumer::open(&activator, "notify.phone", 1).await.is_err(), "read work");
    let publisher = Publisher::open(&activator, &[]).await.unwrap();
    assert!(publish(&publisher, "tocsin.deliver", "Main.confirm.phone", b"x").await.is_err(), "publish off its topic");
    let publisher = Publisher::open(&activator, &[]).await.unwrap();
    assert!(publish(&publisher, "tocsin.retry.5s", "notify.phone", b"x").await.is_err(), "publish a retry");
}

#[tokio::test]
async fn a_consumer_ends_when_its_queue_is_deleted() {
    let vhost = Vhost::create();
    let mut consumer = Consumer::open(&broker(&vhost, "notifier-phone"), "notify.phone", 1).await.unwrap();
    vhost.ask("DELETE", "queues", "/notify.phone", None);
    let ended = timeout(Duration::from_secs(10), consumer.next()).await.unwrap();
    assert!(ended.is_err());
}

#[test]
fn a_bad_url_is_not_shown() {
    let error = Broker::new("http://me:hush@example.org", "test").err().unwrap();
    assert!(!error.to_string().contains("hush"), "{error}");
    assert!(error.to_string().contains("amqp://"));
}
