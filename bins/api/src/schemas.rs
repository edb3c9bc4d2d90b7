use domain::{CHANNELS, Channel, Field, FieldKind, provider::Provider};
use serde_json::{Map, Value, json};

/// As no database text can hold it.
const WITHOUT_NUL: &str = "^[^\\u0000]*$";

const E164: &str = "^\\+[1-9][0-9]{1,14}$";

/// The schemas of what crate `wire` reads, by the list of channels.
pub(crate) fn of_requests() -> Map<String, Value> {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
    let (mut kinds, mut templates) = (Vec::new(), Vec::new());
    for channel in CHANNELS {
        let name = format!("Notification-{}", channel.name);
        kinds.push(reference(&name));
        add(&name, notification(channel));
        let name = format!("NotificationTemplate-{}", channel.name);
        templates.push(reference(&name));
        add(&name, notification_template(channel));
    }
    add(
        "NotificationTemplate",
        json!({"description": "One notification of what a schedule starts.", "oneOf": templates}),
    );
    add("StartTemplate", start_template());
    add("Schedule", schedule());
    add("Notification", json!({"description": "One notification of a start.", "oneOf": kinds}));
    add("Time", time());
    add("Start", start());
    add("Stop", stop());
    let either = json!([reference("Start"), reference("Stop")]);
    add("Request", json!({"description": "A request, the same through SQS and HTTP.", "oneOf": either}));
    add("Simulation", simulation());
    add("CallerIds", caller_ids());
    add("Retry", retry());
    schemas
}

/// Says of an operation what its annotations can't: which channels there are, and which texts the database can hold.
pub(crate) fn tighten(operation: &mut Value) {
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        let (name, place) = (parameter["name"].clone(), parameter["in"].clone());
        let schema = &mut parameter["schema"];
        if name == "channel" {
            let pausable = CHANNELS.iter().map(|channel| channel.name).chain((place == "path").then_some("all"));
            *schema = json!({"type": "string", "enum": pausable.collect::<Vec<_>>()});
        } else if name == "Idempotency-Key" {
            *schema = json!({"type": "string", "pattern": "^[!-~]{1,200}$"});
        } else if schema["type"] == "string" || schema["type"][0] == "string" {
            schema["pattern"] = WITHOUT_NUL.into();
        }
    }
    if let Some(body) = operation.get_mut("requestBody").and_then(Value::as_object_mut)
        && body["content"].pointer("/application~1json/schema/$ref").is_some()
    {
        body.insert("required".to_owned(), true.into());
    }
}

/// The numbers that calls come from.
fn caller_ids() -> Value {
    json!({
        "type": "object",
        "description": "Prefixes of the number called, or `default`, and the number that the call comes from.",
        "propertyNames": {"pattern": "^(default|\\+[1-9][0-9]{0,14})$"},
        "additionalProperties": {"type": "string", "pattern": E164},
    })
}

/// Which failures to try again, and how fast.
fn retry() -> Value {
    let names: Vec<_> = CHANNELS.iter().map(|channel| Some(channel.name)).chain([None]).collect();
    let text = |what: &str| json!({"type": ["string", "null"], "pattern": WITHOUT_NUL, "description": what});
    let time = |what: &str| json!({"anyOf": [rfc_3339(), {"type": "null"}], "description": what});
    let per_second = "So many calls a second; 10 unless given.";
    json!({
        "type": "object",
        "description": "Which failures to try again, and how fast.",
        "additionalProperties": false,
        "properties": {
            "channel": {"type": ["string", "null"], "enum": names, "description": "Of one channel."},
            "cause": text("Of one cause, as `/v1/failures` says it."),
            "process-id": text("Of one process."),
            "since": time("Failed at this time or later."),
            "until": time("Failed before this time."),
            "limit": {
                "type": ["integer", "null"], "minimum": 1, "maximum": 10_000,
                "description": "At most so many, the oldest first; 1,000 unless given.",
            },
            "per-second": {"type": ["number", "null"], "minimum": 0.01, "maximum": 1_000, "description": per_second},
            "dry-run": {"type": "boolean", "description": "Only say how many it would be."},
        },
    })
}

/// How the answers of a channel's provider are written in a simulation.
fn answers(channel: &Channel) -> Value {
    let mut kinds = vec![answer(json!({"type": "string", "enum": ["accepted"]}), false)];
    if channel.provider != Provider::Nobody {
        kinds.push(answer(
            json!({
                "type": "string", "enum": ["timeout", "refused"],
                "description": "`timeout`: it takes the call, and says nothing. `refused`: no connection is made.",
            }),
            false,
        ));
        kinds.push(match channel.provider {
            Provider::Smtp => answer(
                json!({
                    "type": "string", "pattern": "^[45][0-9][0-9]$",
                    "description": "A reply code, said at the login (454, 530, 534, 535, 538) or when the mail server \
                        hears the recipient (all others).",
                }),
                false,
            ),
            _ => answer(
                json!({"type": "string", "pattern": "^[345][0-9][0-9]$", "description": "An HTTP status."}),
                true,
            ),
        });
    }
    json!({
        "type": "array",
        "maxItems": wire::MAX_ANSWERS,
        "description": format!("What the provider of channel {} does, in this order; after that it accepts.", channel.name),
        "items": {"anyOf": kinds},
    })
}

