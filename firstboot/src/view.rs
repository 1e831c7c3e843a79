//! The cluster at a glance: what the page shows, as JSON.
//!
//! A [`View`] is what one node knows of all at one moment. The supervisor fills it; [`consul`] adds what Consul's gossip says of
//! who is there; [`problems`] says what is wrong with it in plain words. Everything in it may be read by strangers on the home
//! network: no secret, no token, no environment of a container belongs here.
//!
//! Bytes are bytes, times milliseconds or seconds as the name says, temperatures degrees Celsius. Fields are only ever added.

pub mod consul;
#[cfg(target_os = "linux")]
pub mod host;
pub mod problems;

use serde::{Deserialize, Serialize};

pub use crate::consul::catalog::Gossip;

/// The cluster at one moment, as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// The cluster's name.
    pub cluster: String,
    /// The id of its key: eight hexadecimal digits, as in its announcement.
    pub id: String,
    /// The host name of the leader; none where none is known.
    pub leader: Option<String>,
    /// The host name of the node that answers.
    pub served_by: String,
    /// How old all this was when it was sent, in milliseconds; the page's server says so, not the supervisor.
    pub age_ms: u64,
    /// The members, by name.
    pub nodes: Vec<Node>,
    /// The users' services, by name.
    pub services: Vec<Service>,
    /// What is wrong, the worst first.
    pub problems: Vec<Problem>,
}

/// What a member is to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It has the leader's address, and lends addresses.
    Leader,
    /// It keeps the cluster's state: a Consul server and swarm manager.
    Server,
    /// It runs containers.
    #[default]
    #[serde(other)]
    Member,
}

/// How a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All of it runs.
    Ready,
    /// It was there and does not answer.
    Silent,
    /// It left, or was away for so long that nobody waits for it.
    Gone,
    /// It is there, and something in it is not up yet.
    #[default]
    #[serde(other)]
    Starting,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// The host name.
    pub name: String,
    /// The node's id: 32 hexadecimal digits; empty where it is not known.
    pub id: String,
    /// The address in the cluster.
    pub address: String,
    /// What it is to the others.
    pub role: Role,
    /// How it is.
    pub state: State,
    /// When it was last heard; 0 for the node that answers, none: never since that one started.
    pub heard_ms_ago: Option<u64>,
    /// Seconds since its boot; none where it has not said.
    pub uptime_s: Option<u64>,
    /// What its programs are compiled for, in the engine's words: `arm`, `arm64`, `amd64`.
    pub arch: String,
    /// The board, such as `Raspberry Pi 3 Model B Rev 1.2`; empty where it does not say.
    pub board: String,
    /// Main memory; none where it has not said.
    pub memory: Option<Memory>,
    /// Processes that want to run, as a mean of one minute (`/proc/loadavg`).
    pub load: Option<f32>,
    /// Processors.
    pub processors: Option<u32>,
    /// The hottest of the processor's sensors; none on a board without one.
    pub temperature_c: Option<f32>,
    /// The root file system; none where it has not said.
    pub card: Option<Card>,
    /// Its container engine.
    pub engine: Engine,
    /// Its Consul agent.
    pub consul: Consul,
    /// Its place in the swarm.
    pub swarm: Swarm,
    /// What it looked at by itself.
    pub checks: Vec<Check>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it that the kernel has.
    pub total: u64,
    /// What programs can still have without swapping (`MemAvailable`).
    pub available: u64,
}

/// A file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its size.
    pub total: u64,
    /// What a user's program can still write.
    pub free: u64,
}

/// A container engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Engine {
    /// Its version, such as `26.1.5`; empty where it is not known.
    pub version: String,
    /// `running`, `starting`, `down`; empty where it is not known.
    pub state: String,
    /// Its containers, ours included.
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Its name, without the slash.
    pub name: String,
    /// Its image, as it was asked for; of a digest the first digits, see [`image`].
    pub image: String,
    /// The engine's word: `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub state: String,
    /// The engine's sentence, such as `Up 3 hours`.
    pub status: String,
    /// Whether it belongs to the cluster itself (label `hcl.system`).
    pub system: bool,
    /// The TCP ports at which its node answers for it.
    pub ports: Vec<u16>,
}

