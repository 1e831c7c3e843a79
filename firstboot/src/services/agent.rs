//! Consul on this node: its files, its container, and how it is.

use std::{collections::BTreeMap, fs, io, net::Ipv4Addr, os::unix::fs::DirBuilderExt, path::Path, time::Duration};

use sha2::{Digest, Sha256};

use super::{kept::Server, plan};
use crate::{
    consul::{
        Client, RUN, SOCKET, STATE, Secrets, Setup, Version, acl,
        container::{self, NAME},
        raft,
    },
    engine::{ContainerSpec, Engine},
    identity::NodeId,
    key::{ClusterKey, hex},
};

/// How long a question may take whose answer the next step waits for.
const QUICK: Duration = Duration::from_secs(5);
/// The label with the digest of all that a running agent depends on.
const CONFIG_LABEL: &str = "hcl.config";
/// The label that says whether it is a server.
const SERVER_LABEL: &str = "hcl.server";

/// Who this node is to Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) node: NodeId,
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
}

/// Consul on this node.
#[derive(Debug)]
pub(super) struct Agent {
    key: ClusterKey,
    secrets: Secrets,
    /// The image's reference.
    image: String,
    version: Version,
    /// Whether this agent has let us in before: it does not forget.
    tokens: bool,
}

impl Agent {
    /// # Errors
    ///
    /// The reference names no version.
    pub(super) fn new(key: &ClusterKey, image: String) -> Result<Self, String> {
        let version = Version::of_image(&image)?;
        Ok(Self { key: key.clone(), secrets: Secrets::of(key), image, version, tokens: false })
    }

    /// Asks with the token that may do all.
    pub(super) fn management(&self) -> Client {
        Client::new(SOCKET, Some(self.secrets.management.clone()))
    }

    /// Asks with the agents' token.
    pub(super) fn own(&self) -> Client {
        Client::new(SOCKET, Some(self.secrets.agent.clone()))
    }

    /// How it is.
    pub(super) fn look(&mut self, engine: &Engine) -> plan::Consul {
        let Ok(Some(container)) = engine.container(NAME) else { return plan::Consul::Down };
        if !container.state.running {
            return plan::Consul::Down;
        }
        let Some(server) = container.labels().get(SERVER_LABEL).map(|server| server == "true") else {
            return plan::Consul::Down;
        };
        let client = self.management().within(QUICK);
        let led = client.leader().is_ok_and(|leader| leader.is_some());
        if led && !self.tokens {
            self.tokens = acl::is_ready(&client, &self.secrets).unwrap_or(false);
        }
        plan::Consul::Up { server, led, tokens: self.tokens }
    }

    /// Whether it has the data of a server.
    pub(super) fn has_data(&self) -> bool {
        raft::has_state(&Path::new(STATE).join("data"))
    }

    /// Writes its files and has its container run. One that runs with other files is replaced.
    ///
    /// # Errors
    ///
    /// What failed, and where.
    pub(super) fn start(
        &self,
        engine: &Engine,
        who: &Who,
        (server, bootstrap): (bool, bool),
        servers: &[Server],
    ) -> Result<(), String> {
        let config = Path::new(STATE).join("config");
        for folder in [Path::new(STATE), &config, &Path::new(STATE).join("data"), Path::new(RUN)] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| at(folder, &error))?;
        }
        let servers: Vec<_> = servers.iter().map(|server| server.address).collect();
        let setup = self.setup(who, server, bootstrap, &servers);
        setup.write(&config, &self.secrets, &setup.pem(&self.key)).map_err(|(path, error)| at(&path, &error))?;
        engine.ensure_container(&self.container(who, server)).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Makes policies and tokens.
    ///
    /// # Errors
    ///
    /// What Consul said.
    pub(super) fn bootstrap(&self) -> Result<(), String> {
        acl::bootstrap(&self.management(), &self.secrets).map_err(|error| error.to_string())
    }

    /// Makes what a server has here count alone from its next start, or forgets what a client has; whether it was a server's.
    ///
    /// # Errors
    ///
    /// What failed, and where.
    pub(super) fn go_on_alone(&mut self, engine: &Engine, who: &Who) -> Result<bool, String> {
        self.tokens = false;
        engine.remove_container(NAME).map_err(|error| error.to_string())?;
        let data = Path::new(STATE).join("data");
        raft::go_on_alone(&data, (who.node, who.address)).map_err(|(path, error)| at(&path, &error))
    }

    /// Removes its container and its data.
    ///
    /// # Errors
    ///
    /// What failed, and where.
    pub(super) fn wipe(&mut self, engine: &Engine) -> Result<(), String> {
        self.tokens = false;
        engine.remove_container(NAME).map_err(|error| error.to_string())?;
        raft::wipe(&Path::new(STATE).join("data")).map_err(|(path, error)| at(&path, &error))
    }

    fn setup(&self, who: &Who, server: bool, bootstrap: bool, servers: &[Ipv4Addr]) -> Setup {
        Setup {
            node_name: who.name.clone(),
            node_id: who.node,
            address: who.address,
            server,
            bootstrap,
            retry_join: servers.to_vec(),
            version: self.version,
            places: Default::default(),
        }
    }

    fn container(&self, who: &Who, server: bool) -> ContainerSpec {
        // Bootstrap and servers to join matter only to an agent that starts.
        let setup = self.setup(who, server, false, &[]);
        let (config, pem) = (setup.config(&self.secrets), setup.pem(&self.key));
        let digest = hex(&Sha256::digest(format!("{config}{}{}", pem.ca, pem.cert)));
        let labels = [(CONFIG_LABEL.to_owned(), digest), (SERVER_LABEL.to_owned(), server.to_string())];
        container::spec(&self.image, BTreeMap::from(labels))
    }
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
