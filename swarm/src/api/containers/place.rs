//! Where a container goes: what is known of the engines, put before the scheduler.
//!
//! A container that is being made counts from the moment its node is chosen, so that ten that are made at once are spread.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    api::{State, refusal::Refusal},
    cluster::{self, Engine},
    schedule::{self, Candidate, ExposedPort, PlacedContainer, PlacedImage, Protocol, PublishedPort, Request},
};

const CPU: u64 = 1_000_000_000;

/// Containers whose node is chosen, and that their engine does not list yet.
#[derive(Default)]
pub struct Placing(Arc<Mutex<Pending>>);

#[derive(Default)]
struct Pending {
    last: u64,
    containers: BTreeMap<u64, Made>,
}

struct Made {
    node: String,
    name: String,
    request: Request,
    /// Its id, once its engine has said it.
    id: Option<String>,
}

/// A container that is being made, until this is dropped.
pub struct Place {
    pending: Arc<Mutex<Pending>>,
    key: u64,
}

impl Place {
    /// The engine has made it: from when the engine lists it, it is not counted twice.
    pub fn made(&self, id: &str) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = pending.containers.get_mut(&self.key) {
            made.id = Some(id.to_owned());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).containers.remove(&self.key);
    }
}

/// Chooses a node. `only` are the names of the nodes that come into question; none for all.
///
/// # Errors
///
/// No node fits; with classic Swarm's text.
pub fn choose(
    state: &State,
    request: &Request,
    name: &str,
    only: Option<&BTreeSet<String>>,
) -> Result<(Arc<Engine>, Place), Refusal> {
    let mut engines = state.cluster.engines();
    engines.retain(|engine| only.is_none_or(|only| only.contains(&engine.name)));
    // Locked until the container counts: nobody else chooses in between.
    let mut pending = state.placing.0.lock().unwrap_or_else(PoisonError::into_inner);
    let candidates: Vec<_> = engines.iter().map(|engine| candidate(state, engine, &pending)).collect();
    let random = RandomState::new().build_hasher().finish();
    let index =
        schedule::place(request, &candidates, state.strategy, random).map_err(|error| Refusal::failed(error.to_string()))?;
    let engine = Arc::clone(&engines[index]);
    pending.last += 1;
    let key = pending.last;
    let made = Made { node: engine.name.clone(), name: name.to_owned(), request: request.clone(), id: None };
    pending.containers.insert(key, made);
    Ok((engine, Place { pending: Arc::clone(&state.placing.0), key }))
}

/// What the scheduler has to know of an engine.
fn candidate(state: &State, engine: &Engine, pending: &Pending) -> Candidate {
    let snapshot = engine.snapshot();
    let mut names = vec![engine.name.clone()];
    if state.cluster.is_master(engine) {
        names.push(cluster::MASTER.to_owned());
    }
    let mut candidate = Candidate { names, healthy: snapshot.is_healthy(), ..Candidate::default() };
    if let Some(info) = &snapshot.info {
        candidate.id.clone_from(&info.id);
        candidate.labels = labels(info);
        candidate.nano_cpus = info.cpus.saturating_mul(CPU);
        candidate.memory = info.memory;
    }
    candidate.images =
        snapshot.images.iter().map(|image| PlacedImage { id: image.id.clone(), tags: image.tags.clone() }).collect();
    for container in snapshot.containers.iter() {
        let details = &container.details;
        candidate.reserved_memory = candidate.reserved_memory.saturating_add(details.memory);
        candidate.reserved_nano_cpus = candidate.reserved_nano_cpus.saturating_add(details.nano_cpus);
        candidate.containers.push(placed(container));
    }
    let listed = |id: &str| snapshot.containers.iter().any(|container| container.id == id);
    for made in pending.containers.values().filter(|made| made.node == engine.name) {
        if !made.id.as_deref().is_some_and(listed) {
            candidate.add(&made.request, &made.name);
        }
    }
    candidate
}

/// The labels that constraints see.
pub fn labels(info: &cluster::Info) -> BTreeMap<String, String> {
    let own = info.labels.iter().map(|label| label.split_once('=').unwrap_or((label, "")));
    let built_in = [
        ("storagedriver", info.driver.as_str()),
        ("kernelversion", &info.kernel_version),
        ("operatingsystem", &info.operating_system),
        ("ostype", &info.os_type),
    ];
    own.chain(built_in).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn placed(container: &cluster::Container) -> PlacedContainer {
    let protocol = |port: &str| Protocol::parse(port.split_once('/').map_or("", |(_, protocol)| protocol)).unwrap_or_default();
    let open = container.ports.iter().filter_map(|port| {
        Some(PublishedPort::new(&port.ip, port.public_port?, Protocol::parse(&port.protocol).unwrap_or_default()))
    });
    let asked = container.details.published.iter();
    let asked = asked.filter_map(|port| Some(PublishedPort::new(&port.ip, port.port?, protocol(&port.container))));
    PlacedContainer {
        id: container.id.clone(),
        names: container.names.clone(),
        labels: container.labels.clone(),
        running: container.is_running(),
        ports: open.chain(asked).collect(),
        host_network: container.network_mode == "host",
        exposed: container.details.exposed.iter().filter_map(|port| ExposedPort::parse(port)).collect(),
    }
}
