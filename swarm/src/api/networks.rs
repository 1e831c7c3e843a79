//! Networks. Those of the whole swarm are there once, whatever node shows them; local ones are `node/name`.

mod attach;
mod create;
mod find;

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

pub use self::{
    attach::{connect, disconnect},
    create::create,
};
use super::{
    State, answer,
    ask::Ask,
    containers::{prune_all, uses_network},
    entry::Entry,
    fan,
    query::segment,
    refusal::Refusal,
};
use crate::transport::{self, Body};

/// For how long a network may be left in use by what is already gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait in between.
const PAUSE: Duration = Duration::from_millis(300);

/// `GET /networks`
///
/// # Errors
///
/// The filters are wrong, or no engine answers.
pub async fn list(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let mut query = ask.query.clone();
    let mut filters = query.filters()?;
    let mut nodes = filters.take("node");
    for name in filters.take("name") {
        match name.split_once('/').and_then(|(node, rest)| Some((state.cluster.engine(node)?, rest))) {
            Some((engine, rest)) => {
                nodes.insert(engine.name.clone());
                filters.add("name", rest);
            }
            None => filters.add("name", name),
        }
    }
    query.set_filters(&filters);
    let lists = find::lists(state, &query.on(&ask.versioned("/networks"))).await?;
    let mut networks = Vec::new();
    for mut network in find::once(lists) {
        if !nodes.is_empty() && !nodes.iter().any(|node| state.is_node(&network.engine, node)) {
            continue;
        }
        if network.is_local() {
            network.entry.set("Name", &format!("{}/{}", network.engine.name, network.name));
        }
        networks.push(network.entry);
    }
    let text = serde_json::to_vec(&networks).map_err(|error| Refusal::failed(error.to_string()))?;
    Ok(answer::typed(StatusCode::OK, "application/json", transport::full(text)))
}

/// `GET /networks/{name}`: with the containers of all nodes that are on it.
///
/// # Errors
///
/// 404 where there is none, 400 where several are meant.
pub async fn inspect(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let lists = find::lists(state, &ask.versioned("/networks")).await?;
    let network = find::one(state, &lists, ask.name())?;
    let target = ask.target(&network.id);
    let mut entry: Entry = network.engine.client().read(&target).await?;
    let mut containers: BTreeMap<String, Value> = entry.get("Containers").unwrap_or_default();
    if !network.is_local() {
        let has = |list: &[Entry]| list.iter().any(|own| own.text("Id") == network.id);
        let others = lists.iter().filter(|(engine, list)| engine.name != network.engine.name && has(list));
        let others = others.map(|(engine, _)| std::sync::Arc::clone(engine)).collect();
        let path = ask.versioned(&format!("/networks/{}", segment(&network.id)));
        let answers = fan::all(others, |engine| {
            let path = path.clone();
            async move { engine.client().read::<Entry>(&path).await }
        })
        .await;
        for (_, answer) in answers {
            // One that is gone from there by now has no containers there either.
            containers.extend(answer.ok().and_then(|own| own.get::<BTreeMap<String, Value>>("Containers")).unwrap_or_default());
        }
    }
    // Each node's end of the swarm's load balancer: not a container, and it outlives the last one for a moment.
    containers.retain(|id, _| !id.starts_with("lb-"));
    entry.set("Containers", &containers);
    let text = serde_json::to_vec(&entry).map_err(|error| Refusal::failed(error.to_string()))?;
    Ok(answer::typed(StatusCode::OK, "application/json", transport::full(text)))
}

/// `DELETE /networks/{name}`. The swarm hears a little later than the engine that the last container has left: until then it is tried
/// again, where no container is on the network.
///
/// # Errors
///
/// 404 where there is none, 400 where several are meant; its engine refuses.
pub async fn remove(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let lists = find::lists(state, &ask.versioned("/networks")).await?;
    let network = find::one(state, &lists, ask.name())?;
    let target = ask.target(&network.id);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, bytes) = fan::patient(&network.engine, Method::DELETE, &target).await?;
        if status.is_success() {
            break;
        }
        let refusal = Refusal::of_engine(status, &serde_json::from_slice(&bytes).unwrap_or_default());
        let left = refusal.message().contains("in use by task");
        if !left || Instant::now() >= deadline || is_used(state, &network.id) {
            return Err(refusal);
        }
        sleep(PAUSE).await;
    }
    for (engine, _) in lists {
        let _ = engine.refresh_networks().await;
    }
    Ok(answer::status(StatusCode::NO_CONTENT))
}

fn is_used(state: &State, id: &str) -> bool {
    state.cluster.engines().iter().any(|engine| engine.snapshot().containers.iter().any(|container| uses_network(container, id)))
}

/// `POST /networks/prune`
///
/// # Errors
///
/// A node refused, or none answers.
pub async fn prune(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let before: BTreeSet<(String, String)> = state
        .cluster
        .engines()
        .iter()
        .flat_map(|engine| {
            let snapshot = engine.snapshot();
            let local = snapshot.networks.iter().filter(|network| network.scope == "local");
            local.map(|network| (engine.name.clone(), network.name.clone())).collect::<Vec<_>>()
        })
        .collect();
    let mut deleted = BTreeSet::new();
    for (engine, answer) in prune_all(state, &ask).await? {
        for name in answer.list::<String>("NetworksDeleted") {
            let local = before.contains(&(engine.name.clone(), name.clone()));
            deleted.insert(if local { format!("{}/{name}", engine.name) } else { name });
        }
        let _ = engine.refresh_networks().await;
    }
    Ok(answer::json(StatusCode::OK, &json!({ "NetworksDeleted": deleted })))
}
