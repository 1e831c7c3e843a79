//! What the loop tells: the page, and `hcl status`.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{AGAIN, Look, STALE, Services};
use crate::{
    consul,
    engine::SwarmState,
    services::{agent::Who, inventory, place, plan::Step, report::Report, state::ServicesStatus},
    status::{Status, uptime_ms},
    view::{self, View},
};

impl Services {
    /// This node, as it is now.
    pub(super) fn report(&mut self, look: &Look, who: &Who, settled: bool) -> Report {
        let mut node = view::Node { name: who.name.clone(), id: who.node.to_string(), ..view::Node::default() };
        node.address = who.address.to_string();
        node.heard_ms_ago = Some(0);
        view::host::describe(&mut node, &self.options.root);
        if let Some(engine) = &self.engine {
            let containers = engine.containers().unwrap_or_default();
            self.inventory.look(engine, &containers, Instant::now());
            (node.engine.version, node.arch) = (self.inventory.version.clone(), self.inventory.arch.clone());
            "running".clone_into(&mut node.engine.state);
            node.engine.containers = inventory::shown(containers);
        } else {
            "down".clone_into(&mut node.engine.state);
        }
        node.swarm.state = if look.swarm.is_active() { "ready" } else { "inactive" }.to_owned();
        node.swarm.role = if matches!(look.swarm, SwarmState::Manager { .. }) { "manager" } else { "worker" }.to_owned();
        let swarm_id = match &look.swarm {
            SwarmState::Manager { node_id, .. } | SwarmState::Worker { node_id, .. } => Some(node_id.clone()),
            _ => None,
        };
        let serves = settled && self.kept.is_server();
        let (used, pairing) = (self.inventory.used, self.kept.pairing);
        Report { incarnation: look.place.incarnation, swarm_id, serves, empty: false, pairing, settled, used, node }
    }

    /// A view of nobody yet.
    pub(super) fn frame(&self) -> View {
        let id = self.key.cluster().short();
        View { cluster: self.config.cluster.to_string(), id, ..View::default() }
    }

    /// Shows the leader's view, or, without one, what this node knows by itself.
    pub(super) fn show(&mut self, known: Option<(&Status, &view::Node)>) {
        let told = self.told.as_ref().filter(|(at, _)| at.elapsed() < STALE).map(|(at, told)| (at.elapsed(), told));
        let view = match told {
            Some((age, told)) => {
                let mut view = told.view.clone();
                for node in &mut view.nodes {
                    node.heard_ms_ago = node.heard_ms_ago.map(|heard| heard + age.as_millis() as u64);
                }
                view
            }
            None => View {
                nodes: known.map(|(status, own)| place::nodes(status, own, uptime_ms())).unwrap_or_default(),
                ..self.frame()
            },
        };
        self.publish(view);
    }

    pub(super) fn publish(&mut self, mut view: View) {
        if let Some(me) = &self.me {
            view.served_by.clone_from(&me.who.name);
        }
        if let Ok(seen) = view::consul::Seen::ask(&consul::Client::new(consul::SOCKET, None).within(Duration::from_secs(2))) {
            seen.merge(&mut view);
        }
        view.problems = view::problems::problems(&view);
        self.status.view = view.clone();
        self.page.show(view);
    }

    pub(super) fn doing(&mut self, step: &Step) {
        let doing = step.to_string();
        if self.status.doing != doing {
            println!("{doing}");
            self.status = ServicesStatus { doing, since_uptime_ms: uptime_ms(), trouble: None, ..self.status.clone() };
            self.write();
        }
    }

    pub(super) fn trouble(&mut self, trouble: Option<String>) {
        if let Some(line) = trouble.as_ref().filter(|line| self.status.trouble.as_ref() != Some(line)) {
            println!("{}: {line}", self.status.doing);
        }
        self.status.trouble = trouble;
    }

    pub(super) fn failed(&mut self, what: &str, wrong: String) -> Duration {
        self.trouble(Some(format!("{what}: {wrong}")));
        self.write();
        AGAIN
    }

    pub(super) fn write(&self) {
        // In memory only; a status that cannot be written shows nothing, and nothing hangs on it.
        let _: io::Result<()> = self.status.write(&self.options.run_dir);
    }
}
