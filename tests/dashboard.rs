//! The dashboard, as somebody uses it in a real browser.

use serde_json::{Value, json};
use testkit::{Answer, Api, Arena, Browser, Theme, wait_for};

use crate::api::start;

/// Logs in at the page that asks for it.
pub(crate) async fn log_in(browser: &Browser, api: &Api, key: &str) {
    browser.open(&format!("{}/", api.url)).await;
    browser.fill("#key", key).await;
    browser.click("button").await;
    browser.says("h1", "Overview").await;
}

async fn arena_with_browser() -> (Arena, Api, Browser) {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let browser = Browser::start(&arena.workplace, Theme::Light).await;
    log_in(&browser, &api, &api.key).await;
    (arena, api, browser)
}

/// Marks the page that is open, so that it can be told from one that was loaded anew.
async fn mark(browser: &Browser) {
    browser.client.execute("document.body.dataset.mark = 'old'", vec![]).await.unwrap();
}

async fn is_marked(browser: &Browser) -> bool {
    browser.client.execute("return document.body.dataset.mark", vec![]).await.unwrap() == "old"
}

#[tokio::test]
async fn a_process_is_watched_from_scheduled_to_delivered_without_reloading() {
    let (arena, api, browser) = arena_with_browser().await;
    let body = start(&arena, "restaurant", 0);
    assert_eq!(api.ask("POST", "/v1/requests", Some(&body)).status, 201);
    browser.open(&format!("{}/processes", api.url)).await;
    browser.fill("#q", "restaurant").await;
    browser.click("form.search button").await;
    browser.says("h1", "restaurant").await;
    mark(&browser).await;
    browser.says("#notifications", "scheduled").await;
    browser.says("#state", "active").await;
    // As after three claims that were given back without a call.
    arena.database.execute("UPDATE notification SET fence = 3").await;
    let _programs = arena.start_all(&["phone"]).await;
    browser.says("#notifications", "delivered").await;
    browser.says("#notifications", "Accepted by the provider").await;
    browser.says("#history", "call 1: delivered").await;
    browser.says("#state", "finished").await;
    assert!(is_marked(&browser).await, "the page was never loaded again");
    assert!(browser.client.find(fantoccini::Locator::Css("button.danger")).await.is_err(), "nothing to stop any more");
}

#[tokio::test]
async fn a_process_is_stopped_and_nobody_is_called() {
    let (arena, api, browser) = arena_with_browser().await;
    let _programs = arena.start_all(&["phone"]).await;
    assert_eq!(api.ask("POST", "/v1/requests", Some(&start(&arena, "a/b c?", 600))).status, 201);
    browser.open(&format!("{}/processes", api.url)).await;
    browser.says("#found", "active").await;
    browser.click("#found a").await;
    browser.says("h1", "a/b c?").await;
    browser.click("button.danger").await;
    browser.says("main .notice", "The process is stopped").await;
    browser.says("#notifications", "cancelled").await;
    assert_eq!(arena.states().await, [("cancelled".to_owned(), 1)].into());
    assert!(arena.simulator.arrivals().is_empty());
    let requests = api.get("/v1/requests?process-id=a/b%20c%3F");
    assert_eq!(requests["items"][0]["action"], "stop", "{requests}");
}

#[tokio::test]
async fn a_failed_notification_is_repaired_and_retried() {
    let (arena, api, browser) = arena_with_browser().await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.simulator.set_rules(&json!([{"address": "+3851111111", "status": 400, "code": 21211}]));
    assert_eq!(api.ask("POST", "/v1/requests", Some(&start(&arena, "r", -1))).status, 201);
    arena.notifications_in("failed", 1, 20).await;
    browser.open(&format!("{}/failures", api.url)).await;
    browser.says("#groups", "the number called is not valid").await;
    browser.click("button[name=dry-run]").await;
    browser.says("main .notice", "1 would be tried again. Nothing was done yet.").await;
    browser.click("#groups p a").await;
    browser.says("#explain", "failed").await;
    browser.fill("input[name=phone-number]", "0385").await;
    browser.click("form.stack button").await;
    browser.says("[role=alert]", "must be an E.164 number").await;
    browser.client.back().await.unwrap();
    browser.fill("input[name=phone-number]", "+3852222222").await;
    browser.click("form.stack button").await;
    browser.says("main .notice", "It is changed").await;
    browser.click(".buttons button.main").await;
    browser.says("main .notice", "It is tried again").await;
    browser.says("#explain", "delivered").await;
    browser.says("#explain", "retry by key").await;
    assert_eq!(arena.simulator.called(), ["+3851111111", "+3852222222"]);
    browser.open(&format!("{}/failures", api.url)).await;
    browser.says("#groups", "Nothing waits for you").await;
    browser.open(&format!("{}/audit", api.url)).await;
    browser.says("#found", "notification.retry").await;
}

