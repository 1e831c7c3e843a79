//! The engines of the cluster, and what is on them.
//!
//! [`Cluster`] knows which engines there are ([`Cluster::set_members`]: from Consul, or fixed); a task for each of them
//! keeps its [`Snapshot`] by the engine's events. Whoever asks here gets an answer at once, from memory: as old as the last event
//! for an engine that answers, as old as its last word for one that does not. After a change of their own, callers ask for the
//! change to be taken in ([`Cluster::refresh_container`] and the others), so that the next question is answered right.

mod engine;
mod events;
mod fetch;
mod inspect;
mod listing;
mod lookup;
mod names;
mod snapshot;
mod table;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use rustls::ClientConfig;
use tokio::sync::{Semaphore, broadcast};

pub use engine::Engine;
pub use events::{Actor, Event, EventFields};
pub use inspect::{Details, Published};
pub use listing::{Container, Image, Network, Port, Volume};
pub use lookup::Lookup;
pub use names::{NameGuard, Taken};
pub use snapshot::{Health, Info, Snapshot, SwarmInfo, SwarmState};

use crate::transport::{Client, Endpoint, Error};

/// What the leader's engine is called beside its name.
pub const MASTER: &str = "master";
/// How many events wait for a listener that is slow, before it loses some.
const EVENTS: usize = 256;
/// How many engines are asked for everything at a time.
const TURNS: usize = 4;

/// An engine that is a member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node's name.
    pub name: String,
    /// Where its engine is.
    pub endpoint: Endpoint,
    /// What Consul says is wrong with it; none for nothing. What counts is whether it answers: a change here only has it asked now.
    pub trouble: Option<String>,
}

/// All engines. Shared by `Arc`.
pub struct Cluster {
    /// This node's name.
    own: String,
    tls: Option<Arc<ClientConfig>>,
    engines: RwLock<BTreeMap<String, Arc<Engine>>>,
    master: RwLock<Option<String>>,
    /// Names of containers that are being made.
    reserved: Mutex<BTreeSet<String>>,
    events: broadcast::Sender<Event>,
    /// To ask an engine for everything.
    turns: Arc<Semaphore>,
}

impl Cluster {
    /// A cluster without engines, on the node `own`. `tls` is what this node shows other nodes.
    pub fn new(own: &str, tls: Option<Arc<ClientConfig>>) -> Arc<Self> {
        Arc::new(Self {
            own: own.to_owned(),
            tls,
            engines: RwLock::default(),
            master: RwLock::default(),
            reserved: Mutex::default(),
            events: broadcast::channel(EVENTS).0,
            turns: Arc::new(Semaphore::new(TURNS)),
        })
    }

    /// This node's name.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Takes `members` for all there are. Engines that are new are watched from now on, those that are no longer there are forgotten;
    /// one whose address is another one is a new one. Needs a tokio runtime.
    pub fn set_members(&self, members: Vec<Member>) {
        let mut engines = self.engines.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeMap::new();
        for member in members {
            let engine = match engines.remove(&member.name) {
                Some(engine) if *engine.client().endpoint() == member.endpoint => engine,
                other => {
                    if let Some(moved) = other {
                        moved.stop();
                    }
                    let client = Client::new(&member.name, member.endpoint.clone(), self.tls.clone());
                    Engine::start(&member.name, client, self.events.clone(), Arc::clone(&self.turns))
                }
            };
            engine.told(member.trouble);
            next.insert(member.name, engine);
        }
        for (_, gone) in std::mem::replace(&mut *engines, next) {
            gone.stop();
        }
    }

    /// The node of this name or address leads from now on; nobody for none.
    pub fn set_master(&self, node: Option<String>) {
        *self.master.write().unwrap_or_else(PoisonError::into_inner) = node;
    }

    /// All engines by name, those that do not answer included.
    pub fn engines(&self) -> Vec<Arc<Engine>> {
        self.engines.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }

    /// The leader's engine.
    pub fn master(&self) -> Option<Arc<Engine>> {
        let node = self.master.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        self.named(&node).or_else(|| self.at(node.parse().ok()?))
    }

    /// Whether `engine` is the leader's.
    pub fn is_master(&self, engine: &Engine) -> bool {
        self.master().is_some_and(|master| master.name == engine.name)
    }

    /// The engine of this name, engine id or address; the leader's for `master`.
    pub fn engine(&self, name_or_id: &str) -> Option<Arc<Engine>> {
        if let Some(engine) = self.named(name_or_id) {
            return Some(engine);
        }
        if name_or_id == MASTER {
            return self.master();
        }
        if let Ok(address) = name_or_id.parse() {
            return self.at(address);
        }
        self.engines().into_iter().find(|engine| engine.snapshot().id() == Some(name_or_id))
    }

    /// A healthy engine that manages the swarm: this node's if it does, else the first one.
    pub fn manager(&self) -> Option<Arc<Engine>> {
        let manages = |engine: &Arc<Engine>| {
            let snapshot = engine.snapshot();
            snapshot.is_healthy() && snapshot.info.as_ref().is_some_and(|info| info.swarm.control_available)
        };
        let own = self.named(&self.own).filter(&manages);
        own.or_else(|| self.engines().into_iter().find(manages))
    }

    /// What happens on the engines from now on, as they tell it. A listener that is slow loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Takes in how the container `id` of `engine` is now, or that it is no more.
    ///
    /// # Errors
    ///
    /// The engine does not say.
    pub async fn refresh_container(&self, engine: &Engine, id: &str) -> Result<(), Error> {
        engine.refresh_container(id, true).await
    }

    fn at(&self, address: Ipv4Addr) -> Option<Arc<Engine>> {
        self.engines().into_iter().find(|engine| engine.address == address)
    }

    fn named(&self, name: &str) -> Option<Arc<Engine>> {
        self.engines.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for engine in self.engines() {
            engine.stop();
        }
    }
}

#[cfg(test)]
mod tests;
