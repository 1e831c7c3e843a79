//! How long placing takes: 100 nodes with 1,000 containers, some requests, microseconds for each.
//!
//! `cargo run --release -p hcl-swarm --example place [NODES] [CONTAINERS]`

use std::{
    collections::BTreeMap,
    env,
    hint::black_box,
    time::{Duration, Instant},
};

use hcl_swarm::schedule::{Candidate, PlacedContainer, PlacedImage, Protocol, PublishedPort, Request, Strategy, place};
use serde_json::json;

const RUNS: u64 = 500;

fn main() {
    let mut arguments = env::args().skip(1).map(|number| number.parse::<usize>().expect("NODES and CONTAINERS are numbers"));
    let (nodes, containers) = (arguments.next().unwrap_or(100), arguments.next().unwrap_or(1000));
    let nodes = cluster(nodes.max(1), containers);
    println!("{} nodes, {containers} containers; µs for take() and place(), median and slowest of {RUNS}", nodes.len());
    for (name, body) in [
        ("nothing asked", json!({"Env": ["A=1"]})),
        ("published port, memory", json!({"HostConfig": {"Memory": 1 << 20, "PortBindings": {"80/tcp": [{"HostPort": "80"}]}}})),
        ("constraint:node==master", json!({"Env": ["constraint:node==master"]})),
        ("affinity:container!=web-1*", json!({"Env": ["affinity:container!=web-1*"]})),
        ("affinity:image==/^nginx:.*5$/", json!({"Env": ["affinity:image==/^nginx:.*5$/"]})),
        ("soft, in vain: container==~/x$/", json!({"Env": ["affinity:container==~/x$/"]})),
        ("--volumes-from=web-7", json!({"HostConfig": {"VolumesFrom": ["web-7"]}})),
    ] {
        let mut times = (0..RUNS).map(|random| time(|| measured(&body, &nodes, random))).collect::<Vec<_>>();
        times.sort_unstable();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!("{name:<34} {:8.1} {:8.1}", micros(times[times.len() / 2]), micros(times[times.len() - 1]));
    }
}

fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn measured(body: &serde_json::Value, nodes: &[Candidate], random: u64) {
    let request = Request::take(&mut body.clone()).expect("the expressions above are right");
    let _ = black_box(place(&request, black_box(nodes), Strategy::Spread, random));
}

fn cluster(nodes: usize, containers: usize) -> Vec<Candidate> {
    let mut cluster = (0..nodes).map(node).collect::<Vec<_>>();
    cluster[0].names.push("master".to_owned());
    for number in 0..containers {
        cluster[number % nodes].containers.push(PlacedContainer {
            id: format!("{number:08x}").repeat(8),
            names: vec![format!("/web-{number}")],
            labels: BTreeMap::from([("com.docker.compose.service".to_owned(), "web".to_owned())]),
            running: true,
            ports: vec![PublishedPort::new("", 30_000 + (number % 30_000) as u16, Protocol::Tcp)],
            ..PlacedContainer::default()
        });
    }
    cluster
}

fn node(number: usize) -> Candidate {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let image = |tag| PlacedImage { id: format!("sha256:{tag:064x}"), tags: vec![format!("nginx:1.{tag}")] };
    Candidate {
        id: format!("{number:032x}"),
        names: vec![format!("node-{number}")],
        healthy: true,
        labels: BTreeMap::from([label("storagedriver", "overlay2"), label("ostype", "linux"), label("region", "lab")]),
        nano_cpus: 4_000_000_000,
        memory: 1 << 30,
        images: (0..20).map(image).collect(),
        ..Candidate::default()
    }
}
