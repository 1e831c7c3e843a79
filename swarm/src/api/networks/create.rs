//! `POST /networks/create`: an overlay network for the whole cluster, unless something else is asked for.
//!
//! Classic Swarm made an overlay network where no driver was named. Today's CLI always names `bridge` when the user names none, so
//! `bridge` without options that only a bridge has means the same; `node/name` makes one on that node.

use std::sync::Arc;

use http::Response;
use serde_json::{Map, Value, json};

use crate::{
    api::{
        State, answer,
        ask::Ask,
        containers::{choose, taken_in},
        refusal::Refusal,
        swarm_mode,
    },
    cluster::Engine,
    schedule::Request,
    transport::{Body, full},
};

/// The overlay driver's option that encrypts what is between nodes.
const ENCRYPTED: &str = "encrypted";

/// Makes it.
///
/// # Errors
///
/// No engine takes it, or the one that does refuses.
pub async fn create(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (body, rest) = ask.json::<Value>().await?;
    let Value::Object(mut body) = body else { return Err(Refusal::bad_request("invalid JSON: the network is no object")) };
    let name = body.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let on_node = name.split_once('/').and_then(|(node, rest)| Some((state.cluster.engine(node)?, rest)));
    let engine = if let Some((engine, name)) = on_node {
        body.insert("Name".to_owned(), json!(name));
        engine
    } else if is_wide(&body) && (state.cluster.manager().is_some() || driver(&body) != "bridge") {
        widen(&mut body, state.encrypt_overlays);
        swarm_mode::manager(state)?
    } else {
        let (engine, _) = choose(state, &Request::default(), "", None)?;
        engine
    };
    make(&engine, &rest, body).await
}

async fn make(engine: &Arc<Engine>, rest: &crate::api::ask::Rest, body: Map<String, Value>) -> Result<Response<Body>, Refusal> {
    let target = rest.target("/networks/create");
    let response = rest.send(engine, &target, full(Value::Object(body).to_string())).await?;
    let (status, answer) = taken_in(engine, response).await?;
    if status.is_success() {
        let _ = engine.refresh_networks().await;
    }
    Ok(match answer {
        Value::Null => answer::typed(status, "application/json", full("")),
        answer => answer::json(status, &answer),
    })
}

fn driver(body: &Map<String, Value>) -> &str {
    body.get("Driver").and_then(Value::as_str).unwrap_or_default()
}

/// Whether it is to be one of the whole swarm.
fn is_wide(body: &Map<String, Value>) -> bool {
    let on = |key: &str| body.get(key).and_then(Value::as_bool) == Some(true);
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    if on("ConfigOnly") || text("Scope") == "local" {
        return false;
    }
    let bridge =
        |key: &String| key.starts_with("com.docker.network.bridge.") || key.starts_with("com.docker.network.container_iface");
    match driver(body) {
        "" | "default" | "overlay" => true,
        "bridge" => !body.get("Options").and_then(Value::as_object).is_some_and(|options| options.keys().any(bridge)),
        _ => text("Scope") == "swarm",
    }
}

/// Makes it an overlay network that plain containers can join.
fn widen(body: &mut Map<String, Value>, encrypt: bool) {
    if matches!(driver(body), "" | "default" | "bridge") {
        body.insert("Driver".to_owned(), json!("overlay"));
    }
    if driver(body) != "overlay" {
        return;
    }
    // The routing mesh's own takes no containers.
    if body.get("Ingress").and_then(Value::as_bool) != Some(true) {
        body.insert("Attachable".to_owned(), json!(true));
    }
    let options = body.entry("Options").or_insert(Value::Null);
    if options.is_null() {
        *options = json!({});
    }
    let Some(options) = options.as_object_mut() else { return };
    match options.get(ENCRYPTED).and_then(Value::as_str) {
        // What counts for the driver is that the option is there.
        Some("false" | "0" | "no") => drop(options.remove(ENCRYPTED)),
        Some(_) => {}
        None if encrypt => drop(options.insert(ENCRYPTED.to_owned(), json!(""))),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn which_are_of_the_whole_swarm() {
        for (body, wide) in [
            (json!({"Name": "a"}), true),
            (json!({"Name": "a", "Driver": ""}), true),
            (json!({"Name": "a", "Driver": "default"}), true),
            (json!({"Name": "a", "Driver": "overlay"}), true),
            (json!({"Name": "a", "Driver": "bridge", "Options": {}}), true),
            (json!({"Name": "a", "Driver": "bridge", "Options": {"com.docker.network.bridge.name": "br0"}}), false),
            (json!({"Name": "a", "Driver": "bridge", "Scope": "local"}), false),
            (json!({"Name": "a", "Driver": "macvlan"}), false),
            (json!({"Name": "a", "Driver": "macvlan", "Scope": "swarm"}), true),
            (json!({"Name": "a", "ConfigOnly": true}), false),
            (json!({"Name": 1, "Driver": 1, "Options": 1}), true),
        ] {
            assert_eq!(is_wide(&object(body.clone())), wide, "{body}");
        }
    }

    #[test]
    fn what_an_overlay_network_gets() {
        for (body, encrypt, expected) in [
            (json!({"Driver": "overlay"}), false, json!({"Driver": "overlay", "Attachable": true, "Options": {}})),
            (json!({"Driver": "bridge"}), true, json!({"Driver": "overlay", "Attachable": true, "Options": {"encrypted": ""}})),
            (
                json!({"Options": {"encrypted": "false"}, "Attachable": false}),
                true,
                json!({"Driver": "overlay", "Attachable": true, "Options": {}}),
            ),
            (
                json!({"Driver": "overlay", "Options": {"encrypted": ""}}),
                false,
                json!({"Driver": "overlay", "Attachable": true, "Options": {"encrypted": ""}}),
            ),
            (json!({"Driver": "overlay", "Ingress": true}), false, json!({"Driver": "overlay", "Ingress": true, "Options": {}})),
            (json!({"Driver": "macvlan", "Scope": "swarm"}), true, json!({"Driver": "macvlan", "Scope": "swarm"})),
            (json!({"Options": 1}), true, json!({"Driver": "overlay", "Attachable": true, "Options": 1})),
        ] {
            let mut body = object(body);
            widen(&mut body, encrypt);
            assert_eq!(Value::Object(body), expected);
        }
    }
}
