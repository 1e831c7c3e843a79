//! Docker's API through the whole cluster: Docker's own clients, each of this table's cases with each of them.
//!
//! Three real engines, `hcl-swarm join` on each and `hcl-swarm manage` on two of them, over TLS as people have it. A case is called
//! `FAMILY::NAME [CLIENT]`; `cargo test -p hcl-swarm --test conformance -- logs` runs those with `logs` in their names. With
//! `HCL_ONE_ENGINE=1` the same is asked of one engine, without anything of ours: a judge of the judges. With `HCL_WRITE_DOCS=1` the docs are
//! told what was run.

#![cfg(target_os = "linux")]

#[path = "conformance/containers.rs"]
mod containers;
#[path = "conformance/document.rs"]
mod document;
#[path = "conformance/images.rs"]
mod images;
#[path = "lab/lab.rs"]
mod lab;
#[path = "conformance/library.rs"]
mod library;
#[path = "conformance/networks.rs"]
mod networks;
#[path = "conformance/paper.rs"]
mod paper;
#[path = "conformance/placing.rs"]
mod placing;
#[path = "conformance/streams.rs"]
mod streams;
#[path = "conformance/swarm_mode.rs"]
mod swarm_mode;
#[path = "conformance/system.rs"]
mod system;
#[path = "conformance/volumes.rs"]
mod volumes;

use std::process::ExitCode;

use lab::{
    Client, Cluster, IMAGE,
    programs::{Docker, carried, clients},
    table::{Case, Wanted, run},
};

/// What a case has: a person with one client, and the lab.
pub struct Stage<'a> {
    /// Through the Swarm API of the leader, `node-1`.
    pub docker: Client,
    /// Straight to the engine of `node-1`.
    pub direct: Client,
    /// The engines.
    pub cluster: &'a Cluster,
}

/// A family's rows: name and what must hold.
pub type Rows = &'static [(&'static str, fn(&Stage))];

/// For every client.
const FAMILIES: &[(&str, Rows)] = &[
    ("containers", containers::ROWS),
    ("streams", streams::ROWS),
    ("images", images::ROWS),
    ("volumes", volumes::ROWS),
    ("networks", networks::ROWS),
    ("placing", placing::ROWS),
    ("system", system::ROWS),
    ("swarm_mode", swarm_mode::ROWS),
    ("paper", paper::ROWS),
];
/// Once, with the client that the image carries.
const ONCE: &[(&str, Rows)] =
    &[("streams", streams::ONCE), ("paper", paper::COMPOSE), ("library", library::ROWS), ("system", system::ONCE)];

impl Stage<'_> {
    /// A wrong command is refused with the same words and exit code as by a single engine.
    #[track_caller]
    pub fn refused_alike(&self, line: &str) {
        let code = self.said_alike(line);
        assert!(code != 0, "{}: a single engine takes it: {line}", self.docker.version);
    }

    /// The same comes of a command as with a single engine. Its exit code.
    #[track_caller]
    pub fn said_alike(&self, line: &str) -> i32 {
        let (cluster, engine) = (self.docker.run(line), self.direct.run(line));
        assert!(cluster == engine, "{}: {line}\ncluster: {cluster}\nengine: {engine}", self.docker.version);
        engine.code
    }
}

struct Row {
    name: String,
    check: fn(&Stage),
    client: &'static Docker,
}

fn main() -> ExitCode {
    let wanted = Wanted::from_arguments();
    let of = |families: &'static [(&str, Rows)], client: &'static Docker| {
        let row = move |family: &str, (name, check): &(&str, fn(&Stage))| Row {
            name: format!("{family}::{name} [{}]", client.version),
            check: *check,
            client,
        };
        families.iter().flat_map(move |(family, rows)| rows.iter().map(move |one| row(family, one)))
    };
    let mut rows: Vec<Row> = clients().iter().flat_map(|client| of(FAMILIES, client)).collect();
    rows.extend(of(ONCE, carried()));
    if wanted.list || !rows.iter().any(|row| wanted.is(&row.name)) {
        return run(rows.into_iter().map(|row| Case { name: row.name, run: Box::new(|| ()) }).collect(), &wanted, |_| {});
    }
    // The other way round: what the table wants of a cluster should hold for one engine too, wherever a row is not about nodes.
    let alone = std::env::var_os("HCL_ONE_ENGINE").is_some();
    let cluster = if alone { Cluster::new() } else { Cluster::serving() };
    let leader = &cluster.nodes[0];
    let cases = rows.into_iter().map(|Row { name, check, client }| {
        let direct = cluster.direct(client, leader);
        let docker = if alone { direct.clone() } else { cluster.client(client, leader) };
        let stage = Stage { docker, direct, cluster: &cluster };
        Case { name, run: Box::new(move || check(&stage)) }
    });
    let verdict = run(cases.collect(), &wanted, |held| {
        cluster.clean();
        if !alone {
            cluster.settle();
        }
        if !held {
            println!("--- manage on {}:\n{}", leader.name, cluster.log("manage", leader));
        }
    });
    if std::env::var_os("HCL_WRITE_DOCS").is_some() {
        document::write(&cluster);
    }
    verdict
}
