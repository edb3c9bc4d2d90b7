use std::{io, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, Request};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Answered, Arrival, Simulator, Stage,
    rules::{Rule, rule_at},
};

/// The largest mail that is taken.
const MAX_MAIL_BYTES: usize = 16 * 1024 * 1024;

/// The longest line that is taken.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Takes connections until the program ends. `implicit_tls`: from the first byte; otherwise STARTTLS is offered.
pub(crate) async fn serve(
    listener: TcpListener,
    simulator: Arc<Simulator>,
    tls: TlsAcceptor,
    implicit_tls: bool,
) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (simulator, tls) = (Arc::clone(&simulator), tls.clone());
        tokio::spawn(async move {
            // Clients that hang up end here.
            session(stream, simulator, tls, implicit_tls).await.unwrap_or_default();
        });
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A mail on its way, and who sends it.
#[derive(Default)]
struct Envelope {
    from: String,
    to: Vec<String>,
    user: Option<String>,
    secure: bool,
}

struct Session {
    io: BufReader<Box<dyn Io>>,
    simulator: Arc<Simulator>,
    envelope: Envelope,
}

async fn session(tcp: TcpStream, simulator: Arc<Simulator>, tls: TlsAcceptor, implicit_tls: bool) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let io: Box<dyn Io> = if implicit_tls { Box::new(tls.accept(tcp).await?) } else { Box::new(tcp) };
    let envelope = Envelope { secure: implicit_tls, ..Envelope::default() };
    let mut session = Session { io: BufReader::new(io), simulator, envelope };
    let rule = session.rule(Stage::Greeting, "");
    if let Some(status) = rule.status {
        return session.say(&format!("{status} no service, as the rule says")).await;
    }
    session.say("220 simulator ESMTP").await?;
    loop {
        let line = session.line().await?;
        match Request::parse(&mut line.iter()) {
            Ok(Request::StartTls) => {
                session.say("220 2.0.0 go ahead").await?;
                // What the client may have sent ahead is thrown away with the reader.
                let secure: Box<dyn Io> = Box::new(tls.accept(session.io.into_inner()).await?);
                session = Session { io: BufReader::new(secure), ..session };
                session.envelope = Envelope { secure: true, ..Envelope::default() };
            }
            Ok(Request::Quit) => return session.say("221 2.0.0 bye").await,
            Ok(request) => session.carry_out(request).await?,
            Err(_) => session.say("500 5.5.2 that is no command").await?,
        }
    }
}

impl Session {
    async fn carry_out(&mut self, request: Request<std::borrow::Cow<'_, str>>) -> io::Result<()> {
        match request {
            Request::Ehlo { .. } | Request::Helo { .. } => {
                let starttls = if self.envelope.secure { "" } else { "250-STARTTLS\r\n" };
                self.say(&format!("250-simulator\r\n{starttls}250-AUTH PLAIN LOGIN\r\n250-8BITMIME\r\n250 SMTPUTF8"))
                    .await
            }
            Request::Auth { mechanism, initial_response } => {
                let user = self.read_login(mechanism, &initial_response).await?;
                let rule = self.rule(Stage::Login, "");
                match (user, rule.status) {
                    (Some(user), None) => {
                        self.envelope.user = Some(user);
                        self.say("235 2.7.0 welcome").await
                    }
                    (_, status) => self.say(&format!("{} 5.7.8 wrong user or password", status.unwrap_or(535))).await,
                }
            }
            Request::Mail { from } => {
                let (user, secure) = (self.envelope.user.take(), self.envelope.secure);
                self.envelope = Envelope { from: from.address.into_owned(), to: Vec::new(), user, secure };
                self.say("250 2.1.0 ok").await
            }
            Request::Rcpt { to } => {
                let to = to.address.into_owned();
                let rule = self.rule(Stage::Recipient, &to);
                if let Some(status) = rule.status {
                    if self.envelope.to.is_empty() {
                        self.note(&to, "", Answered::Status(status));
                    }
                    return self.say(&format!("{status} <{to}> is refused, as the rule says")).await;
                }
                self.envelope.to.push(to);
                self.say("250 2.1.5 ok").await
            }
            Request::Data if self.envelope.to.is_empty() => self.say("554 5.5.1 no valid recipients").await,
            Request::Data => self.take_mail().await,
            Request::Rset => {
                self.envelope.to.clear();
                self.say("250 2.0.0 ok").await
            }
            Request::Noop { .. } => self.say("250 2.0.0 ok").await,
            _ => self.say("502 5.5.1 not implemented").await,
        }
    }

