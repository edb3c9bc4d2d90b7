//! What each user of rabbitmq/definitions.json may and may not do, tried for everything that the file declares.

use std::fs;

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};
use serde_json::Value;
use testkit::Vhost;

/// What a user may try with a queue or an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Get,
    Purge,
    DeleteQueue,
    Bind,
    DeclareQueue,
    DeclareExchange,
    Publish(&'static str),
    DeleteExchange,
}

const ON_QUEUES: &[Deed] = &[Deed::Get, Deed::Purge, Deed::Bind, Deed::DeleteQueue];
const ON_EXCHANGES: &[Deed] = &[Deed::Publish("main.system.phone"), Deed::Publish("elsewhere"), Deed::DeleteExchange];

/// Everything that a user may. Who may read a queue may also empty it: RabbitMQ has one right for both.
fn may(user: &str, deed: Deed, object: &str) -> bool {
    let reads = match user.strip_prefix("notifier-") {
        Some(channel) => object == format!("notify.{channel}"),
        None => user == "activator" && object == "dead",
    };
    match deed {
        Deed::Get | Deed::Purge => reads,
        Deed::Publish(key) if user == "activator" => object == "tocsin.deliver" && key == "main.system.phone",
        Deed::Publish(_) => user.starts_with("notifier-") && object.starts_with("tocsin.retry."),
        Deed::Bind | Deed::DeclareQueue | Deed::DeclareExchange | Deed::DeleteQueue | Deed::DeleteExchange => false,
    }
}

async fn carry_out(channel: &Channel, deed: Deed, object: &str) -> lapin::Result<()> {
    let (nothing, name) = (FieldTable::default(), object.into());
    match deed {
        Deed::Get => channel.basic_get(name, BasicGetOptions { no_ack: true }).await.map(drop),
        Deed::Purge => channel.queue_purge(name, QueuePurgeOptions::default()).await.map(drop),
        Deed::DeleteQueue => channel.queue_delete(name, QueueDeleteOptions::default()).await.map(drop),
        Deed::Bind => {
            let options = QueueBindOptions::default();
            channel.queue_bind(name, "tocsin.deliver".into(), "#".into(), options, nothing).await
        }
        Deed::DeclareQueue => channel.queue_declare(name, QueueDeclareOptions::default(), nothing).await.map(drop),
        Deed::DeclareExchange => {
            channel.exchange_declare(name, ExchangeKind::Fanout, ExchangeDeclareOptions::default(), nothing).await
        }
        Deed::Publish(key) => {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            channel.basic_publish(name, key.into(), options, b"{}", properties).await?.await.map(drop)
        }
        Deed::DeleteExchange => channel.exchange_delete(name, ExchangeDeleteOptions::default()).await,
    }
}

/// Whether the broker let him; any other error than its refusal is a failure of the test.
async fn is_let(connection: &Connection, deed: Deed, object: &str) -> bool {
    let channel = connection.create_channel().await.unwrap();
    let done = carry_out(&channel, deed, object).await;
    match done {
        Ok(()) => {
            channel.close(200, "done".into()).await.unwrap();
            true
        }
        Err(error) => {
            let is_refusal = matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 403);
            assert!(is_refusal, "{deed:?} {object}: {error}");
            false
        }
    }
}

#[tokio::test]
async fn every_user_may_do_its_work_with_every_queue_and_exchange_and_no_more() {
    let definitions = fs::read_to_string(devservers::workspace().join("rabbitmq/definitions.json")).unwrap();
    let definitions: Value = serde_json::from_str(&definitions).unwrap();
    let names = |kind: &str| -> Vec<String> {
        let items = definitions[kind].as_array().unwrap().iter();
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let vhost = Vhost::create();
    // The exchange without a name would take a message to any queue.
    let mut trials = vec![(Deed::Publish("notify.phone"), String::new())];
    trials.extend([Deed::DeclareQueue, Deed::DeclareExchange].map(|deed| (deed, "mine".to_owned())));
    trials.extend(names("queues").iter().flat_map(|queue| ON_QUEUES.iter().map(|deed| (*deed, queue.clone()))));
    trials.extend(names("exchanges").iter().flat_map(|name| ON_EXCHANGES.iter().map(|deed| (*deed, name.clone()))));
    let mut wrong = Vec::new();
    for user in names("users") {
        let connection = Connection::connect(&vhost.url(&user), ConnectionProperties::default()).await.unwrap();
        for (deed, object) in &trials {
            let (is_let, may) = (is_let(&connection, *deed, object).await, may(&user, *deed, object));
            if is_let != may {
                wrong.push(format!("{user} is {}let {deed:?} {object}", if may { "not " } else { "" }));
            }
        }
        connection.close(200, "done".into()).await.unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