fn answer(word: Value, may_ask_for_time: bool) -> Value {
    let mut properties = json!({
        "answer": word,
        "times": {"type": "integer", "minimum": 1, "maximum": wire::MAX_TIMES, "default": 1},
    });
    if may_ask_for_time {
        properties["retry-after"] = json!({
            "type": "integer", "minimum": 1, "maximum": wire::MAX_RETRY_AFTER_SECONDS,
            "description": "The seconds of a Retry-After header.",
        });
    }
    json!({"type": "object", "required": ["answer"], "additionalProperties": false, "properties": properties})
}

fn simulation() -> Value {
    let channels: Map<String, Value> =
        CHANNELS.iter().map(|channel| (channel.name.to_owned(), answers(channel))).collect();
    json!({
        "type": "object",
        "description": "A start, and under what circumstances.",
        "required": ["request"],
        "additionalProperties": false,
        "properties": {
            "request": reference("Start"),
            "now": described(reference("Time"), "When the request is accepted; the database's time unless given."),
            "stop-at": described(reference("Time"), "When the process is stopped, not before `now`."),
            "providers": {"type": "object", "additionalProperties": false, "properties": channels},
        },
    })
}

fn start() -> Value {
    json!({
        "type": "object",
        "description": "Start a process. Other keys are passed over.",
        "required": ["process-id", "action", "notifications"],
        "properties": {
            "process-id": process_id(),
            "action": {"type": "string", "enum": ["start"]},
            "notifications": {
                "type": "array", "minItems": 1, "maxItems": wire::MAX_NOTIFICATIONS, "items": reference("Notification"),
            },
        },
    })
}

/// The same as a notification, but that `in` may stand in the place of `at`, and any text may be a template.
fn notification_template(channel: &Channel) -> Value {
    let mut template = notification(channel);
    template["description"] = format!("A notification of what a schedule starts, for channel {}.", channel.name).into();
    template["required"] = json!(["channel"]);
    let help = "So many seconds after the occurrence; instead of `at`.";
    let at = "When; with templates, such as `{{ scheduled_at }}`.";
    for (key, property) in template["properties"].as_object_mut().into_iter().flatten() {
        if property["type"] == "string" && key != "channel" && property["enum"].is_null() {
            *property = json!({"type": "string", "description": property["description"]});
        }
    }
    template["properties"]["at"] = json!({"type": ["integer", "string"], "description": at});
    template["properties"]["in"] =
        json!({"type": "integer", "minimum": 0, "maximum": wire::MAX_IN_SECONDS, "description": help});
    template
}

fn start_template() -> Value {
    json!({
        "type": "object",
        "description": "What a schedule starts: a start, in whose texts `{{ scheduled_at }}` (RFC 3339), `{{ occurrence }}` \
            (seconds since 1970), `{{ schedule.name }}`, `.id`, `.owner` and `.external_id` are filled in for each occurrence.",
        "required": ["process-id", "notifications"],
        "properties": {
            "process-id": {"type": "string", "description": "The process; one name for each occurrence, or one for all."},
            "action": {"type": "string", "enum": ["start"]},
            "notifications": {
                "type": "array", "minItems": 1, "maxItems": wire::MAX_NOTIFICATIONS,
                "items": reference("NotificationTemplate"),
            },
        },
    })
}

fn schedule() -> Value {
    let word = |what: &str| json!({"type": "string", "minLength": 1, "maxLength": 255, "description": what});
    let cron = "5 fields, 6 with seconds first, @hourly and its like, or @every 90s.";
    json!({
        "type": "object",
        "description": "What starts processes again and again.",
        "required": ["name", "lines", "request"],
        "additionalProperties": false,
        "properties": {
            "name": word("Its name, which no other has."),
            "owner": word("Whose it is."),
            "external-id": word("What it is called elsewhere."),
            "lines": {
                "type": "array", "minItems": 1, "maxItems": wire::MAX_LINES,
                "items": {
                    "type": "object", "required": ["cron"], "additionalProperties": false,
                    "properties": {
                        "cron": {"type": "string", "maxLength": 200, "description": cron},
                        "time-zone": {"type": "string", "default": "UTC", "description": "Such as Europe/Zagreb."},
                    },
                },
            },
            "from": described(reference("Time"), "Nothing starts before it, and `@every` counts from it; now unless given."),
            "until": described(reference("Time"), "Nothing starts then or later."),
            "missed": {
                "type": "string", "enum": ["all", "last", "none"], "default": "last",
                "description": "Which of the occurrences are made up for that nobody started within a minute. `last`: the \
                    last of them, unless a later one is on time.",
            },
            "missed-window": {
                "type": "integer", "minimum": 1, "maximum": wire::MAX_MISSED_WINDOW_SECONDS, "default": 86_400,
                "description": "For how many seconds they are made up for.",
            },
            "overlap": {
                "type": "string", "enum": ["allow", "skip", "stop"], "default": "allow",
                "description": "What becomes of an occurrence while the process of the one before is not finished: it starts \
                    all the same, is ignored, or has that one stopped.",
            },
            "request": reference("StartTemplate"),
        },
    })
}

