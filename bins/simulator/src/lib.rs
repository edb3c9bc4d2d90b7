//! Stands in for the providers, over real HTTP and SMTP: for the demo, tests and benchmarks.
//!
//! | where | what |
//! | --- | --- |
//! | `POST /2010-04-01/Accounts/{sid}/Calls.json`, `Messages.json` | Twilio: checks what Twilio checks, answers as Twilio does |
//! | `POST /publish/{pub}/{sub}/0/{channel}/0` | PubNub |
//! | `POST /webhook/{any}` | takes anything whose Standard Webhooks signature is right |
//! | `POST /` | SNS: `Publish` to any topic, and `ListTopics`; a FIFO topic leaves nothing out |
//! | SMTP | a mail server, with STARTTLS or implicit TLS |
//! | `GET /` | a page with all that arrived |
//! | `GET /simulator/arrivals?after=N` | the same as JSON, from number N+1 on |
//! | `DELETE /simulator/arrivals` | forgets what arrived |
//! | `GET`, `PUT /simulator/rules` | how to misbehave, see [`Rule`] |

mod arrivals;
mod certificates;
mod providers;
mod rules;
mod server;
mod smtp;
mod sns;
mod twilio;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use anyhow::Context;
pub use arrivals::{Answered, Arrival};
pub use rules::{Rule, Stage};
use standardwebhooks::Webhook;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// The command line.
#[derive(Debug, clap::Parser)]
#[command(
    name = "simulator",
    version,
    about = "Stands in for Twilio, PubNub, SNS, webhook receivers and a mail server",
    after_help = RULES_HELP
)]
pub struct Arguments {
    /// Where to listen for HTTP
    #[arg(long, default_value = "127.0.0.1:9480")]
    listen: SocketAddr,

    /// Where to listen for SMTP, with STARTTLS for those who want it
    #[arg(long, default_value = "127.0.0.1:9425")]
    smtp_listen: SocketAddr,

    /// Where to listen for SMTP with TLS from the first byte
    #[arg(long, default_value = "127.0.0.1:9465")]
    smtps_listen: SocketAddr,

    /// Write the certificate of the authority to trust to this file
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,

    /// The names that the mail server's certificate is for
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    certificate_name: Vec<String>,

    /// The key that webhooks are signed with; without it, signatures are not looked at
    #[arg(long, value_name = "whsec_…", env = "TOCSIN_WEBHOOK__SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
}

const RULES_HELP: &str = "\
What arrived:   http://127.0.0.1:9480/, or curl http://127.0.0.1:9480/simulator/arrivals
How to behave:  curl -X PUT http://127.0.0.1:9480/simulator/rules -H 'content-type: application/json' -d '[
                  {\"address\": \"+385*\", \"status\": 503, \"retry_after\": 7, \"times\": 2},
                  {\"address\": \"+1*\", \"status\": 400, \"code\": 21211},
                  {\"address\": \"*@example.org\", \"status\": 451, \"stage\": \"end\"},
                  {\"address\": \"+44*\", \"delay_ms\": 200},
                  {\"address\": \"+49*\", \"drop\": true}, {\"address\": \"+7*\", \"hang\": true}]'
                The first rule whose address fits (* stands for anything) and whose times are not used up applies.
                drop: accept it, then break the connection without an answer. hang: never answer.
                words: what PubNub says, the code of SNS's error.
                stage, for mail: greeting, login, recipient (the default) or end, when all of it has come.";

/// What the simulator remembers.
#[derive(Default)]
pub(crate) struct Simulator {
    arrivals: Mutex<Vec<Arrival>>,
    rules: Mutex<Vec<Rule>>,
    /// Checks signatures.
    pub(crate) webhook: Option<Webhook>,
}

impl Simulator {
    pub(crate) fn arrivals(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().expect("nobody panics while holding this lock")
    }

    pub(crate) fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().expect("nobody panics while holding this lock")
    }

    /// Keeps an arrival under the next number, which it answers. `id` makes the id that was given to it.
    pub(crate) fn note(&self, arrival: Arrival, id: impl FnOnce(usize) -> Option<String>) -> usize {
        let mut arrivals = self.arrivals();
        let number = arrivals.len() + 1;
        arrivals.push(Arrival { number, id: id(number), ..arrival });
        number
    }
}

/// Serves until it is killed or told to stop.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    threads.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let listen = async |address: SocketAddr| {
        TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
    };
    let http = listen(arguments.listen).await?;
    let smtp = listen(arguments.smtp_listen).await?;
    let smtps = listen(arguments.smtps_listen).await?;
    let tls = certificates::make(&arguments.certificate_name, arguments.authority.as_deref())?;
    let webhook = arguments.webhook_secret.as_deref().filter(|secret| !secret.is_empty()).map(Webhook::new);
    let webhook = webhook.transpose().context("--webhook-secret")?;
    let simulator = Arc::new(Simulator { webhook, ..Simulator::default() });
    // One line, so that whoever started it finds all of it or nothing.
    println!(
        "simulator: http://{}/ shows what arrived; SMTP at {}, with TLS at {}",
        http.local_addr()?,
        smtp.local_addr()?,
        smtps.local_addr()?
    );
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = server::serve(http, Arc::clone(&simulator)) => ended,
        ended = smtp::serve(smtp, Arc::clone(&simulator), tls.clone(), false) => ended,
        ended = smtp::serve(smtps, simulator, tls, true) => ended,
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
