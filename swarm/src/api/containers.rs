//! Containers: found wherever they are, and passed to their engines.

mod create;
mod down;
pub mod exec;
mod list;
mod place;
mod references;
mod shown;
mod start;

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

pub use self::{
    create::{create, taken_in},
    down::uses_network,
    exec::Execs,
    list::list,
    place::{Place, Placing, choose, labels},
    shown::summary,
    start::{start, with_patience},
};
use super::{State, answer, ask::Ask, entry::Entry, fan, refusal::Refusal};
use crate::{
    cluster::{Engine, Lookup},
    transport::{self, Body},
};

/// The container that is meant, on an engine that answers.
///
/// # Errors
///
/// There is none or more than one, or its node does not answer.
pub fn locate(state: &State, reference: &str) -> Result<(Arc<Engine>, String), Refusal> {
    let (engine, id) = state.cluster.container(reference)?;
    match engine.snapshot().is_healthy() {
        true => Ok((engine, id)),
        false => Err(Refusal::failed(format!("Container {reference} running on unhealthy node {}", engine.name))),
    }
}

impl From<Lookup> for Refusal {
    fn from(lookup: Lookup) -> Self {
        let message = lookup.to_string();
        match lookup {
            Lookup::NotFound(_) => Self::not_found(message),
            Lookup::Prefix(_) => Self::bad_request(message),
            Lookup::Name { .. } => Self::conflict(message),
        }
    }
}

/// Passes the request to the container's engine: a stream, or a connection that is joined.
///
/// # Errors
///
/// As [`locate`], or the engine does not answer.
pub async fn pass(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engine, id) = locate(state, ask.name())?;
    let target = ask.target(&id);
    ask.pass(&engine, &target).await
}

/// As [`pass`]; what has changed is known here before the answer goes out.
///
/// # Errors
///
/// As [`pass`].
pub async fn change(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engine, id) = locate(state, ask.name())?;
    let target = ask.target(&id);
    let response = ask.pass(&engine, &target).await?;
    // Where that fails the engine's events tell it a little later.
    let _ = state.cluster.refresh_container(&engine, &id).await;
    Ok(response)
}

/// Gives it another name, that nobody in the cluster has.
///
/// # Errors
///
/// The name is taken, or as [`pass`].
pub async fn rename(state: &Arc<State>, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engine, container) = state.cluster.find_container(ask.name())?;
    let name = ask.query.get("name").unwrap_or_default();
    // Its engine says what is wrong with no name, and with its own.
    let _guard = match name.is_empty() || container.is_named(name) {
        true => None,
        false => Some(state.cluster.reserve_name(name).map_err(|taken| Refusal::conflict(taken.to_string()))?),
    };
    locate(state, &container.id)?;
    let target = ask.target(&container.id);
    let response = ask.pass(&engine, &target).await?;
    let _ = state.cluster.refresh_container(&engine, &container.id).await;
    Ok(response)
}

/// One container, with the node that it is on.
///
/// # Errors
///
/// As [`pass`].
pub async fn inspect(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engine, id) = locate(state, ask.name())?;
    let mut entry: Entry = engine.client().read(&ask.target(&id)).await?;
    if let Some(mut settings) = entry.get::<Value>("NetworkSettings") {
        if let Some(ports) = settings.get_mut("Ports") {
            shown::bindings(ports, engine.address);
        }
        entry.set("NetworkSettings", &settings);
    }
    entry.set("Node", &node(&engine));
    let text = serde_json::to_vec(&entry).map_err(|error| Refusal::failed(error.to_string()))?;
    Ok(answer::typed(StatusCode::OK, "application/json", transport::full(text)))
}

/// The node as an inspected container shows it.
fn node(engine: &Engine) -> Value {
    let snapshot = engine.snapshot();
    let info = snapshot.info.as_deref();
    json!({
        "ID": info.map(|info| info.id.as_str()).unwrap_or_default(),
        "IP": engine.address.to_string(),
        "Addr": engine.client().endpoint().to_string(),
        "Name": engine.name,
        "Cpus": info.map(|info| info.cpus).unwrap_or_default(),
        "Memory": info.map(|info| info.memory).unwrap_or_default(),
        "Labels": info.map(labels).unwrap_or_default(),
    })
}

/// Makes an image of a container, on its node.
///
/// # Errors
///
/// As [`pass`].
pub async fn commit(state: &State, mut ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engine, id) = locate(state, ask.query.get("container").unwrap_or_default())?;
    ask.query.set("container", id);
    let target = ask.query.on(&ask.versioned("/commit"));
    let answer = ask.pass(&engine, &target).await?;
    if answer.status().is_success() {
        // Whoever runs the image at once has to find where it is; if the engine does not say now, its events will.
        let _ = engine.refresh_images().await;
    }
    Ok(answer)
}

/// Takes all stopped containers away.
///
/// # Errors
///
/// The filters are wrong, or no engine answers.
pub async fn prune(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let pruned = prune_all(state, &ask).await?;
    let mut deleted = Vec::new();
    let mut reclaimed = 0;
    for (engine, answer) in pruned {
        deleted.extend(answer.list::<String>("ContainersDeleted"));
        reclaimed += answer.get::<u64>("SpaceReclaimed").unwrap_or_default();
        let _ = engine.refresh_containers().await;
    }
    Ok(answer::json(StatusCode::OK, &json!({ "ContainersDeleted": deleted, "SpaceReclaimed": reclaimed })))
}

/// Has every engine prune what the request asks for.
///
/// # Errors
///
/// An engine refused, or none answered.
pub async fn prune_all(state: &State, ask: &Ask) -> Result<Vec<(Arc<Engine>, Entry)>, Refusal> {
    let target = ask.query.on(&ask.versioned(ask.route.pattern));
    let answers = fan::all(fan::some_healthy(&state.cluster)?, |engine| {
        let target = target.clone();
        async move { fan::told(&engine, Method::POST, &target).await }
    })
    .await;
    answers.into_iter().map(|(engine, answer)| Ok((engine, answer?))).collect()
}
