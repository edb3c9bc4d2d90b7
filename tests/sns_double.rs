use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What an SNS endpoint does with a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Misbehaviour {
    /// Refuses it with this status and code.
    Refuse(u16, &'static str),
    /// Has it published, and hangs up without an answer.
    LoseAnswer,
    /// Keeps the connection, and says nothing.
    KeepSilent,
    /// Answers it as somebody who is no SNS.
    AnswerNonsense,
}

/// An SNS endpoint that passes everything on to another, but for the next messages to topics of which a test wants
/// something else.
pub(crate) struct SnsDouble {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    upstream: String,
    /// By the topic's name; `*` is for each.
    plans: Mutex<BTreeMap<String, (Misbehaviour, usize)>>,
    /// The names of the topics that were published to.
    published: Mutex<Vec<String>>,
    silent: Mutex<Vec<TcpStream>>,
}

impl SnsDouble {
    pub(crate) fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            upstream: upstream.strip_prefix("http://").unwrap().to_owned(),
            plans: Mutex::default(),
            published: Mutex::default(),
            silent: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&shared));
                thread::spawn(move || state.serve(stream));
            }
        });
        Self { url, state }
    }

    /// So many of the next messages to the topic get this.
    pub(crate) fn plan(&self, topic: &str, misbehaviour: Misbehaviour, times: usize) {
        self.state.plans.lock().unwrap().insert(topic.to_owned(), (misbehaviour, times));
    }

    /// From now on all is passed on.
    pub(crate) fn behave(&self) {
        self.state.plans.lock().unwrap().clear();
    }

    /// How many messages came for a topic.
    pub(crate) fn calls(&self, topic: &str) -> usize {
        self.state.published.lock().unwrap().iter().filter(|name| *name == topic).count()
    }
}

impl State {
    /// Answers one request, and closes the connection.
    fn serve(&self, mut stream: TcpStream) {
        let Some((head, body)) = read_request(&stream) else { return };
        let misbehaviour = topic(&body).and_then(|topic| {
            let planned = self.planned(&topic);
            self.published.lock().unwrap().push(topic);
            planned
        });
        let answer = match misbehaviour {
            None => self.pass_on(&head, &body),
            Some(Misbehaviour::Refuse(status, code)) => answer(
                status,
                &format!(
                    "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
                     <Code>{code}</Code><Message>arn:aws:sns:us-east-1:000000000000:secret</Message></Error>\
                     <RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>"
                ),
            ),
            Some(Misbehaviour::AnswerNonsense) => answer(200, "<html>Welcome</html>"),
            Some(Misbehaviour::LoseAnswer) => {
                self.pass_on(&head, &body);
                return;
            }
            Some(Misbehaviour::KeepSilent) => return self.silent.lock().unwrap().push(stream),
        };
        // The worker may have given up meanwhile.
        stream.write_all(&answer).unwrap_or_default();
    }

    fn planned(&self, topic: &str) -> Option<Misbehaviour> {
        let mut plans = self.plans.lock().unwrap();
        let name = if plans.contains_key(topic) { topic } else { "*" };
        let (misbehaviour, left) = plans.get_mut(name)?;
        *left = left.checked_sub(1)?;
        Some(*misbehaviour)
    }

    fn pass_on(&self, head: &str, body: &[u8]) -> Vec<u8> {
        let mut upstream = TcpStream::connect(&self.upstream).unwrap();
        upstream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).unwrap();
        upstream.write_all(body).unwrap();
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).unwrap();
        answer
    }
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: text/xml\r\nconnection: close\r\n");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The name of the topic, if the request publishes to one. Of an ARN in a form's body, colons are escaped.
fn topic(body: &[u8]) -> Option<String> {
    let body = str::from_utf8(body).unwrap();
    body.contains("Action=Publish&").then_some(())?;
    let arn = body.split('&').find_map(|pair| pair.strip_prefix("TopicArn="))?;
    arn.rsplit("%3A").next().map(str::to_owned)
}

/// The head without a line about the connection, and the body.
fn read_request(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut head, mut length) = (String::new(), String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    (!head.is_empty()).then_some((head, body))
}
