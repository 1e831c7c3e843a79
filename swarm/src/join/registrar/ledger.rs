//! What shall be registered, and what differs from it. Nothing here waits or asks.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use super::{
    container::{Listed, ListedPort},
    naming::REGISTRAR,
};
use crate::consul::{Registered, Service};

/// A container that was told to end and still runs after so long is taken for one that did not care.
pub const OBEYS_WITHIN: Duration = Duration::from_secs(60);

/// The containers that are known, and what each is registered as. Times are of a clock that never goes back.
#[derive(Debug, Default)]
pub struct Ledger {
    containers: BTreeMap<String, Known>,
    /// When containers that run were told to end.
    told: HashMap<String, Duration>,
}

#[derive(Debug)]
struct Known {
    listed: (Vec<String>, BTreeSet<ListedPort>),
    services: Vec<Service>,
}

/// What makes Consul's agent know what shall be registered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Services that it lacks, or knows otherwise.
    pub missing: Vec<Service>,
    /// Ids of services of ours that are to go.
    pub surplus: Vec<String>,
}

impl Ledger {
    /// Takes in the engine's list at `now`; which containers have to be looked at more closely.
    pub fn listed(&mut self, all: &[Listed], now: Duration) -> Vec<Listed> {
        let ids: BTreeSet<&str> = all.iter().map(|listed| listed.id.as_str()).collect();
        self.told.retain(|id, at| ids.contains(id.as_str()) && now < *at + OBEYS_WITHIN);
        let stays = |listed: &&Listed| listed.state != "paused" && !self.told.contains_key(&listed.id);
        let stay: Vec<&Listed> = all.iter().filter(stays).collect();
        let staying: BTreeSet<&str> = stay.iter().map(|listed| listed.id.as_str()).collect();
        self.containers.retain(|id, _| staying.contains(id.as_str()));
        let same = |listed: &Listed| {
            self.containers.get(&listed.id).is_some_and(|known| known.listed.0 == listed.names && known.listed.1 == listed.ports)
        };
        stay.into_iter().filter(|listed| !same(listed)).cloned().collect()
    }

    /// Takes in what one of them is.
    pub fn looked_at(&mut self, listed: Listed, services: Vec<Service>) {
        self.containers.insert(listed.id, Known { listed: (listed.names, listed.ports), services });
    }

    /// A container was started, or goes on: what it is has to be looked at.
    pub fn came(&mut self, container: &str) {
        self.told.remove(container);
        self.containers.remove(container);
    }

    /// A container was told to end at `now`; what it is registered as.
    pub fn told(&mut self, container: &str, now: Duration) -> Vec<Service> {
        self.told.insert(container.to_owned(), now);
        self.containers.remove(container).map(|known| known.services).unwrap_or_default()
    }

    /// A container takes no more connections; what it is registered as.
    pub fn went(&mut self, container: &str) -> Vec<Service> {
        self.told.remove(container);
        self.containers.remove(container).map(|known| known.services).unwrap_or_default()
    }

    /// What a service shall be; none where it shall not be.
    pub fn wanted(&self, id: &str) -> Option<&Service> {
        self.services().find(|service| service.id == id)
    }

    /// What differs from what the agent knows.
    pub fn difference(&self, there: &BTreeMap<String, Registered>) -> Difference {
        // Of two with the same id, which only names with colons could have, the first.
        let mut wanted: BTreeMap<&str, &Service> = BTreeMap::new();
        for service in self.services() {
            wanted.entry(&service.id).or_insert(service);
        }
        let ours = |known: &&Registered| known.meta.get(REGISTRAR.0).is_some_and(|value| value == REGISTRAR.1);
        let surplus = there.values().filter(ours).filter(|known| !wanted.contains_key(known.id.as_str()));
        let surplus = surplus.map(|known| known.id.clone()).collect();
        // What somebody else registered under the same id stays theirs.
        let missing = wanted.into_values().filter(|service| match there.get(&service.id) {
            None => true,
            Some(known) => ours(&known) && !is_same(service, known),
        });
        Difference { missing: missing.cloned().collect(), surplus }
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        self.containers.values().flat_map(|known| &known.services)
    }
}

fn is_same(service: &Service, known: &Registered) -> bool {
    service.name == known.name
        && service.at.ip().to_string() == known.address
        && service.at.port() == known.port
        && service.tags == known.tags
        && service.meta == known.meta
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
