//! `GET /info`: the cluster in the form of one engine, with classic Swarm's table of nodes.

use std::{collections::BTreeSet, sync::Arc};

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{SERVER, object, set, show};
use crate::{
    api::{State, answer, ask::Ask, containers::labels, fan, refusal::Refusal},
    cluster::{Engine, Health, Snapshot},
    transport::Body,
};

/// The filters in their order, as classic Swarm named them.
const FILTERS: &str = "health, port, containerslots, dependency, affinity, constraint";

/// Sums over all nodes; what a manager of the swarm says of that and of itself; and the table.
///
/// # Errors
///
/// No engine answers.
pub async fn info(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let speaker = match state.cluster.manager() {
        Some(manager) => manager,
        None => fan::master_first(&state.cluster)?.swap_remove(0),
    };
    let mut info: Value = speaker.client().read(&ask.versioned("/info")).await?;
    if !info.is_object() {
        info = object();
    }
    let engines: Vec<_> = state.cluster.engines().into_iter().map(|engine| (engine.snapshot(), engine)).collect();
    let mut count = Count::default();
    let (mut processors, mut memory, mut images) = (0_u64, 0_u64, BTreeSet::new());
    for (snapshot, _) in &engines {
        count.add(snapshot);
        if let Some(info) = &snapshot.info {
            processors = processors.saturating_add(info.cpus);
            memory = memory.saturating_add(info.memory);
        }
        images.extend(snapshot.images.iter().map(|image| image.id.clone()));
    }
    for (key, value) in [
        ("Containers", json!(count.all)),
        ("ContainersRunning", json!(count.running)),
        ("ContainersPaused", json!(count.paused)),
        ("ContainersStopped", json!(count.stopped)),
        ("Images", json!(images.len())),
        ("NCPU", json!(processors)),
        ("MemTotal", json!(memory)),
        ("Name", json!(state.cluster.own())),
        ("ServerVersion", json!(SERVER)),
        ("SystemStatus", json!(table(state, &engines))),
        // These are of one engine, and each node's are in the table.
        ("Driver", json!("")),
        ("DriverStatus", Value::Null),
        ("Labels", json!([])),
        ("Warnings", Value::Null),
    ] {
        set(&mut info, key, value);
    }
    Ok(answer::json(StatusCode::OK, &info))
}

/// The table; leading blanks and the corner are part of it.
fn table(state: &State, engines: &[(Arc<Snapshot>, Arc<Engine>)]) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    let mut row = |key: &str, value: String| rows.push([key.to_owned(), value]);
    match state.cluster.master() {
        Some(master) if master.name != state.cluster.own() => {
            row("Role", "replica".to_owned());
            row("Primary", format!("{}:2378", master.address));
        }
        _ => row("Role", "primary".to_owned()),
    }
    row("Strategy", state.strategy.to_string());
    row("Filters", FILTERS.to_owned());
    row("Nodes", engines.len().to_string());
    for (snapshot, engine) in engines {
        row(&format!(" {}", engine.name), engine.client().endpoint().to_string());
        for (key, value) in node(snapshot) {
            row(&format!("  └ {key}"), value);
        }
    }
    rows
}

/// What is said of one node.
fn node(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let info = snapshot.info.as_deref();
    let status = match snapshot.health {
        Health::Pending => "Pending",
        Health::Healthy => "Healthy",
        Health::Unhealthy { .. } => "Unhealthy",
    };
    let mut count = Count::default();
    count.add(snapshot);
    let containers = match snapshot.is_healthy() {
        true => format!("{} ({} Running, {} Paused, {} Stopped)", count.all, count.running, count.paused, count.stopped),
        false => count.all.to_string(),
    };
    let (mut cpus, mut memory) = (0_u64, 0_u64);
    for container in snapshot.containers.iter() {
        cpus = cpus.saturating_add(container.details.nano_cpus);
        memory = memory.saturating_add(container.details.memory);
    }
    let labels: Vec<_> = info.map(labels).unwrap_or_default().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut rows = vec![
        ("ID", snapshot.id().unwrap_or_default().to_owned()),
        ("Status", status.to_owned()),
        ("Containers", containers),
        ("Reserved CPUs", format!("{} / {}", show::cpus(cpus), info.map_or(0, |info| info.cpus))),
        ("Reserved Memory", format!("{} / {}", show::bytes(memory), show::bytes(info.map_or(0, |info| info.memory)))),
        ("Labels", labels.join(", ")),
    ];
    if let Health::Unhealthy { why, .. } = &snapshot.health {
        rows.push(("Error", why.clone()));
    }
    if let Some(updated) = snapshot.updated_at {
        rows.push(("UpdatedAt", show::time(updated)));
    }
    rows.push(("ServerVersion", info.map_or_else(String::new, |info| info.server_version.clone())));
    rows
}

/// How many containers, in what state.
#[derive(Default)]
struct Count {
    all: usize,
    running: usize,
    paused: usize,
    stopped: usize,
}

impl Count {
    fn add(&mut self, snapshot: &Snapshot) {
        for container in snapshot.containers.iter() {
            self.all += 1;
            match container.state.as_str() {
                "paused" => self.paused += 1,
                "running" | "restarting" => self.running += 1,
                _ => self.stopped += 1,
            }
        }
    }
}
