use std::{
    io::{BufRead, BufReader},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{Arena, Program, wait_for};

/// The HTTP API, running as a process, and a key to it.
pub struct Api {
    /// Its process.
    pub program: Program,
    /// Where it is, without a slash at the end.
    pub url: String,
    /// A key of role admin.
    pub key: String,
}

/// What the API answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// A header's value, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Arena {
    /// Starts the API and makes a key of role admin.
    pub async fn start_api(&self) -> Api {
        self.start_api_with(&[]).await
    }

    /// The same, with settings of the test's own.
    pub async fn start_api_with(&self, settings: &[(&str, &str)]) -> Api {
        let key = self.make_key("admin").await;
        let program = self.start_with("api", &[], settings).ready().await;
        let url = wait_for("the API's address", Duration::from_secs(20), || async {
            let listening = |line: &String| -> Option<String> {
                let fact: Value = serde_json::from_str(line).ok()?;
                fact["api"].as_str().map(|address| format!("http://{address}"))
            };
            program.output().iter().find_map(listening)
        })
        .await;
        Api { program, url, key }
    }

    /// Makes a key of a role.
    pub async fn make_key(&self, role: &str) -> String {
        let made = self.run("tocsin", &["key", "create", &format!("the {role}"), "--role", role]).await;
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).expect("a text").trim().to_owned()
    }
}

impl Api {
    /// Asks with the key of role admin. A body is JSON.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(ToString::to_string);
        let headers =
            [("authorization", format!("Bearer {}", self.key)), ("content-type", "application/json".to_owned())];
        self.ask_with(method, path, &headers, body.as_deref())
    }

    /// Asks with another key.
    pub fn ask_as(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(ToString::to_string);
        let headers = [("authorization", format!("Bearer {key}")), ("content-type", "application/json".to_owned())];
        self.ask_with(method, path, &headers, body.as_deref())
    }

    /// Asks with these headers and no others.
    pub fn ask_with(&self, method: &str, path: &str, headers: &[(&str, String)], body: Option<&str>) -> Answer {
        self.try_ask(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same, where the API may go away.
    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Option<&str>,
    ) -> Result<Answer, ureq::Error> {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut response = match body {
            Some(body) => agent.run(request.body(body.to_owned())?)?,
            None => agent.run(request.body(())?)?,
        };
        let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().iter().map(header).collect(),
            text: response.body_mut().read_to_string()?,
        })
    }

    /// What a GET answers, which must be good.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// What happens from now on, line by line as it is told; ends when the API closes the connection.
    pub fn events(&self) -> mpsc::Receiver<String> {
        let request =
            ureq::get(format!("{}/v1/events", self.url)).header("authorization", format!("Bearer {}", self.key));
        let mut response = request.call().expect("the API tells what happens");
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(response.body_mut().as_reader()).lines().map_while(Result::ok);
            // Whoever does not listen any more does not need the rest.
            lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        events
    }

    /// The answer and the sentence of an explanation.
    #[track_caller]
    pub fn explain(&self, notification: i64) -> (String, String) {
        let explanation = self.get(&format!("/v1/notifications/{notification}/explain"));
        let text = |key: &str| explanation[key].as_str().expect("a text").to_owned();
        (text("answer"), text("sentence"))
    }
}
