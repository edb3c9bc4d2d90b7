//! What the API does, against what it says of itself: schemathesis makes requests of `/openapi.json`, right and wrong
//! ones, and looks at every answer.

use std::{fs, process::Stdio, time::Duration};

use devservers::{Python, Tool};
use testkit::Arena;
use tokio::{process::Command, time::timeout};

/// As long as this it may take, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(270);

#[tokio::test]
async fn the_api_keeps_to_its_description() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let python = Python::prepare(Tool::Contract).unwrap();
    // It shows its key where a description says so, and the description itself is behind a key.
    let description = arena.workplace.dir().join("openapi.json");
    fs::write(&description, api.get("/openapi.json").to_string()).unwrap();
    let mut command = Command::new(python.program("schemathesis"));
    command
        .args(["--config-file", "tests/contract.toml", "run", "--url", &api.url])
        .arg(description)
        .env("TOCSIN_KEY", &api.key)
        .current_dir(devservers::workspace())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("it has its end").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let metrics = api.program.get("/metrics").await.1;
    assert!(metrics.contains("tocsin_api_responses_total"), "it was asked: {said}");
}
