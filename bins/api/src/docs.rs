use std::{fmt::Write, sync::Arc};

use axum::{
    extract::State,
    http::header,
    response::{Html, IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::{Api, schemas};

const STYLE: &str = include_str!("docs.css");

/// The frame of the description; the router adds what it serves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tocsin",
        description = "The control plane of Tocsin: start and stop processes, see what became of each notification and why, \
            and mend what failed. Every answer takes a key. A key of role `send` sends requests; `read` sees all but \
            addresses, texts and bodies; `operate` sees them too, and sends, stops, retries, edits and pauses; `admin` does \
            all that, and manages keys and properties, and sees the audit.",
    ),
    modifiers(&Key),
    security(("key" = [])),
)]
pub(crate) struct Description;

struct Key;

impl Modify for Key {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("tocsin_…").build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

/// What `/openapi.json` and `/docs` answer.
pub(crate) struct Documents {
    json: String,
    page: String,
}

impl Documents {
    pub(crate) fn new(description: &utoipa::openapi::OpenApi) -> Self {
        let mut document = serde_json::to_value(description).unwrap_or_default();
        add_what_any_may_answer(&mut document);
        if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
            schemas.extend(schemas::of_requests());
        }
        Self { page: page(&document), json: document.to_string() }
    }
}

/// Where a browser may show its key as a password.
pub(crate) fn is_for_browsers(path: &str) -> bool {
    ["/docs", "/docs/style.css", "/openapi.json"].contains(&path)
}

pub(crate) async fn openapi(State(api): State<Arc<Api>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.documents.json.clone()).into_response()
}

pub(crate) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css")], STYLE).into_response()
}

pub(crate) async fn show(State(api): State<Arc<Api>>) -> Response {
    let policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(api.documents.page.clone())).into_response()
}

/// A wrong key, a role that does not suffice, a database that is away, and whatever else each operation may answer.
fn add_what_any_may_answer(document: &mut Value) {
    let problem = json!({
        "description": "A problem, such as a wrong key (401), a role that does not suffice (403) or a database that is away (503)",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    });
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        schemas::tighten(operation);
        if let Some(responses) = operation["responses"].as_object_mut() {
            responses.insert("default".to_owned(), problem.clone());
        }
    }
}

/// The description as one page, without scripts.
fn page(document: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>Tocsin's API</title><link rel=stylesheet href='/docs/style.css'><main><h1>Tocsin's API</h1><p>{}</p>\
         <p>Send the key in a header: <code>Authorization: Bearer tocsin_…</code>. Machines read \
         <a href='/openapi.json'>/openapi.json</a>.</p>",
        prose(&document["info"]["description"])
    );
    html.push_str("<h2>Operations</h2>");
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            html.push_str(&operation_html(path, method, operation));
        }
    }
    html.push_str("<h2>Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        html.push_str(&schema_html(name, schema));
    }
    html.push_str("</main></html>");
    html
}

fn operation_html(path: &str, method: &str, operation: &Value) -> String {
    let mut html = format!(
        "<section><h3><span class=method>{}</span> <code>{}</code></h3><p><strong>{}</strong></p><p>{}</p>",
        escaped(&method.to_uppercase()),
        escaped(path),
        prose(&operation["summary"]),
        prose(&operation["description"]),
    );
    let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
    if !parameters.is_empty() {
        html.push_str("<table><tr><th>Parameter<th>In<th>Type<th>What");
        for parameter in parameters {
            push(&mut html, &[text(&parameter["name"]), text(&parameter["in"])], &parameter["schema"], parameter);
        }
        html.push_str("</table>");
    }
    for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let what = prose(&operation["requestBody"]["description"]);
        write!(html, "<p>Body: <code>{}</code>, {}. {what}</p>", escaped(kind), type_html(&content["schema"]))
            .unwrap_or_default();
    }
    html.push_str("<table><tr><th>Status<th>Type<th>What");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let content = response["content"].as_object().and_then(|content| content.values().next());
        push(&mut html, &[status], &content.cloned().unwrap_or_default()["schema"], response);
    }
    html.push_str("</table></section>");
    html
}

fn schema_html(name: &str, schema: &Value) -> String {
    let id = escaped(name);
    let mut html = format!("<section id='{id}'><h3><code>{id}</code></h3><p>{}</p>", prose(&schema["description"]));
    let parts = schema["allOf"].as_array().into_iter().flatten().chain([schema]);
    let mut rows = String::new();
    for part in parts {
        if part["$ref"].is_string() {
            write!(rows, "<tr><td><td>{}<td>", type_html(part)).unwrap_or_default();
        }
        for (key, property) in part["properties"].as_object().into_iter().flatten() {
            push(&mut rows, &[key], property, property);
        }
    }
    if rows.is_empty() {
        write!(html, "<p>{}</p>", type_html(schema)).unwrap_or_default();
    } else {
        write!(html, "<table><tr><th>Key<th>Type<th>What{rows}</table>").unwrap_or_default();
    }
    html.push_str("</section>");
    html
}

/// A row of a table: some words, a type, a description.
fn push(html: &mut String, words: &[&str], schema: &Value, described: &Value) {
    html.push_str("<tr>");
    for word in words {
        write!(html, "<td><code>{}</code>", escaped(word)).unwrap_or_default();
    }
    write!(html, "<td>{}<td>{}", type_html(schema), prose(&described["description"])).unwrap_or_default();
}

fn type_html(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|link| link.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href='#{name}'>{name}</a>");
    }
    let either = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    if let Some(either) = either {
        return either.iter().map(type_html).collect::<Vec<_>>().join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("<code>{}</code>", escaped(text(word)))).collect::<Vec<_>>().join(", ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", type_html(&schema["items"])),
        Value::String(name) => escaped(name),
        Value::Array(names) => names.iter().map(|name| escaped(text(name))).collect::<Vec<_>>().join(" or "),
        _ => "any JSON".to_owned(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A description, with what stands between backticks as code: OpenAPI's descriptions are in CommonMark.
fn prose(description: &Value) -> String {
    let (mut html, escaped) = (String::new(), escaped(text(description)));
    let mut rest = escaped.as_str();
    while let Some((before, code, after)) = first_code(rest) {
        write!(html, "{before}<code>{code}</code>").unwrap_or_default();
        rest = after;
    }
    html + rest
}

fn first_code(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('`')?;
    let (code, after) = rest.split_once('`')?;
    Some((before, code, after))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_described_and_every_reference_leads_somewhere() {
        let (_, description) = crate::routes();
        let documents = Documents::new(&description);
        let document: Value = serde_json::from_str(&documents.json).unwrap();
        let mut operations = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                operations += 1;
                assert!(!text(&operation["summary"]).is_empty(), "{method} {path} has a summary");
                assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            }
        }
        assert!(operations >= 25, "{operations}");
        for name in documents.json.split("#/components/schemas/").skip(1) {
            let name = name.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
            assert!(documents.page.contains(&format!("<section id='{name}'>")), "{name}");
        }
    }

    #[test]
    fn what_stands_between_backticks_is_code() {
        let html = |description: &str| prose(&json!(description));
        assert_eq!(html("`a<b`, or `c`: d"), "<code>a&lt;b</code>, or <code>c</code>: d");
        assert_eq!(html("a `b` c` d"), "a <code>b</code> c` d");
        assert_eq!(prose(&Value::Null), "");
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        let (_, description) = crate::routes();
        let page = Documents::new(&description).page;
        assert!(!page.contains('`'), "{page}");
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"), "{page}");
        assert_eq!(escaped("<a href='x'>&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;");
    }
}
