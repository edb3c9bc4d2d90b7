use std::{
    collections::BTreeMap,
    panic,
    sync::{Arc, LazyLock, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use domain::{NotificationId, OnUnknown, Outcome};
use jiff::Timestamp;
use notifier::{Answer, Claim};
use notifier_email::{Login, send_over};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::{
    check_answer,
    mail_server::{Log, MailServer},
};

/// A word of its own, which no server says by chance.
const PASSWORD: &str = "qZ7-pass-word-Xv3";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tolerate_lettre();
    Builder::new_current_thread().enable_time().build().expect("a runtime")
});

/// A panic of lettre's at the answer to EHLO is known, and caught. All others end a fuzz target in its panic hook, even
/// those that somebody would catch.
fn tolerate_lettre() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map(|location| location.file()).unwrap_or_default();
        if !file.ends_with("smtp/extension.rs") {
            hook(panic);
        }
    }));
}

/// What a mail server says, line by line, from its greeting on: whatever that is, the answer fits to how far the session
/// had come, and holds neither the password nor an address, even of a server that repeats what it was sent (`$`).
pub fn smtp_session(script: &[u8]) {
    let copies = BTreeMap::from([("cc".to_owned(), json!(["copy@example.org"]))]);
    let login = Login { username: "tocsin".to_owned(), password: PASSWORD.to_owned().into() };
    let (answer, log) = session(script, &claim("me@example.org", copies), Some(&login));
    check_answer(&answer);
    check_outcome(&answer, &log);
    let detail = answer.detail.unwrap_or_default();
    let secrets = [PASSWORD.to_owned(), encoded(PASSWORD), encoded(&format!("\0tocsin\0{PASSWORD}"))];
    // A fuzzer learns what it is compared with; from a server that has it from elsewhere nothing can be hidden.
    let knows = |secret: &&String| secret.as_bytes().windows(6).any(|part| script.windows(6).any(|said| said == part));
    for secret in secrets.iter().filter(|secret| !knows(secret)) {
        assert!(!detail.contains(secret.as_str()), "the password: {detail:?}");
    }
}

/// Sends a mail to a server that says this, and answers what came of it.
pub(crate) fn session(script: &[u8], claim: &Claim, login: Option<&Login>) -> (Answer, Log) {
    let log = Arc::new(Mutex::new(Log::default()));
    let answer = RUNTIME.block_on(send_over(MailServer::new(script, &log), claim, login));
    let log = Arc::into_inner(log).expect("the session is over").into_inner().expect("nobody has panicked");
    (answer, log)
}

/// A claimed notification for this address.
pub(crate) fn claim(address: &str, options: BTreeMap<String, Value>) -> Claim {
    Claim {
        id: NotificationId(7),
        fence: 1,
        process: "p".to_owned(),
        run: 1,
        attempts: 0,
        max_attempts: 10,
        refusals: 0,
        on_unknown: OnUnknown::Retry,
        scheduled_at: Timestamp::UNIX_EPOCH,
        address: Some(address.to_owned()),
        options: serde_json::from_str(&json!(options).to_string()).expect("it is an object"),
        claimed_at: Timestamp::UNIX_EPOCH,
    }
}

/// Nothing is taken for sent, nor for perhaps sent, before the end of the message was; and after it only the server's
/// own word says what became of it.
fn check_outcome(answer: &Answer, log: &Log) {
    const END: &[u8] = b"\r\n.\r\n";
    let unknown_or_delivered = matches!(answer.outcome, Outcome::Delivered | Outcome::Unknown);
    if !log.sent.ends_with(END) {
        assert!(!unknown_or_delivered, "{answer:?} without a message");
        return;
    }
    let code = log.reply.first();
    match answer.outcome {
        Outcome::Unknown => {}
        Outcome::Delivered => assert_eq!(code, Some(&b'2'), "{answer:?}"),
        Outcome::Temporary => assert_eq!(code, Some(&b'4'), "{answer:?}"),
        Outcome::Permanent => assert_eq!(code, Some(&b'5'), "{answer:?}"),
        other => panic!("{other} after the message was sent"),
    }
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing.
    #[test]
    fn an_answer_to_ehlo_at_which_lettre_panics_is_the_servers_fault_and_costs_no_attempt() {
        let (answer, _) = session(b"220 x\r\n250-x\r\n250  \r\n", &claim("me@example.org", BTreeMap::new()), None);
        assert_eq!(answer.outcome, Outcome::ChannelDown);
        let detail = answer.detail.unwrap_or_default();
        assert_eq!(detail, "no session with the mail server: an answer to EHLO that can't be read");
    }
}