#[tokio::test]
async fn a_channel_is_paused_and_goes_on() {
    let (arena, api, browser) = arena_with_browser().await;
    let _programs = arena.start_all(&["phone"]).await;
    browser.open(&api.url).await;
    browser.click("summary[aria-label='Pause phone']").await;
    browser.fill("form[action='/channels/phone/pause'] input[name=reason]", "the number is being moved").await;
    browser.click("form[action='/channels/phone/pause'] button").await;
    browser.says("main .notice", "phone is paused").await;
    browser.says("#card-phone", "the number is being moved").await;
    browser.says("#health", "phone is paused by key").await;
    assert_eq!(api.ask("POST", "/v1/requests", Some(&start(&arena, "r", -1))).status, 201);
    arena.notifications_in("queued", 1, 20).await;
    browser.click("button[aria-label='Resume phone']").await;
    browser.says("main .notice", "phone goes on").await;
    arena.notifications_in("delivered", 1, 20).await;
    browser.says("#card-phone", "running").await;
    browser.says("#card-phone", "1 accepted").await;
}

#[tokio::test]
async fn one_job_is_started_for_a_time_to_come() {
    let (arena, api, browser) = arena_with_browser().await;
    browser.open(&format!("{}/requests", api.url)).await;
    let arn = "arn:aws:sns:us-east-1:000000000000:orders";
    let job = json!({"channel": "sns", "at": "2030-01-01T09:00:00+01:00", "topic-arn": arn, "payload": {"order": 7}});
    let body = json!({"process-id": "job 7", "action": "start", "notifications": [job]});
    browser.fill("textarea[name=body]", &body.to_string()).await;
    browser.click("form.stack button").await;
    browser.says("main", "accepted").await;
    browser.click("main p a").await;
    browser.says("h1", "job 7").await;
    browser.says("#notifications", "sns scheduled").await;
    let kept = "SELECT count(*) FROM notification WHERE state = 'scheduled' AND scheduled_at = '2030-01-01T08:00:00Z'";
    assert_eq!(arena.database.count(kept).await, 1);
}

#[tokio::test]
async fn a_rejected_request_is_mended_and_sent_again() {
    let (arena, api, browser) = arena_with_browser().await;
    browser.open(&format!("{}/requests", api.url)).await;
    browser.says("#found", "No request has come yet").await;
    let mut body = start(&arena, "r", 600);
    body["notifications"][0]["phone-number"] = "12".into();
    browser.fill("textarea[name=body]", &body.to_string()).await;
    browser.click("form.stack button").await;
    browser.says("[role=alert]", "notifications[0].phone-number").await;
    browser.says("#found", "rejected").await;
    assert!(
        browser.find("textarea[name=body]").await.text().await.unwrap().contains("\"12\""),
        "what was typed is kept"
    );
    browser.click("#found a").await;
    browser.says("main", "Why it was rejected").await;
    browser.fill("textarea[name=body]", &body.to_string().replace("\"12\"", "\"+3851111111\"")).await;
    browser.click("form.stack button").await;
    browser.says("main", "accepted").await;
    browser.click("main p a").await;
    browser.says("#notifications", "scheduled").await;
}

#[tokio::test]
async fn a_ladder_is_simulated_before_it_is_used() {
    let (arena, api, browser) = arena_with_browser().await;
    browser.open(&format!("{}/simulator", api.url)).await;
    browser.says("main", "Play the ladder").await;
    browser.click("form.stack button").await;
    browser.says("#timeline", "call phone [0]").await;
    browser.says("#ends", "after 2 other calls").await;
    browser.fill("input[name=stop-at]", "4").await;
    browser.fill("textarea[name=providers]", "phone: timeout 3 times").await;
    browser.click("form.stack button").await;
    browser.says("#ends", "cancelled").await;
    browser.says("#timeline", "stop").await;
    browser.fill("textarea[name=providers]", "phone 503").await;
    browser.click("form.stack button").await;
    browser.says("[role=alert]", "providers, line 1").await;
    browser.fill("textarea[name=providers]", "").await;
    browser.fill("textarea[name=request]", "{\"process-id\": 1").await;
    browser.click("form.stack button").await;
    browser.find("[role=alert]").await;
    assert!(arena.states().await.is_empty(), "nothing is kept");
}

