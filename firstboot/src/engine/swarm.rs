//! The swarm: founding, joining and leaving it, and what this node is in it.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Engine, Error, SwarmInfo, parse};
use crate::config::pools;

/// The port of swarm's control plane.
const PORT: u16 = 2377;
/// The longest that the engine's calls about the swarm may take. It gives up waiting by itself after 20 s, and goes on.
const CALL: Duration = Duration::from_secs(60);
/// How often we look what became of it.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a node's certificate is good for. Ninety days, the engine's default, kill a lab that lay in a drawer.
const CERTIFICATE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How often an update is tried again that somebody else's came before.
const TRIES: u32 = 5;

/// What this node is in a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwarmState {
    /// It is in none.
    None,
    /// It is joining or coming back, and has not reached a manager yet.
    Pending {
        /// It is a manager itself, with what managers keep, and waits for a majority of them.
        manager: bool,
    },
    /// It is a worker.
    Worker {
        /// Its id in the swarm.
        node_id: String,
        /// The managers that it knows, address and port.
        managers: Vec<String>,
    },
    /// It is a manager.
    Manager {
        /// Its id in the swarm.
        node_id: String,
        /// The swarm's id; none while it has no leader.
        swarm_id: Option<String>,
        /// What is wrong, such as that the managers are no majority.
        trouble: Option<String>,
    },
    /// It failed for good, in the engine's words.
    Error(String),
    /// Its state is encrypted, and somebody must unlock it.
    Locked,
}

impl SwarmState {
    pub(super) fn of(info: SwarmInfo) -> Self {
        let SwarmInfo { node_id, local_node_state, control_available, error, remote_managers, cluster, .. } = info;
        match local_node_state.as_str() {
            "active" if control_available => {
                let swarm_id = cluster.map(|cluster| cluster.id).filter(|id| !id.is_empty());
                Self::Manager { node_id, swarm_id, trouble: Some(super::one_line(&error)).filter(|error| !error.is_empty()) }
            }
            "active" => Self::Worker { node_id, managers: remote_managers.into_iter().map(|manager| manager.addr).collect() },
            "pending" => Self::Pending { manager: control_available },
            "locked" => Self::Locked,
            "error" => Self::Error(super::one_line(&error)),
            _ => Self::None,
        }
    }

    /// Whether the node takes part.
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Worker { .. } | Self::Manager { .. })
    }
}

/// How to found a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitSwarm {
    /// This node's address in the cluster. Control and data use this one and no other.
    pub address: Ipv4Addr,
    /// This node's addresses on all networks, with the lengths of their prefixes: overlay networks keep off them.
    pub taken: Vec<(Ipv4Addr, u8)>,
    /// Make a swarm of one of what this manager remembers, after the majority was lost for good.
    pub force_new: bool,
}

/// How to join one.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSwarm {
    /// This node's address in the cluster.
    pub address: Ipv4Addr,
    /// The managers' addresses in the cluster.
    pub managers: Vec<Ipv4Addr>,
    /// The worker's or the manager's token: a secret.
    pub token: String,
}

impl std::fmt::Debug for JoinSwarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinSwarm as {} at {:?}", self.address, self.managers)
    }
}

/// `GET /swarm`, on a manager.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Swarm {
    /// The swarm's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What an update has to name.
    version: ObjectVersion,
    /// What it was asked to be.
    pub spec: Value,
    /// Whether all nodes are getting new certificates. The tokens of now are worthless afterwards.
    #[serde(default, rename = "RootRotationInProgress")]
    pub rotating: bool,
    /// What lets others in: secrets.
    pub join_tokens: JoinTokens,
}

/// Counts the changes of an object of the swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ObjectVersion {
    pub(super) index: u64,
}

/// Whoever has one joins. Never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JoinTokens {
    /// Lets a worker in.
    pub worker: String,
    /// Lets a manager in.
    pub manager: String,
}

impl std::fmt::Debug for JoinTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinTokens")
    }
}

fn at(address: Ipv4Addr) -> String {
    SocketAddrV4::new(address, PORT).to_string()
}

