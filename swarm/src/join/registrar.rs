//! Tells Consul's agent of this node which containers run here and where their published ports are: what Registrator did.
//!
//! Which services a container is, `naming` says; what of it the agent lacks, `ledger`. This is what asks and tells:
//!
//! - An event of the engine is acted on at once. A container that is told to end leaves Consul's DNS then, and not when its port
//!   closes; a container that starts enters it when its port takes connections, or after [`PATIENCE`] as one that does not yet.
//! - All is compared with what the engine lists and the agent knows at the start, whenever the engine or Consul come back, whenever
//!   the catalog's list of this node changes, and every [`ROUND`]: whatever was missed is mended.
//! - Only services that were registered here are taken away. When this program ends they stay: the containers run on, and whoever
//!   starts next goes on from there. While the engine is away they stay too; their checks say how they are.
//!
//! Swarm mode's tasks are containers like any other: those that publish a port in mode `host` are registered. Ports of the ingress
//! network are open on all nodes at once and belong to no container.
//!
//! Nothing is written to any disk but when a container comes or goes, or a check changes its state: what checks say stays the same.

mod container;
mod engine;
mod ledger;
mod naming;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use self::{
    engine::{Engine, Event, Events, Kind},
    ledger::Ledger,
};
use crate::{
    consul::{self, Client, Follow, Service, TcpCheck},
    local::Socket,
};

/// Between two comparisons of all.
pub const ROUND: Duration = Duration::from_secs(60);
/// How long a container may take until its port takes connections.
pub const PATIENCE: Duration = Duration::from_millis(1500);
/// Between two tries of what failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at a port that does not take connections yet.
const GLANCE: Duration = Duration::from_millis(50);
/// What comes within this time is one change.
const REST: Duration = Duration::from_millis(100);
/// How long Consul's agent may take for what it does by itself.
const AGENT: Duration = Duration::from_secs(3);
/// How long one try to connect to a port may take.
const TRY: Duration = Duration::from_millis(500);

/// This node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The address that published ports are reached at.
    pub address: Ipv4Addr,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Consul(#[from] consul::Error),
}

/// Registers the containers of `engine` for as long as it is not dropped.
pub async fn run(node: Node, engine: Socket, consul: Client) {
    let followed = consul.follow_node(&node.name);
    let mut registrar = Registrar {
        node,
        engine: Engine::new(engine),
        consul: consul.within(AGENT),
        ledger: Ledger::default(),
        looks: JoinSet::new(),
        looked_at: HashMap::new(),
        began: Instant::now(),
        trouble: None,
    };
    registrar.run(followed).await;
}

struct Registrar {
    node: Node,
    engine: Engine,
    consul: Client,
    ledger: Ledger,
    /// They look whether ports take connections yet, one for the id of each service.
    looks: JoinSet<Look>,
    looked_at: HashMap<String, AbortHandle>,
    began: Instant,
    /// What does not work, as it was told.
    trouble: Option<String>,
}

impl Registrar {
    async fn run(&mut self, mut followed: Follow<Vec<String>>) {
        loop {
            match self.engine.events().await {
                Ok(events) => self.follow(events, &mut followed).await,
                Err(error) => self.told(Some(&error.into())),
            }
            sleep(PAUSE).await;
        }
    }

    /// Acts on events until there are no more.
    async fn follow(&mut self, mut events: Events, followed: &mut Follow<Vec<String>>) {
        let mut due = Instant::now();
        loop {
            let mut whole = false;
            let result = tokio::select! {
                // What happens is acted on before what may wait.
                biased;
                event = events.next() => match event {
                    Some(event) => self.happened(&event).await,
                    None => return,
                },
                Some(look) = self.looks.join_next(), if !self.looks.is_empty() => match look {
                    Ok(look) => self.looked(&look).await,
                    // Broken off: nobody wants to know any more.
                    Err(_) => continue,
                },
                () = followed.changed() => {
                    due = due.min(Instant::now() + REST);
                    continue;
                }
                () = sleep_until(due) => {
                    due = Instant::now() + ROUND;
                    whole = true;
                    self.compare().await
                }
            };
            if let Err(error) = &result {
                due = due.min(Instant::now() + PAUSE);
                self.told(Some(error));
            } else if whole {
                self.told(None);
            }
        }
    }

    async fn happened(&mut self, event: &Event) -> Result<(), Error> {
        let id = &event.container;
        let gone = match event.kind {
            Kind::Came | Kind::Renamed => {
                self.ledger.came(id);
                return self.compare().await;
            }
            Kind::Told => self.ledger.told(id, self.began.elapsed()),
            Kind::Went => self.ledger.went(id),
        };
        for service in gone {
            self.take_out(&service.id).await?;
        }
        Ok(())
    }

    /// Makes Consul's agent know what the engine lists.
    async fn compare(&mut self) -> Result<(), Error> {
        let listed = self.engine.running().await?;
        for listed in self.ledger.listed(&listed, self.began.elapsed()) {
            // One that is gone by now is in no list soon.
            let Some(container) = self.engine.container(&listed.id).await? else { continue };
            let (services, complaints) = naming::services(&self.node, &container);
            complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
            let up = container.state.running && !container.state.paused;
            self.ledger.looked_at(listed, if up { services } else { Vec::new() });
        }
        let difference = self.ledger.difference(&self.consul.services().await?);
        for id in difference.surplus {
            self.take_out(&id).await?;
        }
        for service in difference.missing {
            if service.check.is_none() {
                self.consul.register(&service).await?;
            } else if !self.looked_at.contains_key(&service.id) {
                let look = self.looks.spawn(look(service.id.clone(), service.at));
                self.looked_at.insert(service.id, look);
            }
        }
        Ok(())
    }

    /// A port takes connections, or does not yet.
    async fn looked(&mut self, look: &Look) -> Result<(), Error> {
        self.looked_at.remove(&look.id);
        let Some(service) = self.ledger.wanted(&look.id).filter(|service| service.at == look.at) else { return Ok(()) };
        let check = service.check.map(|check| TcpCheck { passes: look.open, ..check });
        Ok(self.consul.register(&Service { check, ..service.clone() }).await?)
    }

    async fn take_out(&mut self, id: &str) -> Result<(), Error> {
        if let Some(look) = self.looked_at.remove(id) {
            look.abort();
        }
        Ok(self.consul.deregister(id).await?)
    }

    /// One line where trouble begins, changes or ends.
    fn told(&mut self, error: Option<&Error>) {
        let now = error.map(ToString::to_string);
        if now != self.trouble {
            match &now {
                Some(trouble) => eprintln!("containers are not registered: {trouble}; it is tried again"),
                None => eprintln!("containers are registered again"),
            }
            self.trouble = now;
        }
    }
}

/// Whether a port takes connections.
struct Look {
    id: String,
    at: SocketAddrV4,
    open: bool,
}

/// Looks until it does, or [`PATIENCE`] is over.
async fn look(id: String, at: SocketAddrV4) -> Look {
    let open = async {
        while !matches!(timeout(TRY, TcpStream::connect(at)).await, Ok(Ok(_))) {
            sleep(GLANCE).await;
        }
    };
    Look { id, at, open: timeout(PATIENCE, open).await.is_ok() }
}