#[tokio::test]
async fn a_schedule_is_made_started_paused_mended_and_deleted() {
    let (arena, api, browser) = arena_with_browser().await;
    let _programs = arena.start_all(&["phone"]).await;
    browser.open(&format!("{}/schedules", api.url)).await;
    browser.says("#found", "There is no schedule yet").await;
    let call = json!({"channel": "phone", "in": 0, "phone-number": "+3851111111"});
    let request = json!({"process-id": "{{ schedule.name }} {{ scheduled_at }}", "notifications": [call]});
    let mut schedule = json!({"name": "nightly", "lines": [{"cron": "0 3 31 2 *"}], "request": request});
    browser.fill("textarea[name=definition]", &schedule.to_string()).await;
    browser.click("form.stack button").await;
    browser.says("[role=alert]", "lines[0].cron").await;
    schedule["lines"][0]["cron"] = "61 3 * * *".into();
    browser.fill("textarea[name=definition]", &schedule.to_string()).await;
    browser.click("form.stack button").await;
    browser.says("[role=alert]", "lines[0].cron").await;
    schedule["lines"][0]["cron"] = "0 3 * * *".into();
    browser.fill("textarea[name=definition]", &schedule.to_string()).await;
    browser.click("form.stack button").await;
    browser.says("main .notice", "The schedule is made").await;
    browser.says("#occurrences", "(in ").await;
    browser.click("form[action$='/trigger'] button").await;
    browser.says("main .notice", "It was started now").await;
    arena.notifications_in("delivered", 1, 20).await;
    browser.click("form[action$='/pause'] button").await;
    browser.says("#state", "paused since").await;
    browser.click("form[action$='/resume'] button").await;
    browser.says("main .notice", "It goes on").await;
    browser.fill("input[name=from]", "yesterday").await;
    browser.fill("input[name=until]", "2026-11-22T00:00:00Z").await;
    browser.click("form.row button").await;
    browser.says("[role=alert]", "must be RFC 3339").await;
    browser.client.back().await.unwrap();
    schedule["lines"][0]["cron"] = "0 4 * * *".into();
    browser.fill("textarea[name=definition]", &schedule.to_string()).await;
    browser.click("form.stack button").await;
    browser.says("main .notice", "It is changed").await;
    browser.open(&format!("{}/schedules", api.url)).await;
    browser.says("#found", "0 4 * * *").await;
    browser.says("#day", "nightly").await;
    browser.click("#found a").await;
    browser.click("button.danger").await;
    browser.says("main .notice", "The schedule is gone").await;
    assert_eq!(api.get("/v1/schedules")["items"], json!([]));
}

#[tokio::test]
async fn what_went_wrong_with_a_schedule_leads_to_its_process() {
    let (arena, api, browser) = arena_with_browser().await;
    let _programs = arena.start_all(&["phone"]).await;
    arena.simulator.set_rules(&json!([{"address": "+3851111111", "status": 400, "code": 21211}]));
    let call = json!({"channel": "phone", "in": 0, "phone-number": "+3851111111"});
    let request = json!({"process-id": "a/b {{ schedule.name }}", "notifications": [call]});
    let schedule = json!({"name": "yearly", "lines": [{"cron": "@yearly"}], "request": request});
    let id = crate::schedules::make(&api, &schedule);
    browser.open(&format!("{}/schedules/{id}", api.url)).await;
    browser.says("#failures", "Nothing of its newest occurrences waits for you").await;
    mark(&browser).await;
    assert_eq!(api.ask("POST", &format!("/v1/schedules/{id}/trigger"), None).status, 200);
    browser.says("#failures", "21211").await;
    assert!(is_marked(&browser).await, "the page was not loaded anew");
    browser.click("#failures td a").await;
    browser.says("h1", "a/b yearly").await;
    browser.says("#notifications", "failed").await;
}

