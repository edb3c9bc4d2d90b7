use std::time::Duration;

use devservers::Workplace;
use serde_json::Value;

use crate::{Program, wait_for};

/// The provider simulator, running as a process.
#[derive(Debug)]
pub struct Simulator {
    _program: Program,
    /// Where it listens.
    pub url: String,
}

impl Simulator {
    pub(crate) async fn start(workplace: &Workplace) -> Self {
        let program = Program::spawn(workplace, "simulator", &["--listen", "127.0.0.1:0"], &[]);
        let url = wait_for("the simulator's address", Duration::from_secs(10), || async {
            let output = program.output();
            let line = output.iter().find_map(|line| line.strip_prefix("simulator: "))?;
            line.split_once("/simulator/").map(|(url, _)| url.to_owned())
        })
        .await;
        Self { _program: program, url }
    }

    /// Everything that arrived.
    pub fn arrivals(&self) -> Vec<Value> {
        let mut response = ureq::get(format!("{}/simulator/arrivals", self.url)).call().expect("the simulator answers");
        let text = response.body_mut().with_config().limit(u64::MAX).read_to_string().expect("a text");
        serde_json::from_str(&text).expect("a list")
    }

    /// The numbers that were called, in order.
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
