//! `hcl-swarm` with a real Consul: which engines there are and how they are, who leads, who is let in, what is published.
//!
//! The lab is that of the conformance table, with Consul 1.8.7 on each node and whatever the node program does there. Cases run one
//! after another; `cargo test -p hcl-swarm --test discovery -- users` runs those with `users` in their names.

#![cfg(target_os = "linux")]

#[path = "discovery/engines.rs"]
mod engines;
#[path = "lab/lab.rs"]
mod lab;
#[path = "discovery/registrar.rs"]
mod registrar;
#[path = "discovery/strangers.rs"]
mod strangers;
#[path = "discovery/users.rs"]
mod users;

use std::process::ExitCode;

use lab::{
    Client, Cluster, IMAGE, Machine,
    consul::Consul,
    programs::carried,
    table::{Case, Wanted, run},
};

/// What a case has.
pub struct Stage<'a> {
    /// The engines.
    pub cluster: &'a Cluster,
    /// Consul on them.
    pub consul: &'a Consul<'a>,
    /// A user who asks the leader.
    pub docker: Client,
}

type Row = (&'static str, fn(&Stage));

const ROWS: &[Row] = &[
    ("engines::found", engines::found),
    ("engines::two_managers", engines::two_managers),
    ("engines::master_moves", engines::master_moves),
    ("registrar::published", registrar::published),
    ("registrar::names", registrar::names),
    ("registrar::checks", registrar::checks),
    ("registrar::starts_anew", registrar::starts_anew),
    ("strangers::every_endpoint", strangers::every_endpoint),
    ("users::removed", users::removed),
    ("users::back_again", users::back_again),
    ("users::without_consul", users::without_consul),
    ("engines::dead", engines::dead),
];

impl<'a> Stage<'a> {
    /// The node of this number, from 1 on.
    pub fn node(&self, number: usize) -> &'a Machine {
        &self.cluster.nodes[number - 1]
    }
}

fn main() -> ExitCode {
    let wanted = Wanted::from_arguments();
    if wanted.list || !ROWS.iter().any(|(name, _)| wanted.is(name)) {
        let none = ROWS.iter().map(|(name, _)| Case { name: (*name).to_owned(), run: Box::new(|| ()) });
        return run(none.collect(), &wanted, |_| {});
    }
    let cluster = Cluster::new();
    let consul = Consul::start(&cluster);
    for node in &cluster.nodes {
        cluster.join(node);
    }
    for node in &cluster.nodes[..2] {
        cluster.manage(node, "");
    }
    cluster.ready();
    let stage = Stage { cluster: &cluster, consul: &consul, docker: cluster.client(carried(), &cluster.nodes[0]) };
    let cases = ROWS.iter().map(|(name, check)| {
        let stage = &stage;
        Case { name: (*name).to_owned(), run: Box::new(move || check(stage)) }
    });
    run(cases.collect(), &wanted, |held| {
        cluster.clean();
        cluster.settle();
        if !held {
            for (what, node) in [("manage", &cluster.nodes[0]), ("join", &cluster.nodes[1])] {
                println!("--- {what} on {}:\n{}", node.name, cluster.log(what, node));
            }
        }
    })
}

/// A container of this name and on this node, that sleeps.
fn sleeper(stage: &Stage, name: &str, node: &str, options: &str) -> String {
    stage.docker.ok(&format!("docker run -d --name {name} -e constraint:node=={node} {options} {IMAGE} sleep 1000"))
}
