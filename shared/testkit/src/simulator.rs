use std::{net::SocketAddr, path::PathBuf, time::Duration};

use devservers::Workplace;
use serde_json::Value;

use crate::{Program, wait_for};

/// The key that webhooks are signed with in tests.
pub const WEBHOOK_SECRET: &str = "whsec_dG9jc2luLXRlc3RzLXNpZ24td2l0aC10aGlzLWtleQ==";

/// The provider simulator, running as a process.
#[derive(Debug)]
pub struct Simulator {
    _program: Program,
    /// Where it listens for HTTP.
    pub url: String,
    /// Its mail server, with STARTTLS.
    pub smtp: SocketAddr,
    /// Its mail server with TLS from the first byte.
    pub smtps: SocketAddr,
    /// The certificate of the authority behind its TLS.
    pub authority: PathBuf,
}

impl Simulator {
    pub(crate) async fn start(workplace: &Workplace) -> Self {
        let authority = workplace.dir().join("authority.pem");
        let any_port = "127.0.0.1:0";
        let mut arguments = vec!["--authority", authority.to_str().expect("a readable path")];
        for option in ["--listen", "--smtp-listen", "--smtps-listen"] {
            arguments.extend([option, any_port]);
        }
        arguments.extend(["--webhook-secret", WEBHOOK_SECRET]);
        let program = Program::spawn(workplace, "simulator", &arguments, &[]);
        let line = wait_for("the simulator's addresses", Duration::from_secs(10), || async {
            program.output().iter().find_map(|line| line.strip_prefix("simulator: ").map(str::to_owned))
        })
        .await;
        let address = |before: &str| -> SocketAddr {
            let (_, rest) = line.split_once(before).expect("the address of every server");
            let end = rest.find(['/', ',', ' ']).unwrap_or(rest.len());
            rest[..end].parse().expect("an address")
        };
        let (http, smtp, smtps) = (address("http://"), address("SMTP at "), address("with TLS at "));
        Self { _program: program, url: format!("http://{http}"), smtp, smtps, authority }
    }

    /// Everything that arrived.
    pub fn arrivals(&self) -> Vec<Value> {
        let mut response = ureq::get(format!("{}/simulator/arrivals", self.url)).call().expect("the simulator answers");
        let text = response.body_mut().with_config().limit(u64::MAX).read_to_string().expect("a text");
        serde_json::from_str(&text).expect("a list")
    }

    /// The addresses that were to be reached, in order.
    pub fn called(&self) -> Vec<String> {
        let number = |arrival: &Value| arrival["address"].as_str().expect("an address").to_owned();
        self.arrivals().iter().map(number).collect()
    }

    /// Sets how it misbehaves.
    pub fn set_rules(&self, rules: &Value) {
        let request = ureq::put(format!("{}/simulator/rules", self.url));
        request.send_json(rules).expect("the simulator takes the rules");
    }
}
