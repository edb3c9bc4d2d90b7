use std::{fmt, io, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use domain::provider::SmtpPhase as Phase;
use futures_util::FutureExt;
use lettre::{
    address::{Address, Envelope},
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt, Starttls},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
        response::Severity,
    },
};
use runtime::{ExposeSecret, SecretString};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use crate::stream::{Stream, Tls};

/// How long a farewell may take, which nobody depends on.
const FAREWELL_PATIENCE: Duration = Duration::from_millis(500);

/// So many bytes of a secret in a row are a part of it, and no other word that looks like it.
const PART_OF_A_SECRET: usize = 6;

/// A mail server, and how to reach it.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Tls,
    pub(crate) trust: Arc<ClientConfig>,
    pub(crate) login: Option<Login>,
    /// What we call ourselves.
    pub(crate) hello: String,
}

/// Who we are to the mail server.
pub struct Login {
    /// The user's name.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// Why a session did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) phase: Phase,
    /// The reply's code, if there was one.
    pub(crate) code: Option<u16>,
    /// What the server said, or what was wrong with the connection.
    pub(crate) text: String,
}

impl Failure {
    fn new(phase: Phase, text: impl fmt::Display) -> Self {
        Self { phase, code: None, text: text.to_string() }
    }
}

/// What a mail server accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// How many copies were refused that were not for the recipient itself.
    pub(crate) refused_copies: usize,
}

/// A session with a mail server that has got past the login. It takes one message after the other.
pub(crate) struct Session(AsyncSmtpConnection);

impl Server {
    /// Connects, makes TLS, and logs in.
    pub(crate) async fn open(&self, end: Instant) -> Result<Session, Failure> {
        let connection = in_time(Phase::Connecting, end, self.connect()).await?;
        log_in(connection, self.login.as_ref(), end).await
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let failed = |error: io::Error| Failure::new(Phase::Connecting, error);
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(failed)?;
        // The message and its end are written apart.
        tcp.set_nodelay(true).map_err(failed)?;
        let peer = tcp.peer_addr().map_err(failed)?;
        match self.tls {
            Tls::None => greet(Stream::new(tcp, peer), &self.hello).await,
            Tls::Implicit => greet(Stream::new(self.secure(tcp).await?, peer), &self.hello).await,
            Tls::Start => {
                let socket = tcp.into_std().map_err(failed)?;
                let plain = socket.try_clone().and_then(TcpStream::from_std).map_err(failed)?;
                let mut plain = greet(Stream::new(plain, peer), &self.hello).await?;
                if !plain.can_starttls() {
                    return Err(Failure::new(Phase::Connecting, "the server does not offer STARTTLS: see smtp.tls"));
                }
                plain.command(Starttls).await.map_err(|error| said(Phase::Connecting, &error))?;
                // What somebody may have put behind the server's reply is thrown away with it, unread.
                drop(plain);
                let tcp = TcpStream::from_std(socket).map_err(failed)?;
                greet(Stream::greeted(self.secure(tcp).await?, peer), &self.hello).await
            }
        }
    }

    async fn secure(&self, tcp: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
        let failed = |error: &dyn fmt::Display| Failure::new(Phase::Connecting, format!("TLS: {error}"));
        let name = ServerName::try_from(self.host.clone()).map_err(|error| failed(&error))?;
        TlsConnector::from(Arc::clone(&self.trust)).connect(name, tcp).await.map_err(|error| failed(&error))
    }
}

/// Waits for the greeting, and says hello.
pub(crate) async fn greet<S>(stream: Stream<S>, hello: &str) -> Result<AsyncSmtpConnection, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug + 'static,
{
    let hello = ClientId::Domain(hello.to_owned());
    let connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello);
    // lettre 0.11.23 panics at a line of white space alone in the answer to EHLO. Nothing has been sent yet.
    let connection = AssertUnwindSafe(connection).catch_unwind().await;
    let unreadable = |_| Failure::new(Phase::Connecting, "an answer to EHLO that can't be read");
    connection.map_err(unreadable)?.map_err(|error| said(Phase::Connecting, &error))
}

/// Logs in, if there is a login.
pub(crate) async fn log_in(
    mut connection: AsyncSmtpConnection,
    login: Option<&Login>,
    end: Instant,
) -> Result<Session, Failure> {
    if let Some(login @ Login { username, password }) = login {
        let credentials = Credentials::new(username.clone(), password.expose_secret().to_owned());
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        let auth = async { connection.auth(&mechanisms, &credentials).await.map_err(|e| said(Phase::LoggingIn, &e)) };
        let logged_in = in_time(Phase::LoggingIn, end, auth).await;
        logged_in.map_err(|failure| Failure { text: without_password(&failure.text, login), ..failure })?;
    }
    Ok(Session(connection))
}

