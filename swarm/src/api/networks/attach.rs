//! `connect` and `disconnect`: on the container's engine, by the container's id.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::{
    api::{
        State,
        ask::{Ask, Rest},
        containers::{locate, with_patience},
        query::segment,
        refusal::Refusal,
    },
    cluster::Engine,
    transport::{Body, full},
};

/// `POST /networks/{name}/connect`
///
/// # Errors
///
/// There is no such container, or its engine refuses.
pub async fn connect(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engine, id, rest, body) = prepared(state, ask).await?;
    let target = rest.target(&format!("/networks/{}/connect", segment(&network(state, &engine, rest.names.first()))));
    let response = with_patience(state, &engine, &rest, &target, body).await?;
    let _ = state.cluster.refresh_container(&engine, &id).await;
    Ok(response)
}

/// `POST /networks/{name}/disconnect`
///
/// # Errors
///
/// There is no such container, or its engine refuses.
pub async fn disconnect(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engine, id, rest, body) = prepared(state, ask).await?;
    let target = rest.target(&format!("/networks/{}/disconnect", segment(&network(state, &engine, rest.names.first()))));
    let response = rest.send(&engine, &target, full(body)).await?;
    let _ = state.cluster.refresh_container(&engine, &id).await;
    Ok(response)
}

async fn prepared(state: &State, ask: Ask) -> Result<(Arc<Engine>, String, Rest, Bytes), Refusal> {
    let (mut body, rest) = ask.json::<Value>().await?;
    let reference = body.get("Container").and_then(Value::as_str).filter(|reference| !reference.is_empty());
    let (engine, id) = locate(state, reference.ok_or_else(|| Refusal::bad_request("no container is named"))?)?;
    body["Container"] = json!(id);
    Ok((engine, id, rest, Bytes::from(body.to_string())))
}

/// The network as the container's engine knows it: without the node's name. A worker may not know one of the swarm yet.
fn network(state: &State, engine: &Engine, reference: &str) -> String {
    match reference.split_once('/') {
        Some((node, rest)) if state.is_node(engine, node) => rest.to_owned(),
        _ => reference.to_owned(),
    }
}
