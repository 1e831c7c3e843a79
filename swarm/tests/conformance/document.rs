//! `docs/swarm-api.md`: which endpoint was run with which client.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use hcl_swarm::api::{
    ApiVersion,
    routes::{self, Route},
};
use http::Method;
use percent_encoding::percent_decode_str;

use super::lab::Cluster;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/swarm-api.md");

/// Writes the table anew with what `manage` was asked for in this run.
pub fn write(cluster: &Cluster) {
    let mut run: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (method, path, client) in cluster.requests() {
        let path = percent_decode_str(&path).decode_utf8_lossy();
        let method: Method = method.parse().unwrap();
        if let Some((route, _)) = routes::find(&method, ApiVersion::split(&path).1) {
            run.entry(key(route)).or_default().insert(short(&client));
        }
    }
    let clients = |route: &Route| match run.get(&key(route)) {
        Some(clients) => clients.iter().cloned().collect::<Vec<_>>().join(", "),
        None => "*not run*".to_owned(),
    };
    let text = fs::read_to_string(PATH).unwrap();
    let head = &text[..text.find("\n|").expect("a table") + 1];
    fs::write(PATH, format!("{head}{}", routes::document(clients))).unwrap();
}

fn key(route: &Route) -> (&'static str, &'static str) {
    (route.method.name(), route.pattern)
}

/// `CLI 26.1` for `Docker-Client/26.1.5+dfsg1 (linux)`.
fn short(client: &str) -> String {
    let (name, version) = client.split(' ').next().unwrap_or_default().split_once('/').unwrap_or((client, ""));
    let version: Vec<_> = version.split(['.', '+', '-']).take(2).collect();
    let name = if name == "Docker-Client" { "CLI" } else { name };
    format!("{name} {}", version.join(".")).trim_end().to_owned()
}
