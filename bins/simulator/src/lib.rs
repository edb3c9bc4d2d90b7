//! Stands in for the providers, over real HTTP: for the demo, tests and benchmarks.
//!
//! | path | what |
//! | --- | --- |
//! | `POST /2010-04-01/Accounts/{sid}/Calls.json` | Twilio's calls: checks what Twilio checks, answers as Twilio does |
//! | `POST /webhook/{any}` | takes anything |
//! | `GET /simulator/arrivals?after=N` | what arrived, from number N+1 on |
//! | `DELETE /simulator/arrivals` | forgets what arrived |
//! | `GET`, `PUT /simulator/rules` | how to misbehave, see [`Rule`] |

mod arrivals;
mod rules;
mod server;
mod twilio;

use std::{net::SocketAddr, sync::Mutex};

pub use arrivals::{Answered, Arrival};
pub use rules::Rule;

/// The command line.
#[derive(Debug, clap::Parser)]
#[command(name = "simulator", version, about = "Stands in for Twilio and webhook receivers", after_help = RULES_HELP)]
pub struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9480")]
    listen: SocketAddr,
}

const RULES_HELP: &str = "\
What arrived:   curl http://127.0.0.1:9480/simulator/arrivals
How to behave:  curl -X PUT http://127.0.0.1:9480/simulator/rules -H 'content-type: application/json' -d '[
                  {\"address\": \"+385*\", \"status\": 503, \"retry_after\": 7, \"times\": 2},
                  {\"address\": \"+1*\", \"status\": 400, \"code\": 21211},
                  {\"address\": \"+44*\", \"delay_ms\": 200},
                  {\"address\": \"+49*\", \"drop\": true}, {\"address\": \"+7*\", \"hang\": true}]'
                The first rule whose address fits (* stands for anything) and whose times are not used up applies.
                drop: accept it, then break the connection without an answer. hang: never answer.";

/// What the simulator remembers.
#[derive(Debug, Default)]
pub(crate) struct Simulator {
    pub(crate) arrivals: Mutex<Vec<Arrival>>,
    pub(crate) rules: Mutex<Vec<Rule>>,
}

/// Serves until it is killed or told to stop.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    threads.block_on(server::serve(arguments.listen))
}
