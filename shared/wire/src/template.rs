use std::sync::LazyLock;

use domain::{Action, Request};
use jiff::Timestamp;
use minijinja::{Environment, UndefinedBehavior, context, syntax::SyntaxConfig};
use serde_json::{Map, Value, json};

use crate::request::{MAX_BODY_BYTES, Reason, Rejection, join, parse_request, printable};

/// The longest `in`.
pub const MAX_IN_SECONDS: u64 = 366 * 24 * 60 * 60;

/// What a template's loops may cost.
const FUEL: u64 = 100_000;

/// A name that is not known is an error, as an empty text in its place would be sent.
static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // A text's last newline is its own.
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
    environment.set_fuel(Some(FUEL));
    environment
});

/// What a template may speak of: an occurrence of a schedule.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// The occurrence: `scheduled_at`, in RFC 3339 and UTC, and `occurrence`, in whole seconds since 1970.
    pub at: Timestamp,
    /// `schedule.id`
    pub id: i64,
    /// `schedule.name`
    pub name: &'a str,
    /// `schedule.owner`
    pub owner: Option<&'a str>,
    /// `schedule.external_id`
    pub external_id: Option<&'a str>,
}

/// A request that came of a template.
#[derive(Debug, Clone)]
pub struct RenderedRequest {
    /// As a sender would have written it; the template as it was, if not even that came of it.
    pub body: Vec<u8>,
    /// What it asks, or why it can't be carried out.
    pub parsed: Result<Request, Rejection>,
}

/// Fills in the templates in a request's texts, and puts `at` in the place of `in`: so many seconds after the occurrence.
pub fn render_request(template: &Value, occasion: Occasion<'_>) -> RenderedRequest {
    let mut renderer = Renderer { occasion, reasons: Vec::new() };
    let mut request = renderer.value("", template);
    renderer.times(&mut request);
    if let Value::Object(members) = &mut request {
        members.entry("action").or_insert_with(|| "start".into());
    }
    let body = request.to_string().into_bytes();
    if !renderer.reasons.is_empty() {
        let rejection = Rejection { process: None, reasons: renderer.reasons };
        return RenderedRequest { body: template.to_string().into_bytes(), parsed: Err(rejection) };
    }
    let parsed = parse_request(&body).and_then(|request| match request.action {
        Action::Start(_) => Ok(request),
        Action::Stop => {
            let message = "must be \"start\": a schedule starts processes";
            let reasons = vec![Reason { field: "action".to_owned(), message: message.to_owned() }];
            Err(Rejection { process: Some(request.process), reasons })
        }
    });
    RenderedRequest { body, parsed }
}

struct Renderer<'a> {
    occasion: Occasion<'a>,
    reasons: Vec<Reason>,
}

impl Renderer<'_> {
    fn wrong(&mut self, field: String, message: impl Into<String>) {
        if self.reasons.len() < 100 {
            self.reasons.push(Reason { field, message: message.into() });
        }
    }

    fn value(&mut self, path: &str, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(path, text)),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items.map(|(n, item)| self.value(&format!("{path}[{n}]"), item)).collect()
            }
            Value::Object(members) => {
                let member =
                    |(key, value): (&String, &Value)| (key.clone(), self.value(&join(path, &printable(key)), value));
                Value::Object(members.iter().map(member).collect::<Map<_, _>>())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn text(&mut self, path: &str, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        let Occasion { at, id, name, owner, external_id } = self.occasion;
        let names = context! {
            scheduled_at => format!("{at:.0}"),
            occurrence => at.as_second(),
            schedule => context! { id, name, owner, external_id },
        };
        match TEMPLATES.render_str(text, names) {
            Ok(text) if text.len() <= MAX_BODY_BYTES => text,
            Ok(_) => {
                self.wrong(path.to_owned(), "becomes too long");
                String::new()
            }
            Err(error) => {
                self.wrong(path.to_owned(), format!("is no template that can be filled in: {}", words(&error)));
                String::new()
            }
        }
    }

    fn times(&mut self, request: &mut Value) {
        let Some(notifications) = request.get_mut("notifications").and_then(Value::as_array_mut) else { return };
        for (n, notification) in notifications.iter_mut().enumerate() {
            let Some(members) = notification.as_object_mut() else { continue };
            let Some(wait) = members.remove("in") else { continue };
            let field = format!("notifications[{n}].in");
            match wait.as_i64() {
                _ if members.contains_key("at") => self.wrong(field, "stands beside at: give one of them"),
                Some(wait @ 0..) if wait.unsigned_abs() <= MAX_IN_SECONDS => {
                    members.insert("at".to_owned(), json!(self.occasion.at.as_second() + wait));
                }
                _ => self.wrong(field, format!("must be whole seconds after the occurrence, 0 to {MAX_IN_SECONDS}")),
            }
        }
    }
}

