use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

/// An SQS endpoint that passes everything on to the real one, but fails deletes as a test wants.
pub(crate) struct SqsProxy {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    upstream: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    fails: Fails,
    /// The MessageId behind each receipt handle.
    messages: BTreeMap<String, String>,
    failed_deletes: BTreeSet<String>,
    came_back: BTreeSet<String>,
}

/// Which deletes fail.
#[derive(Clone, Copy, Default)]
enum Fails {
    #[default]
    None,
    /// Single entries of batches, always the same.
    Some,
    /// Whole batches.
    All,
}

impl SqsProxy {
    /// Half of the entries of each batch fail, whenever they are tried again.
    pub(crate) fn failing_some_deletes(upstream: &str) -> Self {
        Self::start(upstream, Fails::Some)
    }

    /// Each batch of deletes fails as a whole.
    pub(crate) fn failing_all_deletes(upstream: &str) -> Self {
        Self::start(upstream, Fails::All)
    }

    fn start(upstream: &str, fails: Fails) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State { upstream: upstream.to_owned(), seen: Mutex::new(Seen { fails, ..Seen::default() }) };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Self { url, state }
    }

    /// From now on no delete fails.
    pub(crate) fn delete_all(&self) {
        self.state.seen.lock().unwrap().fails = Fails::None;
    }

    /// The MessageIds of messages whose delete failed.
    pub(crate) fn failed_deletes(&self) -> BTreeSet<String> {
        self.state.seen.lock().unwrap().failed_deletes.clone()
    }

    /// The MessageIds of messages that were received more than once.
    pub(crate) fn came_back(&self) -> BTreeSet<String> {
        self.state.seen.lock().unwrap().came_back.clone()
    }
}

impl State {
    /// Answers one request, and closes the connection.
    fn serve(&self, mut stream: TcpStream) {
        let Some((action, request)) = read_request(&stream) else { return };
        let fails = self.seen.lock().unwrap().fails;
        let (status, answer) = match (action.as_str(), fails) {
            ("DeleteMessageBatch", Fails::All) => (500, json!({"__type": "InternalError"})),
            ("DeleteMessageBatch", Fails::Some) => (200, self.delete_some(&request)),
            _ => (200, devservers::sqs(&self.upstream, &action, &request).unwrap()),
        };
        if action == "ReceiveMessage" {
            self.note_received(&answer);
        }
        let answer = answer.to_string();
        let head = "content-type: application/x-amz-json-1.0\r\nconnection: close";
        // The bridge may have been killed meanwhile.
        write!(stream, "HTTP/1.1 {status} X\r\n{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
            .unwrap_or_default();
    }

    fn note_received(&self, answer: &Value) {
        let mut seen = self.seen.lock().unwrap();
        for message in answer["Messages"].as_array().into_iter().flatten() {
            let text = |key: &str| message[key].as_str().unwrap().to_owned();
            let id = text("MessageId");
            if seen.messages.values().any(|known| *known == id) {
                seen.came_back.insert(id.clone());
            }
            seen.messages.insert(text("ReceiptHandle"), id);
        }
    }

    fn delete_some(&self, request: &Value) -> Value {
        let handle = |entry: &Value| entry["ReceiptHandle"].as_str().unwrap().to_owned();
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let is_bad = |entry: &Value| hasher.hash_one(handle(entry)) % 2 == 0;
        let (bad, good): (Vec<_>, Vec<_>) = request["Entries"].as_array().unwrap().iter().cloned().partition(is_bad);
        let mut answer = json!({"Successful": [], "Failed": []});
        if !good.is_empty() {
            let mut request = request.clone();
            request["Entries"] = good.into();
            answer = devservers::sqs(&self.upstream, "DeleteMessageBatch", &request).unwrap();
        }
        let mut seen = self.seen.lock().unwrap();
        seen.failed_deletes =
            &seen.failed_deletes | &bad.iter().map(|one| seen.messages[&handle(one)].clone()).collect();
        let failed = |one: &Value| json!({"Id": one["Id"], "Code": "InternalError", "SenderFault": false});
        answer["Failed"] = bad.iter().map(failed).collect();
        answer
    }
}

fn read_request(stream: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut target, mut length) = (String::new(), String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "x-amz-target" => target = value.trim().to_owned(),
            "content-length" => length = value.trim().parse().unwrap(),
            _ => {}
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((target.strip_prefix("AmazonSQS.")?.to_owned(), serde_json::from_slice(&body).unwrap()))
}
