use std::{net::SocketAddr, path::Path, process::ExitCode, time::Duration};

use http_client::{Reply, exchange};
use runtime::{read_settings, settings::HEALTH_LISTEN};

use crate::UNAVAILABLE;

const PATIENCE: Duration = Duration::from_secs(2);

/// Asks a health endpoint, and shows what it says.
pub(crate) async fn run(url: Option<&str>, file: Option<&Path>) -> ExitCode {
    let url = match url {
        Some(url) => url.to_owned(),
        None => match read_settings("tocsin", file, |reader| reader.text(&HEALTH_LISTEN)) {
            Ok((listen, _)) => format!("http://{}/health/ready", reachable(&listen)),
            Err(wrong) => return wrong.show("tocsin", None),
        },
    };
    let reply = match http_client::builder(PATIENCE).timeout(PATIENCE).build() {
        Ok(client) => exchange(client.get(&url), PATIENCE).await,
        Err(_) => Reply::Unusable,
    };
    match reply {
        Reply::Answered(answered) => {
            println!("{}", String::from_utf8_lossy(&answered.body));
            if answered.status == 200 { ExitCode::SUCCESS } else { ExitCode::from(UNAVAILABLE) }
        }
        Reply::Unreachable(why) => say(&format!("{url}: {why}")),
        Reply::Broken => say(&format!("{url}: no answer")),
        Reply::Unusable => say(&format!("{url} is no URL")),
    }
}

fn say(problem: &str) -> ExitCode {
    eprintln!("tocsin: {problem}");
    ExitCode::from(UNAVAILABLE)
}

/// Who listens on every address is asked at this machine's own.
fn reachable(listen: &str) -> String {
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
        _ => listen.to_owned(),
    }
}
