//! `POST /containers/{name}/start`, and what else has a worker ask its managers for an overlay network.
//!
//! A worker does not know of a network that was made a moment ago. It asks a manager when a container first wants it, which may be
//! before that manager has heard of the network from the one that made it. So what fails for want of a network that the cluster has is
//! tried again for a while.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{locate, taken_in};
use crate::{
    api::{
        State, answer,
        ask::{Ask, Rest},
        refusal::Refusal,
    },
    cluster::Engine,
    transport::{Body, empty, full},
};

/// For how long it is tried.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait in between.
const PAUSE: Duration = Duration::from_millis(400);

/// Starts a container.
///
/// # Errors
///
/// As [`locate`], or the engine does not answer.
pub async fn start(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engine, id) = locate(state, ask.name())?;
    let target = ask.target(&id);
    let (rest, body) = ask.bytes().await?;
    let response = with_patience(state, &engine, &rest, &target, body).await?;
    // Where that fails the engine's events tell it a little later.
    let _ = state.cluster.refresh_container(&engine, &id).await;
    Ok(response)
}

/// Sends a request that may need an overlay network, until the network is there or time is up.
///
/// # Errors
///
/// The engine does not answer.
pub async fn with_patience(
    state: &State,
    engine: &Engine,
    rest: &Rest,
    target: &str,
    body: Bytes,
) -> Result<Response<Body>, Refusal> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = rest.send(engine, target, full(body.clone())).await?;
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(response);
        }
        let (status, answer) = taken_in(engine, response).await?;
        let message = answer.get("message").and_then(Value::as_str).unwrap_or_default();
        if Instant::now() >= deadline || !wants_network(status, message) || !known(state, message) {
            return Ok(match answer {
                Value::Null => answer::typed(status, "application/json", empty()),
                answer => answer::json(status, &answer),
            });
        }
        sleep(PAUSE).await;
    }
}

/// Whether a request failed for want of a network.
fn wants_network(status: StatusCode, message: &str) -> bool {
    let failed = status == StatusCode::NOT_FOUND || status.is_server_error();
    let message = message.to_ascii_lowercase();
    let words = ["not found", "could not attach to network", "attaching to network failed", "could not find a network"];
    failed && message.contains("network") && words.iter().any(|word| message.contains(word))
}

/// Whether the message is about a network that the cluster has. One that says no name may be.
fn known(state: &State, message: &str) -> bool {
    let engines = state.cluster.engines();
    let names = |name: &str| !name.is_empty() && message.contains(name);
    let has = |engine: &std::sync::Arc<Engine>| {
        let snapshot = engine.snapshot();
        snapshot.networks.iter().any(|network| network.scope == "swarm" && (names(&network.name) || names(&network.id)))
    };
    message.contains("attaching to network failed") || engines.iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_missing_network_looks_like() {
        for (status, message, wants) in [
            (404, "network demo not found", true),
            (404, "could not find a network matching network mode demo: network demo not found", true),
            (500, "Could not attach to network demo: rpc error: code = NotFound desc = network demo not found", true),
            (500, "attaching to network failed, make sure your network options are correct: context deadline exceeded", true),
            (404, "No such container: network", false),
            (500, "driver failed programming external connectivity on endpoint web: port is already allocated", false),
            (409, "network demo not found", false),
            (500, "", false),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(wants_network(status, message), wants, "{message}");
        }
    }
}
