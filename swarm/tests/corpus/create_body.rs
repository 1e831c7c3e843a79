//! What must hold for any JSON in the place of the body of `POST /containers/create`. The fuzz target calls the same.

use std::collections::BTreeMap;

use hcl_swarm::schedule::{
    Candidate, ExposedPort, PlacedContainer, PlacedImage, Protocol, PublishedPort, Request, Strategy, place,
};
use serde_json::Value;

/// Whether it is JSON whose expressions can be read. No panic; a refused body is as it was; a taken one has no expression left in
/// its environment, and taking it again finds the same; whatever is placed is placed on a node that there is, and counted there.
pub fn check(data: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(data) else { return false };
    let mut taken = body.clone();
    let request = match Request::take(&mut taken) {
        Ok(request) => request,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            assert_eq!(taken, body);
            return false;
        }
    };
    let env = taken.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let ours = ["constraint:", "affinity:", "reschedule:"];
    assert!(!env.into_iter().any(|entry| ours.iter().any(|prefix| entry.starts_with(prefix))));
    let mut again = taken.clone();
    assert_eq!(Request::take(&mut again).as_ref(), Ok(&request));
    assert_eq!(again, taken);
    for strategy in [Strategy::Spread, Strategy::Binpack, Strategy::Random] {
        let mut nodes = cluster();
        for random in 0..3 {
            match place(&request, &nodes, strategy, random) {
                Ok(index) => {
                    let containers = nodes[index].containers.len();
                    nodes[index].add(&request, "new");
                    assert_eq!(nodes[index].containers.len(), containers + 1);
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
    true
}

fn cluster() -> Vec<Candidate> {
    let mut nodes = (0..3).map(node).collect::<Vec<_>>();
    nodes[0].names.push("master".to_owned());
    nodes[2].healthy = false;
    nodes
}

fn node(number: u8) -> Candidate {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let container = |name: &str| PlacedContainer {
        id: format!("{number}{name:a>11}").repeat(5),
        names: vec![format!("/{name}")],
        labels: BTreeMap::from([label("tier", name)]),
        running: number > 0,
        ports: vec![PublishedPort::new("", 80, Protocol::Tcp)],
        host_network: name == "db",
        exposed: vec![ExposedPort { port: 80, protocol: Protocol::Tcp }],
    };
    Candidate {
        id: format!("ID-{number}"),
        names: vec![format!("node-{number}")],
        healthy: true,
        labels: BTreeMap::from([label("region", "us-east"), label("containerslots", "4")]),
        nano_cpus: 4_000_000_000,
        memory: 1 << 30,
        reserved_nano_cpus: u64::from(number),
        reserved_memory: u64::MAX - u64::from(number),
        containers: if number == 0 { vec![container("web"), container("db")] } else { Vec::new() },
        images: vec![PlacedImage { id: format!("sha256:{}", "ab".repeat(32)), tags: vec!["nginx:latest".to_owned()] }],
    }
}
