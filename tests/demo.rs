use std::{process::Command, time::Duration};

use testkit::wait_for;

#[tokio::test]
async fn the_demo_shows_calls_in_order_and_the_stopped_one_cancelled() {
    let folder = devservers::workspace().join(format!(".dev/test/arenas/demo-{}", std::process::id()));
    let output = folder.with_extension("log");
    std::fs::create_dir_all(&folder).unwrap();
    let mut demo = Command::new(testkit::binary("xtask"))
        .args(["demo", "--exit", "--folder"])
        .arg(&folder)
        .stdout(std::fs::File::create(&output).unwrap())
        .stderr(std::fs::File::options().append(true).open(&output).unwrap())
        .spawn()
        .unwrap();
    let shown = || std::fs::read_to_string(&output).unwrap();
    let status =
        wait_for("the demo's end", Duration::from_secs(180), || std::future::ready(demo.try_wait().unwrap())).await;
    let shown = shown();
    assert!(status.success(), "{shown}");
    let arrived = |line: &str| {
        let told = line.split_once("is asked to ").or(line.split_once(" gets a ")).or(line.split_once("is to "));
        told.map(|(_, told)| told.to_owned())
    };
    let arrived: Vec<_> = shown.lines().filter(|line| line.contains(", answers ")).filter_map(arrived).collect();
    assert_eq!(
        arrived,
        [
            "webhook at /webhook/orders, answers 201",
            "call +385911111111, answers 201",
            "call +385912222222, answers 503",
            "mail for manager@example.org, answers 250",
            "publish to kitchen, answers 200",
            "text +385912222223, answers 201",
            "call +385912222222, answers 201",
        ]
    );
    assert_eq!(shown.matches("cancelled  stopped by request").count(), 2, "{shown}");
    assert!(shown.contains("management"), "the addresses are told");
    let told = |what: &str| shown.lines().rev().take(6).any(|line| line.starts_with(what));
    assert!(told("Dashboard  ") && told("Log in with the key   tocsin_"), "it ends with the dashboard: {shown}");
}
