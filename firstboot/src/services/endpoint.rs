//! This node's part in the cluster's Docker endpoint: the files of `hcl-swarm`, its containers, and how they are.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::images;
use crate::{
    endpoint::{
        IMAGE, MANAGE_PORT,
        container::{self, JOIN, MANAGE, Places},
        files::{self, Files, Wrong},
    },
    engine::{ContainerSpec, Engine, Ensured},
    key::ClusterKey,
    trust::NodeNames,
};

/// How often it is looked at while nothing changes. A container that ends is started again by the engine itself.
const EVERY: Duration = Duration::from_secs(10);

/// The endpoint on this node.
#[derive(Debug)]
pub struct Endpoint {
    /// The image's reference; none on a card that was built without.
    image: Option<String>,
    /// The address that goes with the leader's role.
    leader: Ipv4Addr,
    /// `/etc`.
    etc: PathBuf,
    places: Places,
    /// Whom all was last as it should be for, and when that was seen.
    seen: Option<(Instant, NodeNames, bool)>,
}

impl Endpoint {
    /// That of the node whose `/etc` is `etc`, and which has the rest at `places`. `leader` is the address that goes with the leader's role.
    ///
    /// # Errors
    ///
    /// The list of images cannot be read.
    pub fn new(etc: &Path, leader: Ipv4Addr, places: Places) -> Result<Self, String> {
        Ok(Self { image: images::find(etc, IMAGE)?, leader, etc: etc.to_owned(), places, seen: None })
    }

    /// Sees to it that the node of these names has all files and runs *join*, and *manage* where it is a server and only there. Once all is so
    /// nothing happens for a while, unless one of the arguments is another.
    ///
    /// # Errors
    ///
    /// What failed, and where; the next call tries again.
    pub fn keep(&mut self, engine: &Engine, key: &ClusterKey, names: &NodeNames, server: bool) -> Result<(), String> {
        let now = Instant::now();
        let same = |(at, seen, serves): &(Instant, NodeNames, bool)| now < *at + EVERY && seen == names && *serves == server;
        if self.seen.as_ref().is_some_and(same) {
            return Ok(());
        }
        self.seen = None;
        let Some(image) = &self.image else {
            // Another image may have been on this card before.
            remove(engine)?;
            self.seen = Some((now, names.clone(), server));
            return Ok(());
        };
        let all = Files::of_node(key, names, self.leader);
        all.lay(&self.places.state, None).map_err(at)?;
        files::lay_local(&self.etc, key, names).map_err(at)?;
        let node = container::Node { image, name: names.name(), address: names.address(), digest: &all.digest() };
        ensure(engine, &container::join(&node, &self.places))?;
        if server {
            ensure(engine, &container::manage(&node, &self.places))?;
        } else if engine.container(MANAGE).map_err(|error| error.to_string())?.is_some_and(|found| found.is_ours()) {
            engine.remove_container(MANAGE).map_err(|error| error.to_string())?;
            println!("removed {MANAGE}: this node is no server");
        }
        self.seen = Some((now, names.clone(), server));
        Ok(())
    }

    /// Removes both containers, for a cluster that is no more.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses.
    pub fn wipe(&mut self, engine: &Engine) -> Result<(), String> {
        self.seen = None;
        remove(engine)
    }

    /// What `hcl status` says of it.
    pub fn shown(&self, server: bool) -> String {
        match (&self.image, server) {
            (None, _) => format!("none: this card was built without the image `{IMAGE}`"),
            (Some(_), true) => format!("tcp://master:{MANAGE_PORT}, served by this node"),
            (Some(_), false) => format!("tcp://master:{MANAGE_PORT}"),
        }
    }
}

fn ensure(engine: &Engine, spec: &ContainerSpec) -> Result<(), String> {
    let done = match engine.ensure_container(spec).map_err(|error| error.to_string())? {
        Ensured::Kept => return Ok(()),
        Ensured::Started => "started",
        Ensured::Created => "made",
        Ensured::Replaced => "replaced",
    };
    println!("{done} the container {}", spec.name);
    Ok(())
}

fn remove(engine: &Engine) -> Result<(), String> {
    for name in [MANAGE, JOIN] {
        // A user's of that name is none of ours.
        if engine.container(name).map_err(|error| error.to_string())?.is_some_and(|found| found.is_ours()) {
            engine.remove_container(name).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn at((path, error): Wrong) -> String {
    format!("{}: {error}", path.display())
}