    async fn take_mail(&mut self) -> io::Result<()> {
        self.say("354 go ahead").await?;
        let mut mail = Vec::new();
        loop {
            let line = self.line().await?;
            if line == b".\r\n" {
                break;
            }
            mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            if mail.len() > MAX_MAIL_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let address = self.envelope.to[0].clone();
        let rule = self.rule(Stage::End, &address);
        let answered = match rule.status {
            _ if rule.hang => Answered::Hung,
            _ if rule.drop => Answered::Dropped,
            Some(status) => Answered::Status(status),
            None => Answered::Status(250),
        };
        let number = self.note(&address, &String::from_utf8_lossy(&mail), answered);
        tokio::time::sleep(std::time::Duration::from_millis(rule.delay_ms)).await;
        match answered {
            Answered::Hung => std::future::pending().await,
            Answered::Dropped => Err(io::ErrorKind::ConnectionAborted.into()),
            Answered::Status(250) => self.say(&format!("250 2.0.0 queued as {number}")).await,
            Answered::Status(status) => self.say(&format!("{status} refused, as the rule says")).await,
        }
    }

    async fn read_login(&mut self, mechanism: u64, initial: &str) -> io::Result<Option<String>> {
        let decode = |bytes: &[u8]| BASE64_STANDARD.decode(bytes.trim_ascii()).unwrap_or_default();
        if mechanism == AUTH_PLAIN {
            let decoded = decode(initial.as_bytes());
            let mut parts = decoded.split(|byte| *byte == 0).skip(1);
            let (user, password) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            return Ok((!password.is_empty()).then(|| String::from_utf8_lossy(user).into_owned()));
        }
        if mechanism != AUTH_LOGIN {
            return Ok(None);
        }
        self.say("334 VXNlcm5hbWU6").await?;
        let user = decode(&self.line().await?);
        self.say("334 UGFzc3dvcmQ6").await?;
        let password = decode(&self.line().await?);
        Ok((!password.is_empty()).then(|| String::from_utf8_lossy(&user).into_owned()))
    }

    fn rule(&self, stage: Stage, address: &str) -> Rule {
        rule_at(&mut self.simulator.rules(), stage, address)
    }

    fn note(&self, address: &str, mail: &str, answered: Answered) -> usize {
        let envelope = &self.envelope;
        let mut arrival = Arrival::new("mail", address.to_owned(), mail.to_owned());
        arrival.form =
            [("from", envelope.from.clone()), ("to", envelope.to.join(", ")), ("secure", envelope.secure.to_string())]
                .map(|(key, value)| (key.to_owned(), value))
                .into();
        arrival.authorization = envelope.user.clone();
        arrival.answered = answered;
        let accepted = matches!(answered, Answered::Status(250) | Answered::Dropped);
        self.simulator.note(arrival, |number| accepted.then(|| number.to_string()))
    }

    async fn say(&mut self, reply: &str) -> io::Result<()> {
        self.io.write_all(format!("{reply}\r\n").as_bytes()).await?;
        self.io.flush().await
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut bounded = tokio::io::AsyncReadExt::take(&mut self.io, MAX_LINE_BYTES as u64);
        match bounded.read_until(b'\n', &mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }
}
