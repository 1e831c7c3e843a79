//! The cluster as a whole.

mod disk;
mod events;
mod info;
mod show;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

pub use self::{disk::disk_usage, events::events, info::info};
use super::{State, answer, ask::Ask, fan, refusal::Refusal, version::ApiVersion};
use crate::transport::{Body, full};

/// What is shown as the version of the server, in classic Swarm's form.
const SERVER: &str = concat!("swarm/", env!("CARGO_PKG_VERSION"));

/// `GET /_ping`. The builder is version 1, so that a CLI that follows it builds by `/build`, whose result reaches every node.
pub fn ping(state: &State) -> Response<Body> {
    let mut response = answer::typed(StatusCode::OK, "text/plain; charset=utf-8", full("OK"));
    let headers = response.headers_mut();
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    let swarm = if state.cluster.manager().is_some() { "active/manager" } else { "inactive" };
    headers.insert("swarm", HeaderValue::from_static(swarm));
    response
}

/// `GET /version`: what all of it speaks, and each node's engine as a component.
pub fn version(state: &State, oldest: ApiVersion, newest: ApiVersion) -> Response<Body> {
    let info =
        state.cluster.master().or_else(|| state.cluster.engines().into_iter().next()).and_then(|own| own.snapshot().info.clone());
    let info = info.unwrap_or_default();
    let details = json!({
        "ApiVersion": newest.to_string(), "MinAPIVersion": oldest.to_string(), "Os": "linux", "Arch": arch(), "KernelVersion": info.kernel_version,
        "Experimental": "false", "GitCommit": "", "GoVersion": "", "BuildTime": "",
    });
    let mut components = vec![json!({ "Name": "Engine", "Version": SERVER, "Details": details })];
    for engine in state.cluster.engines() {
        let snapshot = engine.snapshot();
        if let Some(info) = snapshot.info.as_ref().filter(|_| snapshot.is_healthy()) {
            let details =
                json!({ "ApiVersion": info.api_version, "MinAPIVersion": info.min_api_version, "Arch": info.architecture });
            components.push(json!({ "Name": engine.name, "Version": info.server_version, "Details": details }));
        }
    }
    answer::json(
        StatusCode::OK,
        &json!({
            "Platform": { "Name": "Hypriot Cluster Lab" }, "Components": components, "Version": SERVER, "ApiVersion": newest.to_string(),
            "MinAPIVersion": oldest.to_string(), "GitCommit": "", "GoVersion": "", "Os": "linux", "Arch": arch(),
            "KernelVersion": info.kernel_version, "BuildTime": "",
        }),
    )
}

/// As Go names what this program was built for.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Has the master's engine answer, or another one where it does not.
///
/// # Errors
///
/// No engine answers.
pub async fn any_engine(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let engines = fan::master_first(&state.cluster)?;
    let target = ask.target(ask.name());
    match engines.first() {
        Some(engine) => ask.pass(engine, &target).await,
        None => Err(Refusal::unavailable("no node of the cluster answers")),
    }
}

/// Sets a field of an object; other values stay.
fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// An empty object.
fn object() -> Value {
    Value::Object(Map::new())
}
