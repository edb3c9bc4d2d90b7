use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{Process, Python, Workplace, free_port, process::wait_until_ready};

/// A private MiniStack, which speaks SQS and SNS, on 127.0.0.1 only.
pub struct MiniStack {
    port: u16,
    process: Process,
}

impl MiniStack {
    /// Starts it. Its queues are kept from one start to the next if it was stopped in good order.
    pub fn start(workplace: &Workplace, python: &Python) -> Result<Self> {
        let dir = workplace.dir().join("ministack");
        for folder in ["tmp", "state"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let log_path = dir.join("output.log");
        let log = File::create(&log_path)?;
        let port = kept_port(&dir)?;
        let mut command = Command::new(python.program("python"));
        command
            .args(["-m", "ministack"])
            .current_dir(&dir)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &dir)
            .env("TMPDIR", dir.join("tmp"))
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            .env("SERVICES", "sqs,sns")
            .env("PERSIST_STATE", "1")
            .env("STATE_DIR", dir.join("state"))
            .env("S3_DATA_DIR", dir.join("tmp/s3"))
            .env("LOG_LEVEL", "WARNING")
            .env("PYTHONUNBUFFERED", "1")
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = workplace.spawn("ministack", &mut command)?;
        let ministack = Self { port, process };
        let health = format!("{}/_ministack/health", ministack.url());
        wait_until_ready(&ministack.process, &log_path, Duration::from_secs(60), || ureq::get(&health).call().is_ok())?;
        Ok(ministack)
    }

    /// The endpoint.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a FIFO queue, or finds it, and answers its URL.
    pub fn create_fifo_queue(&self, name: &str) -> Result<String> {
        let attributes = json!({"FifoQueue": "true", "ContentBasedDeduplication": "true"});
        let answer = self.ask("CreateQueue", &json!({"QueueName": name, "Attributes": attributes}))?;
        Ok(answer["QueueUrl"].as_str().context("no QueueUrl in the answer")?.to_owned())
    }

    /// Sends a message to a FIFO queue.
    pub fn send(&self, queue_url: &str, group: &str, body: &str) -> Result<()> {
        self.ask("SendMessage", &json!({"QueueUrl": queue_url, "MessageGroupId": group, "MessageBody": body})).map(drop)
    }

    fn ask(&self, action: &str, body: &Value) -> Result<Value> {
        sqs(&self.url(), action, body)
    }

    /// Stops it; its queues are written down.
    pub fn stop(&self) {
        // Dropping the process kills what did not stop.
        drop(self.process.stop(Signal::TERM, Duration::from_secs(10)));
    }
}

/// Asks an emulated SQS, unsigned: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/>.
pub fn sqs(endpoint: &str, action: &str, body: &Value) -> Result<Value> {
    let response = ureq::post(endpoint)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("AmazonSQS.{action}"))
        .send(body.to_string());
    let text = response.with_context(|| action.to_owned())?.body_mut().read_to_string()?;
    Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
}

/// Asks an emulated SNS, unsigned: <https://docs.aws.amazon.com/sns/latest/api/>. Answers its XML.
pub fn sns(endpoint: &str, action: &str, parameters: &[(&str, &str)]) -> Result<String> {
    let all = [("Action", action), ("Version", "2010-03-31")].into_iter().chain(parameters.iter().copied());
    let response = ureq::post(endpoint).send_form(all);
    Ok(response.with_context(|| action.to_owned())?.body_mut().read_to_string()?)
}

/// Queue URLs hold the port, so it stays the same from one start to the next where it can.
fn kept_port(dir: &Path) -> Result<u16> {
    let note = dir.join("port");
    let kept = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let port = match kept {
        Some(port) if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() => port,
        _ => free_port()?,
    };
    fs::write(note, port.to_string())?;
    Ok(port)
}