impl Engine {
    /// What this node is in a swarm.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn swarm_state(&self) -> Result<SwarmState, Error> {
        Ok(SwarmState::of(self.info()?.swarm))
    }

    /// The swarm with its tokens; only managers know it.
    ///
    /// # Errors
    ///
    /// The engine does not answer, this node is no manager, or the managers are no majority.
    pub fn swarm(&self) -> Result<Swarm, Error> {
        self.get("looking at the swarm", "/swarm")
    }

    /// The tokens to let others in with; none while all nodes are getting new certificates, for some seconds after a founding.
    ///
    /// # Errors
    ///
    /// As for [`Self::swarm`].
    pub fn join_tokens(&self) -> Result<Option<JoinTokens>, Error> {
        let Swarm { rotating, join_tokens, .. } = self.swarm()?;
        Ok((!rotating).then_some(join_tokens))
    }

    /// Founds a swarm; this node's id in it. [`Self::lengthen_certificate`] is what is left to do.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses, as it does when this node is in a swarm.
    pub fn init_swarm(&self, init: &InitSwarm) -> Result<String, Error> {
        let body = json!({
            "ListenAddr": at(init.address),
            "AdvertiseAddr": at(init.address),
            "DataPathAddr": init.address.to_string(),
            "DefaultAddrPool": [pools::overlays(&init.taken).to_string()],
            "SubnetSize": pools::NETWORK_PREFIX,
            "ForceNewCluster": init.force_new,
            "Spec": { "CAConfig": { "NodeCertExpiry": CERTIFICATE.as_nanos() as u64 } },
        });
        let doing = "founding a swarm";
        parse(doing, &self.call(doing, "POST", "/swarm/init", Some(&body), CALL)?)
    }

    /// Gives the founder a certificate for as long as all others get one, where it has none; whether it is done.
    ///
    /// The engine issues a founder's first certificate for ninety days, before it looks at what it was asked for, and renews it after
    /// half of that. Switched off for longer, a lab of one could never start again. So the swarm's authority is exchanged once, while
    /// there is nobody else: that takes some seconds in the background and can be asked again after a power cut.
    ///
    /// # Errors
    ///
    /// As for [`Self::update_swarm`].
    pub fn lengthen_certificate(&self) -> Result<bool, Error> {
        const EXCHANGES: &str = "ForceRotate";

        let Swarm { rotating, spec, .. } = self.swarm()?;
        if rotating {
            return Ok(false);
        }
        if spec["CAConfig"][EXCHANGES].as_u64().unwrap_or(0) > 0 || self.nodes()?.len() > 1 {
            return Ok(true);
        }
        self.update_swarm(|spec| spec["CAConfig"][EXCHANGES] = json!(1)).map(|_| false)
    }

    /// Joins a swarm and waits, `limit` at most, until it is in; what the node is then. It goes on by itself where it is
    /// [`SwarmState::Pending`] by then.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses, as for a wrong token, or when this node is in a swarm.
    pub fn join_swarm(&self, join: &JoinSwarm, limit: Duration) -> Result<SwarmState, Error> {
        let until = Instant::now() + limit;
        let body = json!({
            "ListenAddr": at(join.address),
            "AdvertiseAddr": at(join.address),
            "DataPathAddr": join.address.to_string(),
            "RemoteAddrs": join.managers.iter().copied().map(at).collect::<Vec<_>>(),
            "JoinToken": join.token,
        });
        let asked = self.call("joining a swarm", "POST", "/swarm/join", Some(&body), CALL);
        loop {
            let state = self.swarm_state()?;
            // Where the engine says that it did not wait any longer, it goes on: that is no failure.
            let pending = matches!(state, SwarmState::Pending { .. });
            if !pending || Instant::now() >= until {
                return if state.is_active() || pending { Ok(state) } else { asked.map(|_| state) };
            }
            thread::sleep(PAUSE);
        }
    }

    /// Leaves the swarm, whatever the others say. A node that is in none has left.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses.
    pub fn leave_swarm(&self) -> Result<(), Error> {
        match self.call("leaving the swarm", "POST", "/swarm/leave?force=true", None, CALL) {
            Err(error) if error.is_refusal(503) && self.swarm_state()? == SwarmState::None => Ok(()),
            left => left.map(|_| ()),
        }
    }

    /// Changes what the swarm is asked to be; whether there was something to change.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses, or others change it all the time.
    pub fn update_swarm(&self, change: impl Fn(&mut Value)) -> Result<bool, Error> {
        retried(|| {
            let Swarm { version, mut spec, .. } = self.swarm()?;
            let before = spec.clone();
            change(&mut spec);
            if spec == before {
                return Ok(false);
            }
            let path = format!("/swarm/update?version={}", version.index);
            self.post("changing the swarm", &path, Some(&spec)).map(|_| true)
        })
    }

    /// Makes both tokens worthless and gives the new ones, as after a member was removed.
    ///
    /// # Errors
    ///
    /// As for [`Self::update_swarm`].
    pub fn rotate_tokens(&self) -> Result<JoinTokens, Error> {
        retried(|| {
            let Swarm { version, spec, .. } = self.swarm()?;
            let rotate = "rotateWorkerToken=true&rotateManagerToken=true";
            let path = format!("/swarm/update?version={}&{rotate}", version.index);
            self.post("changing the swarm's tokens", &path, Some(&spec)).map(|_| ())
        })?;
        Ok(self.swarm()?.join_tokens)
    }
}