#[tokio::test]
async fn settings_and_keys() {
    let (_arena, api, browser) = arena_with_browser().await;
    browser.open(&format!("{}/settings", api.url)).await;
    browser.fill("textarea[name=caller-ids]", r#"{"default": "+15005550006", "+385": "nobody"}"#).await;
    browser.click("form.stack button").await;
    browser.says("[role=alert]", "must be an E.164 number").await;
    browser.fill("textarea[name=caller-ids]", r#"{"default": "+15005550006", "+385": "+38512345678"}"#).await;
    browser.click("form.stack button").await;
    browser.says("main .notice", "saved").await;
    for (to, words) in [
        ("+3851111111", "would be called from +38512345678."),
        ("+491711", "would be called from +15005550006."),
        ("0385", "must be an E.164 number"),
    ] {
        browser.fill("#number", to).await;
        browser.click("form.search button").await;
        browser.says("#answer", words).await;
    }

    browser.open(&format!("{}/keys", api.url)).await;
    browser.fill("input[name=name]", "the night shift").await;
    browser.click("form.stack button").await;
    let key = browser.text("#new-key").await;
    assert_eq!(api.ask_as(&key, "GET", "/v1/status", None).status, 200);
    let prefix = key.split('_').nth(1).unwrap();
    browser.open(&format!("{}/keys", api.url)).await;
    assert!(!browser.client.source().await.unwrap().contains(&key), "it is shown once");
    browser.click(&format!("button[aria-label='Revoke {prefix}']")).await;
    browser.says("main .notice", "opens nothing any more").await;
    assert_eq!(api.ask_as(&key, "GET", "/v1/status", None).status, 401);
}

#[tokio::test]
async fn a_page_that_has_no_answer_says_so_and_recovers() {
    let (arena, api, browser) = arena_with_browser().await;
    browser.open(&format!("{}/processes", api.url)).await;
    browser.says("#found", "No process was started yet").await;
    browser.find("#connection[hidden]").await;
    api.program.signal(testkit::Signal::STOP);
    // Frozen for longer than the page waits.
    wait_for("words about the connection", std::time::Duration::from_secs(30), || async {
        browser.find("#connection").await.text().await.ok().filter(|text| text.contains("there is no answer"))
    })
    .await;
    api.program.signal(testkit::Signal::CONT);
    browser.find("#connection[hidden]").await;
    assert_eq!(api.ask("POST", "/v1/requests", Some(&start(&arena, "r", 600))).status, 201);
    browser.says("#found", "active").await;
}

#[tokio::test]
async fn while_the_database_is_away_pages_say_so_and_then_go_on() {
    let arena = Arena::with_own_postgres().await;
    let api = arena.start_api().await;
    let browser = Browser::start(&arena.workplace, Theme::Light).await;
    log_in(&browser, &api, &api.key).await;
    let postgres = arena.postgres.as_ref().unwrap();
    postgres.kill().unwrap();
    browser.says("#connection", "there is no answer").await;
    browser.open(&format!("{}/processes", api.url)).await;
    browser.says("h1", "the database is away").await;
    postgres.run(&arena.workplace).unwrap();
    wait_for("a page", std::time::Duration::from_secs(30), || async {
        browser.open(&format!("{}/processes", api.url)).await;
        (browser.text("h1").await == "Processes").then_some(())
    })
    .await;
}

fn form(api: &Api, path: &str, headers: &[(&str, String)], body: &str) -> Answer {
    let mut all = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
    all.extend(headers.iter().cloned());
    api.ask_with("POST", path, &all, Some(body))
}

fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_or_with_a_form_from_elsewhere() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    for path in ["/", "/processes", "/failures", "/requests", "/settings", "/audit", "/keys", "/events", "/simulator"] {
        let answer = api.ask_with("GET", path, &[], None);
        assert_eq!(answer.status, 303, "{path}: {answer:?}");
        assert!(answer.header("location").unwrap().starts_with("/login?to=%2F"), "{answer:?}");
    }
    assert_eq!(form(&api, "/channels/all/pause", &[], "reason=x").status, 401);

    assert_eq!(form(&api, "/login", &[], "key=tocsin_wrong").status, 401);
    assert_eq!(form(&api, "/login", &[], &format!("key={}", arena.make_key("send").await)).status, 403);
    let from_elsewhere = [("sec-fetch-site", "cross-site".to_owned())];
    assert_eq!(form(&api, "/login", &from_elsewhere, &format!("key={}", api.key)).status, 403);
    for (to, location) in [("/processes?q=x", "/processes?q=x"), ("//evil.example", "/"), ("https://evil.example", "/")]
    {
        let answer = form(&api, "/login", &[], &format!("key={}&to={to}", api.key));
        assert_eq!((answer.status, answer.header("location")), (303, Some(location)), "{answer:?}");
    }
    let answer = form(&api, "/login", &[("x-forwarded-proto", "https".to_owned())], &format!("key={}", api.key));
    for words in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
        assert!(answer.header("set-cookie").unwrap().contains(words), "{answer:?}");
    }

    let session = ("cookie", cookie(&answer));
    let page = api.ask_with("GET", "/", std::slice::from_ref(&session), None);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let csrf = page.text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let pause = |headers: &[(&str, String)], body: &str| form(&api, "/channels/all/pause", headers, body).status;
    assert_eq!(pause(std::slice::from_ref(&session), "reason=x"), 403, "without the token");
    assert_eq!(pause(std::slice::from_ref(&session), "reason=x&csrf=0"), 403);
    assert_eq!(pause(&[session.clone(), from_elsewhere[0].clone()], &format!("reason=x&csrf={csrf}")), 403);
    assert_eq!(api.get("/v1/status")["pauses"], json!([]));
    assert_eq!(pause(std::slice::from_ref(&session), &format!("reason=x&csrf={csrf}")), 303);
    assert_eq!(api.get("/v1/status")["pauses"][0]["channel"], "all");
    assert_eq!(api.ask_with("GET", "/v1/status", std::slice::from_ref(&session), None).status, 401, "not for the API");
    assert_eq!(api.ask_with("GET", "/docs", std::slice::from_ref(&session), None).status, 200);

    assert_eq!(form(&api, "/logout", std::slice::from_ref(&session), &format!("csrf={csrf}")).status, 303);
    assert_eq!(api.ask_with("GET", "/", std::slice::from_ref(&session), None).status, 303, "the session is over");
    let kept = arena.database.texts("SELECT encode(hash, 'hex') FROM session").await;
    assert!(!kept.is_empty() && kept.iter().all(|hash| !session.1.contains(hash)), "only hashes are kept");
}