fn stop() -> Value {
    json!({
        "type": "object",
        "description": "Stop a process. Other keys are passed over.",
        "required": ["process-id", "action"],
        "properties": {"process-id": process_id(), "action": {"type": "string", "enum": ["stop"]}},
    })
}

fn process_id() -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": domain::ProcessName::MAX_CHARS, "pattern": WITHOUT_NUL,
        "description": "The sender's name for the process.",
    })
}

fn time() -> Value {
    json!({
        "description": "Whole seconds since 1970, or RFC 3339 with an offset.",
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 253_402_207_200_i64},
            rfc_3339(),
        ],
    })
}

fn rfc_3339() -> Value {
    json!({"type": "string", "format": "date-time", "pattern": "^(19[7-9][0-9]|[2-9][0-9]{3})-"})
}

fn notification(channel: &Channel) -> Value {
    let mut properties = Map::new();
    properties.insert("channel".to_owned(), json!({"type": "string", "enum": [channel.name]}));
    properties.insert("at".to_owned(), described(reference("Time"), "When. In the past means at once."));
    let on_unknown = "When nobody can tell whether a call was carried out; `retry` unless given.";
    properties.insert(
        "on-unknown".to_owned(),
        json!({"type": "string", "enum": ["retry", "fail"], "description": on_unknown}),
    );
    let number = |max: u64, what: &str| json!({"type": "integer", "minimum": 1, "maximum": max, "description": what});
    properties.insert("max-attempts".to_owned(), number(wire::MAX_MAX_ATTEMPTS, "10 unless given."));
    properties.insert("max-age".to_owned(), number(wire::MAX_MAX_AGE_SECONDS, "Seconds; a day unless given."));
    let mut required = vec!["channel", "at"];
    for field in channel.address.iter().chain(channel.options) {
        properties.insert(field.key.to_owned(), described(kind(field), field.help));
        if field.required {
            required.push(field.key);
        }
    }
    json!({
        "type": "object",
        "description": format!("A notification for channel {}. Other keys are passed over.", channel.name),
        "required": required,
        "properties": properties,
    })
}

fn kind(field: &Field) -> Value {
    let email = json!({"type": "string", "format": "email", "maxLength": 254});
    match field.kind {
        FieldKind::PhoneNumber => json!({"type": "string", "pattern": E164}),
        FieldKind::EmailAddress => email,
        FieldKind::EmailAddresses => {
            json!({"anyOf": [email, {"type": "array", "items": email, "minItems": 1, "maxItems": 50}]})
        }
        FieldKind::PubnubChannel => {
            json!({"type": "string", "pattern": "^[^,/\\\\.*:\\u0000-\\u001f\\u007f-\\u009f]{1,92}$"})
        }
        FieldKind::Url => {
            json!({"type": "string", "format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/]", "maxLength": 2048})
        }
        FieldKind::Text(max) => {
            json!({"type": "string", "maxLength": max, "minLength": u8::from(field.required), "pattern": WITHOUT_NUL})
        }
        FieldKind::Line(max) => {
            let pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";
            json!({"type": "string", "maxLength": max, "minLength": u8::from(field.required), "pattern": pattern})
        }
        FieldKind::Json => json!({}),
        FieldKind::TopicArn => {
            let name = "[A-Za-z0-9_-]{1,256}|[A-Za-z0-9_-]{1,251}\\.fifo";
            let pattern = format!("^arn:aws(-[a-z0-9-]*)?:sns:[a-z0-9-]+:[0-9]{{12}}:({name})$");
            json!({"type": "string", "pattern": pattern})
        }
        FieldKind::Payload => json!({"anyOf": [
            {"type": "string", "minLength": 1, "pattern": WITHOUT_NUL},
            {"type": ["object", "array", "number", "boolean"]},
        ]}),
        FieldKind::Attributes => json!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": 10,
            "propertyNames": {"pattern": "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$", "maxLength": 256},
            "additionalProperties": {"type": "string", "minLength": 1, "pattern": WITHOUT_NUL},
        }),
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn described(mut schema: Value, what: &str) -> Value {
    schema["description"] = what.into();
    schema
}