/// A server may repeat what it did not understand, and so the password, in any of the forms in which it was sent.
fn without_password(text: &str, Login { username, password }: &Login) -> String {
    let password = password.expose_secret();
    let plain = BASE64_STANDARD.encode(format!("\0{username}\0{password}"));
    let secrets = [password.to_owned(), BASE64_STANDARD.encode(password), plain].map(|secret| secret.to_lowercase());
    let reveals = |word: &str| {
        let word = word.to_lowercase();
        secrets.iter().any(|secret| shares_a_part(&word, secret))
    };
    let words = text.split_whitespace().map(|word| if reveals(word) { "(hidden)" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a word holds so much of a secret that it can't be by chance.
fn shares_a_part(word: &str, secret: &str) -> bool {
    let length = secret.len().min(PART_OF_A_SECRET);
    length > 0 && secret.as_bytes().windows(length).any(|part| word.as_bytes().windows(length).any(|w| w == part))
}

impl Session {
    /// Sends a message. The first recipient of the envelope is the one that it is for: if the server refuses that one,
    /// nothing is sent. The others are copies, and do not hold it up. The first answer must come by `alive_by`. After an error the session is of no more use.
    pub(crate) async fn send(
        &mut self,
        envelope: &Envelope,
        message: &[u8],
        alive_by: Instant,
        end: Instant,
    ) -> Result<Accepted, Failure> {
        let parameters = self.parameters(envelope, message)?;
        let mail = Mail::new(envelope.from().cloned(), parameters);
        self.command(Phase::Sender, alive_by, mail).await?;
        let mut refused_copies = 0;
        for (n, to) in envelope.to().iter().enumerate() {
            match self.command(Phase::Recipient, end, Rcpt::new(to.clone(), vec![])).await {
                Ok(_) => {}
                Err(Failure { code: Some(code), .. }) if n > 0 && code != 421 => refused_copies += 1,
                Err(failure) => return Err(failure),
            }
        }
        let go_ahead = self.command(Phase::Message, end, Data).await?;
        if !go_ahead.has_code(354) {
            return Err(Failure::new(Phase::Message, format!("an odd answer to DATA: {}", go_ahead.code())));
        }
        let mut all_sent = false;
        // The end is sent after the last part has been, and so not before the next is asked for.
        let parts = std::iter::from_fn({
            let (mut chunks, all_sent) = (message.chunks(64 * 1024), &mut all_sent);
            move || {
                let next = chunks.next();
                *all_sent = next.is_none();
                next
            }
        });
        let answer = match timeout_at(end, self.0.message_iter(parts)).await {
            Ok(answer) => answer.map_err(|error| said(Phase::Message, &error)),
            Err(_) => Err(Failure::new(Phase::Message, "no answer in time")),
        };
        match answer {
            Ok(answer) if answer.code().severity == Severity::PositiveCompletion => Ok(Accepted { refused_copies }),
            Ok(answer) => Err(Failure::new(Phase::End, format!("an odd answer to the message: {}", answer.code()))),
            Err(failure) if all_sent => Err(Failure { phase: Phase::End, ..failure }),
            Err(failure) => Err(failure),
        }
    }

    /// Takes leave. Whether the server hears it matters to nobody.
    pub(crate) async fn quit(mut self) {
        timeout(FAREWELL_PATIENCE, self.0.quit()).await.map(drop).unwrap_or_default();
    }

    fn parameters(&self, envelope: &Envelope, message: &[u8]) -> Result<Vec<MailParameter>, Failure> {
        let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        let mut parameters = Vec::new();
        let mut need = |extension: Extension, is_needed: bool, parameter: MailParameter, what: &str| {
            if is_needed && !self.0.server_info().supports_feature(extension) {
                return Err(Failure { phase: Phase::Recipient, code: Some(553), text: what.to_owned() });
            }
            parameters.extend(is_needed.then_some(parameter));
            Ok(())
        };
        let ascii = envelope.from().into_iter().chain(envelope.to()).all(is_ascii);
        let what = "the server takes no addresses beyond ASCII";
        need(Extension::SmtpUtfEight, !ascii, MailParameter::SmtpUtfEight, what)?;
        let eight_bit = MailParameter::Body(MailBodyParameter::EightBitMime);
        need(Extension::EightBitMime, !message.is_ascii(), eight_bit, "the server takes no text beyond ASCII")?;
        Ok(parameters)
    }

    async fn command(
        &mut self,
        phase: Phase,
        end: Instant,
        command: impl fmt::Display,
    ) -> Result<lettre::transport::smtp::response::Response, Failure> {
        let command = async { self.0.command(command).await.map_err(|error| said(phase, &error)) };
        in_time(phase, end, command).await
    }
}

async fn in_time<T>(phase: Phase, end: Instant, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout_at(end, work).await.unwrap_or_else(|_| Err(Failure::new(phase, "no answer in time")))
}

/// What the server said, or what became of the connection to it.
fn said(phase: Phase, error: &lettre::transport::smtp::Error) -> Failure {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    Failure { phase, code: error.status().map(u16::from), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_repeats_the_login_does_not_reveal_the_password() {
        let login = Login { username: "tocsin".to_owned(), password: "pass-word".to_owned().into() };
        let (plain, alone) = ("AHRvY3NpbgBwYXNzLXdvcmQ=", "cGFzcy13b3Jk");
        assert_eq!(BASE64_STANDARD.decode(plain).unwrap(), b"\0tocsin\0pass-word");
        assert_eq!(BASE64_STANDARD.decode(alone).unwrap(), b"pass-word");
        for (said, kept) in [
            (format!("unknown command: AUTH PLAIN {plain}"), "unknown command: AUTH PLAIN (hidden)"),
            (format!("UNKNOWN COMMAND: {}", alone.to_uppercase()), "UNKNOWN COMMAND: (hidden)"),
            (format!("unknown command: {}...", &alone[..8]), "unknown command: (hidden)"),
            ("wrong: pass-word".to_owned(), "wrong: (hidden)"),
            ("5.7.8 Username and Password not accepted".to_owned(), "5.7.8 Username and Password not accepted"),
        ] {
            assert_eq!(without_password(&said, &login), kept);
        }
    }
}