#[tokio::test]
async fn a_session_may_do_what_its_key_may_and_ends_with_it() {
    let arena = Arena::new().await;
    let api = arena.start_api().await;
    let _phone = arena.start("notifier-phone").await;
    assert_eq!(api.ask("POST", "/v1/requests", Some(&start(&arena, "r", 600))).status, 201);
    let key = arena.make_key("read").await;
    let session = ("cookie", cookie(&form(&api, "/login", &[], &format!("key={key}"))));
    let get = |path: &str| api.ask_with("GET", path, std::slice::from_ref(&session), None);
    let page = get("/processes/r");
    assert!(page.status == 200 && !page.text.contains("Stop this process"), "{page:?}");
    assert!(!get("/requests/1").text.contains("+3851111111"), "addresses are not for everybody");
    assert!(get("/processes?q=%2B3851111111").text.contains("No process is called"));
    assert_eq!((get("/audit").status, get("/keys").status), (403, 403));
    assert_eq!(get("/processes/nobody").status, 404);
    let csrf = page.text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for path in ["/channels/all/pause", "/processes/r/stop", "/keys", "/settings", "/requests", "/failures/retry"] {
        let fields = "reason=&name=x&role=admin&caller-ids={}&body={}&channel=phone&cause=x&per-second=1&limit=1";
        let answer = form(&api, path, std::slice::from_ref(&session), &format!("{fields}&csrf={csrf}"));
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert!(answer.text.contains("takes role"), "{path}: {answer:?}");
    }
    let states: Value = api.get("/v1/notifications")["items"][0]["state"].clone();
    assert_eq!(states, "scheduled");
    let prefix = key.split('_').nth(1).unwrap();
    assert_eq!(api.ask("DELETE", &format!("/v1/keys/{prefix}"), None).status, 200);
    assert_eq!(get("/processes/r").status, 303, "a session ends with its key");
}
