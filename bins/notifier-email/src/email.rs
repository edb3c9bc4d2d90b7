use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Mutex,
    time::Duration,
};

use domain::provider::{SmtpPhase as Phase, smtp_accepted, smtp_answer};
use lettre::{address::Address, message::Mailbox};
use notifier::{Answer, Channel, Claim};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use crate::{
    message::{Defaults, Mail, mail},
    smtp::{Failure, Login, Server, Session, greet, log_in},
    stream::Stream,
};

/// How long a session may lie idle. Servers close theirs after some minutes at the earliest.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// How many may lie idle: servers bound how many a client may have.
const MAX_IDLE_SESSIONS: usize = 8;

/// How long a session that lay idle may take to answer, before a new one is made instead. Nothing has been sent yet.
const STALE_PATIENCE: Duration = Duration::from_secs(2);

/// How long [`send_over`] may take.
const SEND_OVER_LIMIT: Duration = Duration::from_secs(10);

/// Sends mail, over sessions that are kept for the next one.
pub(crate) struct Email {
    server: Server,
    defaults: Defaults,
    call_timeout: Duration,
    idle: Mutex<Vec<(Session, Instant)>>,
}

impl Email {
    /// `call_timeout` is when a mail is given up.
    pub(crate) fn new(server: Server, defaults: Defaults, call_timeout: Duration) -> Self {
        Self { server, defaults, call_timeout, idle: Mutex::default() }
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().expect("nobody panics while holding this lock");
        idle.retain(|(_, since)| since.elapsed() < MAX_IDLE);
        idle.pop().map(|(session, _)| session)
    }

    fn keep(&self, session: Session) {
        let mut idle = self.idle.lock().expect("nobody panics while holding this lock");
        if idle.len() < MAX_IDLE_SESSIONS {
            idle.push((session, Instant::now()));
        } else {
            tokio::spawn(session.quit());
        }
    }

    /// Where one has died unseen, so may have the others.
    fn forget_idle(&self) {
        self.idle.lock().expect("nobody panics while holding this lock").clear();
    }

    async fn deliver(&self, mail: &Mail) -> Result<usize, Failure> {
        // A little before the worker's own limit, so that it is known how far it had come.
        let begin = Instant::now();
        let end = begin + self.call_timeout * 9 / 10;
        if let Some(mut session) = self.take_idle() {
            let alive_by = end.min(begin + STALE_PATIENCE);
            match session.send(&mail.envelope, &mail.content, alive_by, end).await {
                Ok(accepted) => {
                    self.keep(session);
                    return Ok(accepted.refused_copies);
                }
                // The server had ended it meanwhile.
                Err(Failure { phase: Phase::Sender, code: None | Some(421), .. }) => self.forget_idle(),
                Err(failure) => {
                    tokio::spawn(session.quit());
                    return Err(failure);
                }
            }
        }
        let mut session = self.server.open(end.min(Instant::now() + self.call_timeout / 2)).await?;
        match session.send(&mail.envelope, &mail.content, end, end).await {
            Ok(accepted) => {
                self.keep(session);
                Ok(accepted.refused_copies)
            }
            Err(failure) => {
                tokio::spawn(session.quit());
                Err(failure)
            }
        }
    }
}

/// What came of a mail that the server has taken, but for so many of its copies, or has not.
fn answer(mail: Mail, delivered: Result<usize, Failure>) -> Answer {
    match delivered {
        Ok(refused_copies) => Answer { provider_id: Some(mail.message_id), ..smtp_accepted(refused_copies) },
        Err(failure) => refusal(&failure, mail.own_sender),
    }
}

/// What a failure means. `own_sender`: the notification brought a sender of its own.
fn refusal(failure: &Failure, own_sender: bool) -> Answer {
    smtp_answer(failure.phase, failure.code, &failure.text, own_sender)
}

/// Makes the mail of a notification, sends it over a connection that somebody has made, and says what came of it:
/// with it, tests and fuzz targets play any server. There is no TLS.
pub async fn send_over<S>(io: S, claim: &Claim, login: Option<&Login>) -> Answer
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug + 'static,
{
    let from = Mailbox::new(None, Address::new("alarm", "example.com").expect("an address"));
    let defaults = Defaults { from, subject: String::new(), body: String::new() };
    let mail = match mail(claim, &defaults) {
        Ok(mail) => mail,
        Err(answer) => return answer,
    };
    let end = Instant::now() + SEND_OVER_LIMIT;
    let delivered = async {
        let stream = Stream::new(io, SocketAddr::from((Ipv4Addr::LOCALHOST, 25)));
        let connection = greet(stream, "localhost").await?;
        let mut session = log_in(connection, login, end).await?;
        Ok(session.send(&mail.envelope, &mail.content, end, end).await?.refused_copies)
    }
    .await;
    answer(mail, delivered)
}

impl Channel for Email {
    const NAME: &'static str = "email";

    type Message = Mail;

    fn prepare(&self, claim: &Claim, _property: Option<&Value>) -> Result<Mail, Answer> {
        mail(claim, &self.defaults)
    }

    async fn send(&self, mail: Mail) -> Answer {
        let delivered = self.deliver(&mail).await;
        answer(mail, delivered)
    }

    /// Connects, makes TLS, logs in, and takes leave.
    async fn check(&self) -> Result<String, String> {
        match self.server.open(Instant::now() + self.call_timeout).await {
            Ok(session) => {
                session.quit().await;
                let login = if self.server.login.is_some() { "and takes the login" } else { "and was given no login" };
                Ok(format!("{}:{} answers, {login}", self.server.host, self.server.port))
            }
            Err(failure) => Err(refusal(&failure, false).detail.unwrap_or_default()),
        }
    }
}
