//! Every page of the dashboard, empty and full, wide and narrow, light and dark: nothing keeps anybody out, nothing is
//! refused by the browser, nothing is too wide. The pictures are in `.dev/test/pictures`.

use std::{fs, path::PathBuf};

use devservers::workspace;
use serde_json::{Value, json};
use testkit::{Api, Arena, Browser, Rules, Theme};

use crate::dashboard::log_in;

const PAGES: [&str; 12] = [
    "/",
    "/processes",
    "/failures",
    "/requests",
    "/schedules",
    "/simulator",
    "/settings?number=%2B3851111111",
    "/audit",
    "/keys",
    "/dead-letters",
    "/docs",
    "/nothing-like-this",
];

/// Of what the arena's story has made.
const DETAILS: [&str; 6] = [
    "/schedules/1",
    "/processes/restaurant",
    "/processes?q=me@example.org",
    "/notifications/1",
    "/notifications/4",
    "/requests/3",
];

/// A width in pixels, its name, and what a page is held against there.
type Size = (u32, &'static str, Rules);

/// Colours don't depend on the width.
const LIGHT: [Size; 2] = [(1280, "wide", Rules::All), (390, "narrow", Rules::AllButContrast)];

/// A theme is colours only: what has room in one has room in the other.
const DARK: [Size; 1] = [(1280, "wide", Rules::Contrast)];

fn pictures() -> PathBuf {
    let folder = workspace().join(".dev/test/pictures");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Looks at a page in these sizes, and answers what is wrong with it.
async fn look(browser: &Browser, api: &Api, path: &str, name: &str, sizes: &[Size]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (width, kind, rules) in sizes.iter().copied() {
        browser.resize(width, 900).await;
        browser.open(&format!("{}{path}", api.url)).await;
        let too_wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        let beyond = browser.client.execute(too_wide, vec![]).await.unwrap();
        if beyond.as_i64() != Some(0) {
            wrong.push(format!("{path}: {kind}: {beyond} pixels stand out"));
        }
        wrong.extend(browser.violations(rules).await.iter().map(|it| format!("{path}: {kind}: {it}")));
        let height = browser.client.execute("return document.documentElement.scrollHeight", vec![]).await.unwrap();
        browser.resize(width, u32::try_from(height.as_u64().unwrap()).unwrap().clamp(700, 3_000) + 90).await;
        let picture = browser.client.screenshot().await.unwrap();
        let page = path.trim_start_matches('/').replace(['/', '?', '=', '%', '@'], "-");
        let page = if page.is_empty() { "overview" } else { &page };
        fs::write(pictures().join(format!("{page}-{name}-{kind}.png")), picture).unwrap();
    }
    wrong
}

/// What the browser refused or complained about, such as what the Content-Security-Policy forbids.
async fn complaints(browser: &Browser) -> Vec<String> {
    let script =
        "return performance.getEntriesByType('resource').filter(it => it.responseStatus >= 400).map(it => it.name)";
    let refused: Value = browser.client.execute(script, vec![]).await.unwrap();
    refused.as_array().unwrap().iter().map(ToString::to_string).collect()
}

async fn look_at_all(arena: &Arena, api: &Api, theme: Theme, name: &str, paths: &[&str], sizes: &[Size]) {
    let browser = Browser::start(&arena.workplace, theme).await;
    browser.open(&format!("{}/login", api.url)).await;
    let mut wrong = look(&browser, api, "/login", name, sizes).await;
    browser.resize(1280, 900).await;
    log_in(&browser, api, &api.key).await;
    for path in paths {
        wrong.extend(look(&browser, api, path, name, sizes).await);
        wrong.extend(complaints(&browser).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_empty_page_is_open_to_everybody() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    // Nothing can make these empty.
    let paths: Vec<&str> = PAGES.into_iter().filter(|path| !["/docs", "/nothing-like-this"].contains(path)).collect();
    look_at_all(&arena, &api, Theme::Light, "empty", &paths, &LIGHT).await;
}

/// A night of a restaurant: what is accepted, what fails, what waits, what is refused.
async fn story(arena: &Arena, api: &Api) {
    arena.simulator.set_rules(&json!([
        {"address": "+3859*", "status": 400, "code": 21211},
        {"address": "+3858*", "status": 503},
    ]));
    let now = arena.now();
    let phone = |number: &str, at: i64| json!({"channel": "phone", "at": at, "phone-number": number});
    let start = |process: &str, notifications: Value| json!({"process-id": process, "action": "start", "notifications": notifications});
    let mail = json!({"channel": "email", "at": now + 300, "email": "me@example.org"});
    let ladder =
        json!([phone("+3851111111", now - 3), phone("+3859111111", now - 2), phone("+3858111111", now - 1), mail]);
    for body in [
        start("restaurant", ladder),
        start("bakery", json!([phone("+3851111112", now + 3_600)])),
        start("rejected", json!([phone("12", now), {"channel": "pigeon", "at": now}])),
        json!({"process-id": "nobody", "action": "stop"}),
    ] {
        api.ask("POST", "/v1/requests", Some(&body));
    }
    arena.notifications_in("failed", 1, 20).await;
    arena.notifications_in("delivered", 1, 20).await;
    arena.notifications_in("retrying", 1, 20).await;
    let call = json!({"channel": "phone", "in": 0, "phone-number": "+3851111111"});
    let request = json!({"process-id": "{{ schedule.name }} {{ scheduled_at }}", "notifications": [call]});
    let lines = json!([{"cron": "0 9,17 * * MON-FRI", "time-zone": "Europe/Zagreb"}, {"cron": "@every 6h"}]);
    let schedule = json!({"name": "stock-taking", "owner": "maria", "lines": lines, "request": request});
    let made = api.ask("POST", "/v1/schedules", Some(&schedule));
    assert_eq!(made.status, 201, "{made:?}");
    let pause = api.ask("PUT", "/v1/channels/sms/pause", Some(&json!({"reason": "the number is being moved"})));
    assert_eq!(pause.status, 200, "{pause:?}");
}

#[tokio::test]
async fn every_full_page_is_open_to_everybody_in_both_themes() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _programs = arena.start_all(&["phone", "email", "sms"]).await;
    story(&arena, &api).await;
    let paths: Vec<&str> = PAGES.into_iter().chain(DETAILS).collect();
    look_at_all(&arena, &api, Theme::Light, "light", &paths, &LIGHT).await;
    look_at_all(&arena, &api, Theme::Dark, "dark", &paths, &DARK).await;
}