/// A Consul agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Consul {
    /// What the gossip says of it.
    pub state: Gossip,
    /// Whether it is a server.
    pub server: bool,
    /// Whether it leads the servers.
    pub leader: bool,
}

/// A place in the swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swarm {
    /// The managers' word: `ready`, `down`, `disconnected`; or `inactive`, where it is in none; empty where it is not known.
    pub state: String,
    /// `manager` or `worker`; empty where it is not known.
    pub role: String,
    /// Whether it leads the managers.
    pub leader: bool,
}

/// What a node looked at, as `hcl health` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at: one word.
    pub name: String,
    /// Whether it is as it should be.
    pub pass: bool,
    /// What was found, and, where it is wrong, what to do.
    pub line: String,
}

/// A user's service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its image; of a digest the first digits, see [`image`].
    pub image: String,
    /// How many of its tasks run.
    pub running: u64,
    /// How many should.
    pub wanted: u64,
    /// The TCP ports at which every node answers for it.
    pub ports: Vec<u16>,
}

/// Something that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Where; none where it is the cluster's.
    pub node: Option<String>,
    /// What is wrong: one sentence in plain words.
    pub text: String,
    /// What a person can do: one sentence; empty where only waiting helps.
    pub fix: String,
}

/// An image's reference as people read it: of a digest the first twelve digits, as the engine's own lists have ids.
pub fn image(reference: &str) -> String {
    const SHORT: usize = 12;
    let Some((before, digest)) = reference.rsplit_once("sha256:") else { return reference.to_owned() };
    format!("{before}sha256:{}", digest.chars().take(SHORT).collect::<String>())
}

impl View {
    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the page reads. A field that changes its name here changes it for every reader.
    #[test]
    fn the_contract() {
        let text = r#"{"cluster":"lab","id":"0a1b2c3d","leader":"node-a","served_by":"node-b","age_ms":120,"nodes":[{
            "name":"node-a","id":"00112233445566778899aabbccddeeff","address":"192.168.200.10","role":"leader","state":"ready",
            "heard_ms_ago":900,"uptime_s":61,"arch":"arm","board":"Raspberry Pi 3 Model B Rev 1.2",
            "memory":{"total":969000000,"available":500000000},"load":0.25,"processors":4,"temperature_c":48.5,
            "card":{"total":31000000000,"free":28000000000},
            "engine":{"version":"26.1.5","state":"running","containers":[
                {"name":"hcl-consul","image":"hcl/consul:1.8.7","state":"running","status":"Up 2 minutes","system":true,"ports":[8501]}]},
            "consul":{"state":"alive","server":true,"leader":true},
            "swarm":{"state":"ready","role":"manager","leader":true},
            "checks":[{"name":"lease","pass":true,"line":"the lease is fresh"}]}],
            "services":[{"name":"web","image":"web:1","running":2,"wanted":3,"ports":[8080]}],
            "problems":[{"node":null,"text":"web runs 2 of 3 times.","fix":"Look at it."}]}"#;
        let view: View = serde_json::from_str(text).unwrap();
        let expected: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&view).unwrap(), expected);
        assert_eq!(view.node("node-a").map(|node| node.role), Some(Role::Leader));
    }

    #[test]
    fn digests_are_short() {
        let digest = "sha256:3c4c843a3aff9b7d2846f1a9c0e5b7d28463f9a1c0e5b7d2846f1a9c0e5b7d28";
        for (reference, expected) in [
            ("web:1".to_owned(), "web:1"),
            (format!("lab.local:5000/web:1@{digest}"), "lab.local:5000/web:1@sha256:3c4c843a3aff"),
            (digest.to_owned(), "sha256:3c4c843a3aff"),
        ] {
            assert_eq!(image(&reference), expected);
        }
    }

    #[test]
    fn what_a_later_version_says_can_be_read() {
        let view: View =
            serde_json::from_str(r#"{"nodes":[{"name":"a","role":"witness","consul":{"state":"new"},"new":1}],"new":[]}"#)
                .unwrap();
        assert_eq!((view.nodes[0].role, view.nodes[0].consul.state), (Role::Member, Gossip::Unknown));
    }
}