/// What minijinja says, without the place, of which there is one.
fn words(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &Value) -> RenderedRequest {
        let at = "2026-11-24T09:00:00Z".parse().unwrap();
        render_request(template, Occasion { at, id: 7, name: "daily", owner: Some("ops"), external_id: None })
    }

    fn reasons(template: &Value) -> Vec<String> {
        render(template).parsed.unwrap_err().reasons.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_text_is_a_template_and_in_counts_from_the_occurrence() {
        let rendered = render(&json!({
            "process-id": "{{ schedule.name }}-{{ occurrence }}",
            "notifications": [
                {"channel": "sms", "in": 0, "phone-number": "+385{{ 1 }}", "message": "at {{ scheduled_at }}\n"},
                {"channel": "webhook", "in": 90, "url": "http://example.org/{{ schedule.id }}",
                 "payload": {"of": ["{{ schedule.owner|upper }}", 1.5], "{{ key }}": null}},
                {"channel": "console", "at": "2026-11-24T{{ '%02d'|format(10) }}:00:00Z"},
            ],
        }));
        let request = rendered.parsed.unwrap();
        assert_eq!(request.process.as_str(), "daily-1795510800");
        let Action::Start(notifications) = request.action else { panic!("no start") };
        assert_eq!(notifications[0].at.as_second(), 1_795_510_800);
        assert_eq!(notifications[0].address.as_deref(), Some("+3851"));
        assert_eq!(notifications[0].options["message"], "at 2026-11-24T09:00:00Z\n");
        assert_eq!(notifications[1].at.as_second(), 1_795_510_890);
        assert_eq!(notifications[1].options["payload"], json!({"of": ["OPS", 1.5], "{{ key }}": null}));
        assert_eq!(notifications[2].at.as_second(), 1_795_514_400);
        assert_eq!(parse_request(&rendered.body).unwrap().process, request.process);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |notification: Value| json!({"process-id": "p", "notifications": [notification]});
        for (template, problem) in [
            (
                json!({"process-id": "{{ nobody }}"}),
                "process-id: is no template that can be filled in: undefined value",
            ),
            (json!({"process-id": "{{ schedule.nothing }}"}), "process-id: is no template"),
            (json!({"process-id": "{{ schedule.name"}), "process-id: is no template"),
            (json!({"process-id": "{% for i in range(99999) %}{{ i }}{% endfor %}"}), "process-id: is no template"),
            (json!({"process-id": "{{ '' }}", "notifications": []}), "process-id: must not be empty"),
            (json!({"process-id": "p", "action": "stop"}), "action: must be \"start\""),
            (with(json!({"channel": "console"})), "notifications[0].at: is required"),
            (with(json!({"channel": "console", "in": 1, "at": 1})), "notifications[0].in: stands beside at"),
            (with(json!({"channel": "console", "in": -1})), "notifications[0].in: must be whole seconds"),
            (with(json!({"channel": "console", "in": "5"})), "notifications[0].in: must be whole seconds"),
            (
                with(json!({"channel": "console", "in": 1, "message": "{{ x }}"})),
                "notifications[0].message: is no template",
            ),
            (json!([1]), "must be a JSON object"),
        ] {
            let reasons = reasons(&template);
            assert!(reasons[0].starts_with(problem), "{template}: {reasons:?}");
        }
    }
}
