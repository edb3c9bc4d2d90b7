use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use devservers::{BROWSER, CHROMEDRIVER, Process, Python, Tool, Workplace, free_port, is_root};
use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::wait_for;

/// How long something may take to appear on a page.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a reader has asked their system for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// Which of axe-core's rules a page is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// All of them.
    All,
    /// Whether its words can be told from what is behind them: by far the slowest, as it looks for what is behind each.
    Contrast,
    /// All others.
    AllButContrast,
}

impl Rules {
    /// As axe-core wants to be told.
    fn options(self) -> Value {
        // What is well is not listed one by one.
        let mut options = json!({"resultTypes": ["violations"]});
        match self {
            Self::All => {}
            Self::Contrast => options["runOnly"] = json!(["color-contrast"]),
            Self::AllButContrast => options["rules"] = json!({"color-contrast": {"enabled": false}}),
        }
        options
    }
}

/// A real browser without a window: Debian's Chromium, driven through WebDriver.
#[derive(Debug)]
pub struct Browser {
    /// Its session.
    pub client: Client,
    _driver: Process,
    _temporary: TemporaryFiles,
}

/// Where Chromium has its socket, which it leaves when it is killed: in a folder whose path is short enough for one.
#[derive(Debug)]
struct TemporaryFiles(PathBuf);

impl Drop for TemporaryFiles {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

impl Browser {
    /// Starts one, 1,280 pixels wide.
    pub async fn start(workplace: &Workplace, theme: Theme) -> Self {
        let port = free_port().expect("a port");
        let profile = workplace.dir().join(format!("chromium-{port}"));
        fs::create_dir_all(&profile).expect("a folder");
        let log = || File::create(profile.with_extension("log")).expect("a file");
        let temporary = TemporaryFiles(env::temp_dir().join(format!("tocsin-chromium-{port}")));
        fs::create_dir_all(&temporary.0).expect("a folder");
        let mut command = Command::new(CHROMEDRIVER);
        command.arg(format!("--port={port}")).env("TMPDIR", &temporary.0).stdout(log()).stderr(log());
        let driver = workplace.spawn("chromedriver", &mut command).expect("chromedriver");
        let url = format!("http://127.0.0.1:{port}");
        let is_up = || async { ureq::get(format!("{url}/status")).call().ok().map(drop) };
        wait_for("chromedriver", PATIENCE, is_up).await;
        let capabilities = capabilities(&profile, theme).as_object().cloned().expect("an object");
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&url).await.expect("a browser");
        Self { client, _driver: driver, _temporary: temporary }
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the page");
    }

    /// The first element that a CSS selector finds, as soon as there is one.
    pub async fn find(&self, css: &str) -> Element {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    /// Clicks what a CSS selector finds.
    pub async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Replaces what stands in a field.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("an empty field");
        field.send_keys(text).await.expect("a field");
    }

    /// The words that can be read in an element.
    pub async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap_or_default()
    }

    /// Waits until an element says something.
    pub async fn says(&self, css: &str, words: &str) {
        let said = || async {
            // It may be replaced at any moment by a newer one.
            let text = match self.client.find(Locator::Css(css)).await {
                Ok(element) => element.text().await.unwrap_or_default(),
                Err(_) => String::new(),
            };
            text.contains(words).then_some(())
        };
        wait_for(&format!("{words:?} in {css}"), PATIENCE, said).await;
    }

    /// A window of this size.
    pub async fn resize(&self, width: u32, height: u32) {
        self.client.set_window_size(width, height).await.expect("a window of that size");
    }

    /// What axe-core finds on the page that is open: the rule and where it is broken.
    pub async fn violations(&self, rules: Rules) -> Vec<String> {
        let script = Python::prepare(Tool::Accessibility)
            .and_then(|python| python.package_file("axe_playwright_python/axe.min.js"))
            .and_then(|path| Ok(fs::read_to_string(path)?))
            .unwrap_or_else(|error| panic!("{error:#}"));
        self.client.execute(&script, vec![]).await.expect("axe is loaded");
        let run = "const done = arguments[arguments.length - 1];
                   axe.run(document, arguments[0]).then(found => done(found), error => done({error: String(error)}));";
        let found: Value = self.client.execute_async(run, vec![rules.options()]).await.expect("axe ends");
        let violations = found["violations"].as_array().unwrap_or_else(|| panic!("axe: {found}"));
        assert!(found["passes"].as_array().is_some_and(|passes| !passes.is_empty()), "axe has looked at something");
        let place = |node: &Value| format!("{} {}", node["target"], node["failureSummary"]);
        let violation = |it: &Value| {
            let places: Vec<_> = it["nodes"].as_array().into_iter().flatten().map(place).collect();
            format!("{}: {}", it["id"], places.join("; "))
        };
        violations.iter().map(violation).collect()
    }
}

fn capabilities(profile: &Path, theme: Theme) -> Value {
    let scheme = if theme == Theme::Dark { 0 } else { 1 };
    let mut arguments = vec![
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-background-networking".to_owned(),
        "--window-size=1280,900".to_owned(),
        format!("--blink-settings=preferredColorScheme={scheme}"),
        format!("--user-data-dir={}", profile.display()),
    ];
    // Chromium's sandbox is not to be had for root.
    if is_root() {
        arguments.push("--no-sandbox".to_owned());
    }
    // By this name chromedriver knows it.
    let name = "chrome-headless-shell";
    json!({"browserName": name, "goog:chromeOptions": {"binary": BROWSER, "args": arguments}, "timeouts": {"script": 180_000}})
}