/// Does it again where somebody else changed the same object in between.
pub(super) fn retried<T>(mut change: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match change() {
            Err(Error::Refused { message, .. }) if message.contains("out of sequence") && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(info: Value) -> SwarmState {
        SwarmState::of(serde_json::from_value(info).unwrap())
    }

    #[test]
    fn states() {
        let node =
            json!({"NodeID": "n", "LocalNodeState": "active", "ControlAvailable": true, "Error": "", "RemoteManagers": null});
        let with = |key: &str, value: Value| {
            let mut node = node.clone();
            node[key] = value;
            state(node)
        };
        let manager = |swarm_id: Option<&str>, trouble: Option<&str>| SwarmState::Manager {
            node_id: "n".to_owned(),
            swarm_id: swarm_id.map(str::to_owned),
            trouble: trouble.map(str::to_owned),
        };
        assert_eq!(with("Cluster", json!({"ID": "c"})), manager(Some("c"), None));
        assert_eq!(with("Error", json!("rpc error:\n no leader")), manager(None, Some("rpc error: no leader")));
        assert_eq!(with("LocalNodeState", json!("pending")), SwarmState::Pending { manager: true });
        assert_eq!(with("LocalNodeState", json!("locked")), SwarmState::Locked);
        assert_eq!(with("LocalNodeState", json!("inactive")), SwarmState::None);
        assert_eq!(with("LocalNodeState", json!("error")), SwarmState::Error(String::new()));
        let managers = json!([{"NodeID": "m", "Addr": "192.168.200.10:2377"}]);
        let worker = json!({"NodeID": "n", "LocalNodeState": "active", "ControlAvailable": false, "RemoteManagers": managers});
        let known = vec!["192.168.200.10:2377".to_owned()];
        assert_eq!(state(worker), SwarmState::Worker { node_id: "n".to_owned(), managers: known });
    }

    #[test]
    fn a_change_that_comes_second_is_made_again() {
        let refusal = || Error::Refused { doing: String::new(), status: 500, message: "update out of sequence".to_owned() };
        let mut tries = 0;
        let done = retried(|| {
            tries += 1;
            if tries < 3 { Err(refusal()) } else { Ok(tries) }
        });
        assert_eq!(done.unwrap(), 3);
        let mut tries = 0;
        let done = retried(|| {
            tries += 1;
            Err::<(), _>(refusal())
        });
        assert!(done.is_err() && tries == TRIES, "not for ever");
    }

    #[test]
    fn tokens_are_not_shown() {
        let tokens = JoinTokens { worker: "SWMTKN-1-w".to_owned(), manager: "SWMTKN-1-m".to_owned() };
        assert_eq!(format!("{tokens:?}"), "JoinTokens");
        let join = JoinSwarm { address: Ipv4Addr::LOCALHOST, managers: Vec::new(), token: tokens.worker };
        assert!(!format!("{join:?}").contains("SWMTKN"));
    }
}
