use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};

use devservers::{RabbitMq, management, workspace};
use serde_json::{Value, json};

/// A fresh vhost with all that rabbitmq/definitions.json declares.
#[derive(Debug)]
pub struct Vhost {
    name: String,
    amqp: String,
    management_url: String,
}

impl Vhost {
    /// On the broker of all tests.
    pub fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let addresses = crate::addresses();
        let name = format!("t-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let vhost = Self { name, amqp: addresses.amqp, management_url: addresses.management_url };
        vhost.fill();
        vhost
    }

    /// The vhost that a broker of the test's own has from its start.
    pub fn of(rabbitmq: &RabbitMq) -> Self {
        Self { name: "tocsin".to_owned(), amqp: rabbitmq.amqp(), management_url: rabbitmq.management_url() }
    }

    /// The URL by which a user, with its development password, gets here.
    pub fn url(&self, user: &str) -> String {
        self.url_at(&self.amqp, user)
    }

    /// The same by way of another `host:port`, such as a relay's.
    pub fn url_at(&self, address: &str, user: &str) -> String {
        format!("amqp://{user}:{user}-development@{address}/{}", self.name)
    }

    /// `host:port` of the broker.
    pub fn address(&self) -> &str {
        &self.amqp
    }

    /// How many messages a queue has, those among them that workers hold.
    pub fn depth(&self, queue: &str) -> u64 {
        // What has not been counted yet since the queue was made is not in the answer.
        self.ask("GET", "queues", &format!("/{queue}"), None)["messages"].as_u64().unwrap_or_default()
    }

    /// Asks the management API about this vhost: `path` goes on after `/api/queues/<vhost>` and the like.
    pub fn ask(&self, method: &str, kind: &str, path: &str, body: Option<&Value>) -> Value {
        let path = format!("{kind}/{}{path}", self.name);
        management(&self.management_url, method, &path, body).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn fill(&self) {
        let text = fs::read_to_string(workspace().join("rabbitmq/definitions.json")).expect("definitions.json");
        let definitions: Value = serde_json::from_str(&text).expect("definitions.json is JSON");
        self.ask("PUT", "vhosts", "", Some(&json!({})));
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.ask("PUT", "permissions", "/admin", Some(&everything));
        for kind in ["permissions", "topic_permissions"] {
            for permission in definitions[kind].as_array().expect("a list of permissions") {
                let user = permission["user"].as_str().expect("a user");
                self.ask("PUT", &kind.replace('_', "-"), &format!("/{user}"), Some(permission));
            }
        }
        let mut parts = json!({});
        for kind in ["exchanges", "queues", "bindings", "policies"] {
            let mut items = definitions[kind].clone();
            for item in items.as_array_mut().expect("a list") {
                item.as_object_mut().expect("an object").remove("vhost");
            }
            parts[kind] = items;
        }
        self.ask("POST", "definitions", "", Some(&parts));
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if self.name != "tocsin" {
            // The broker is thrown away after the tests; this only saves it some work.
            drop(management(&self.management_url, "DELETE", &format!("vhosts/{}", self.name), None));
        }
    }
}
