//! What the engine answers to a request.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::engine::{Done, Engine};

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Answers a request.
pub async fn answer(engine: Arc<Engine>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let query = Query(head.uri.query().unwrap_or_default());
    let path = unversioned(head.uri.path());
    let parts = path.trim_start_matches('/').split('/').collect::<Vec<_>>();
    let get = head.method == Method::GET;
    if get && path == "/events" {
        return Ok(Response::new(engine.events.listen().boxed()));
    }
    if let (&Method::POST, ["containers", "create"]) = (&head.method, &parts[..]) {
        let config = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let config = serde_json::from_slice(&config).unwrap_or_default();
        return Ok(done(StatusCode::CREATED, engine.create(&query.get("name"), config)));
    }
    // Whatever else is sent has to be read, or the connection cannot serve again.
    let _ = body.collect().await;
    if let (&Method::POST, ["images", "create"]) = (&head.method, &parts[..]) {
        let (image, tag) = (query.get("fromImage"), query.get("tag"));
        engine.pull(&if tag.is_empty() { image } else { format!("{image}:{tag}") });
        return Ok(json_answer(StatusCode::OK, &json!({"status": "Status: Image is up to date"})));
    }
    Ok(if get || head.method == Method::HEAD {
        read(&engine, &parts, &query)
    } else {
        change(&engine, &head.method, &parts, &query)
    })
}

fn read(engine: &Engine, parts: &[&str], query: &Query<'_>) -> Answer {
    let network = |name: &str| {
        json!({"Id": format!("{name:0<64}"), "Name": name, "Driver": name, "Scope": "local", "Created": "2026-01-01T00:00:00Z", "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Config": []}, "Internal": false, "Attachable": false, "Ingress": false, "Containers": {}, "Options": {}, "Labels": {}})
    };
    let value = match parts {
        ["_ping"] => {
            let mut ok = Response::new(Full::new(Bytes::from_static(b"OK")).boxed());
            ok.headers_mut().insert("Api-Version", http::HeaderValue::from_static("1.45"));
            return ok;
        }
        ["version"] => json!({"Version": "26.1.5", "ApiVersion": "1.45", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "arm",
            "KernelVersion": "6.12.0", "GitCommit": "", "GoVersion": "", "BuildTime": "", "Platform": {"Name": "fake"}, "Components": []}),
        ["info"] => engine.info(),
        ["networks"] => ["bridge", "host", "none"].into_iter().map(network).collect(),
        ["volumes"] => json!({"Volumes": [], "Warnings": null}),
        ["images", "json"] => engine.list_images(),
        ["images", name @ .., "json"] => return done(StatusCode::OK, engine.inspect_image(&name.join("/"))),
        ["containers", "json"] => engine.list(query.get("all") == "1" || query.get("all") == "true", &query.ids()),
        ["containers", reference, "json"] => return done(StatusCode::OK, engine.inspect(reference)),
        _ => return refused(parts),
    };
    json_answer(StatusCode::OK, &value)
}

fn change(engine: &Engine, method: &Method, parts: &[&str], query: &Query<'_>) -> Answer {
    let result = match (method.as_str(), parts) {
        ("POST", ["containers", reference, "start"]) => engine.turn(reference, "start", "running"),
        ("POST", ["containers", reference, "stop"]) => engine.turn(reference, "stop", "exited"),
        ("POST", ["containers", reference, "kill"]) => engine.turn(reference, "kill", "exited"),
        ("POST", ["containers", reference, "rename"]) => engine.rename(reference, &query.get("name")),
        ("DELETE", ["containers", reference]) => engine.remove(reference, matches!(query.get("force").as_str(), "1" | "true")),
        _ => return refused(parts),
    };
    done(StatusCode::NO_CONTENT, result)
}

fn refused(parts: &[&str]) -> Answer {
    let message = format!("a fake engine has no /{}", parts.join("/"));
    json_answer(StatusCode::NOT_IMPLEMENTED, &json!({ "message": message }))
}

fn done(status: StatusCode, done: Done) -> Answer {
    match done {
        Done::Yes(value) => json_answer(status, &value),
        Done::Already => json_answer(StatusCode::NOT_MODIFIED, &Value::Null),
        Done::Missing(message) => json_answer(StatusCode::NOT_FOUND, &json!({ "message": message })),
        Done::Conflict(message) => json_answer(StatusCode::CONFLICT, &json!({ "message": message })),
    }
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let text = if value.is_null() { String::new() } else { format!("{value}\n") };
    let mut answer = Response::new(Full::new(Bytes::from(text)).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert("Content-Type", http::HeaderValue::from_static("application/json"));
    answer
}

/// The path without `/v1.45`.
fn unversioned(path: &str) -> &str {
    let rest = path.strip_prefix("/v").filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    rest.and_then(|rest| rest.find('/').map(|slash| &rest[slash..])).unwrap_or(path)
}

struct Query<'a>(&'a str);

impl Query<'_> {
    fn get(&self, key: &str) -> String {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(own, _)| *own == key).map_or("", |(_, value)| value);
        percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned()
    }

    /// `filters={"id":["…"]}`, or the older `{"id":{"…":true}}`.
    fn ids(&self) -> Vec<String> {
        let filters = serde_json::from_str::<Value>(&self.get("filters")).unwrap_or_default();
        match filters.get("id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::Object(ids)) => ids.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }
}
