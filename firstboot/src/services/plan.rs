//! What to do next: a pure function of what is kept and what is seen.
//!
//! One step at a time; after each of them everything is looked at again. A step that fails is tried again with the same facts, so each
//! of them may be done twice.
//!
//! ```text
//!              leads, nothing kept                        follows, nothing kept
//! None ─┬────────────────────────────► InitSwarm   None ────────────────────────► Ask ──► JoinSwarm
//!       │                                  │                                                  │
//!       │                              StartConsul (bootstrap, once)                  StartConsul (client)
//!       │                                  │                                                  │
//!       │                              BootstrapConsul                                     Settled ──► told to serve:
//!       │                                  │                                                           StartConsul (server)
//!       └─ another incarnation,
//!          or node: Wipe          Settled
//! ```

use std::net::Ipv4Addr;

use super::kept::{Kept, Progress};
use crate::{
    engine::SwarmState,
    identity::{Incarnation, NodeId},
};

/// What is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The node's place in the network; none while it has none.
    pub place: Option<Place>,
    /// The engine.
    pub engine: Engine,
    /// Consul's container on this node.
    pub consul: Consul,
    /// Whether this node has the data of a Consul server.
    pub data: bool,
    /// Whether the leader has said that Consul's servers do not count this node, or not any more.
    pub cleared: bool,
    /// What the leader answered when it was asked to take this node in.
    pub answer: Option<Answer>,
    /// Whether this node is to be a server, as the leader last said.
    pub serve: Option<bool>,
    /// Whether its engine, a manager, has waited for a majority of the managers for so long that none comes by itself, on the network.
    pub stranded: bool,
    /// Whether its engine has given up coming back to the swarm, for a while, and the leader is in it.
    pub gave_up: bool,
}

/// A node's place in the network, as `hcl-firstboot` keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The founding.
    pub incarnation: Incarnation,
    /// Which node this is.
    pub node: NodeId,
    /// Its own address.
    pub address: Ipv4Addr,
    /// Whether it leads.
    pub leads: bool,
    /// Where the leader is to be asked, if another node leads.
    pub leader: Option<Ipv4Addr>,
}

/// The engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// It does not answer.
    Down,
    /// It does.
    Up(Swarm),
}

/// The engine's place in a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swarm {
    /// In none.
    None,
    /// On its way, or at odds with it.
    Pending,
    /// In one.
    In,
}

impl From<&SwarmState> for Swarm {
    fn from(state: &SwarmState) -> Self {
        match state {
            SwarmState::None => Self::None,
            SwarmState::Worker { .. } | SwarmState::Manager { .. } => Self::In,
            SwarmState::Pending { .. } | SwarmState::Error(_) | SwarmState::Locked => Self::Pending,
        }
    }
}

/// Consul on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consul {
    /// It does not run as wanted.
    Down,
    /// It runs.
    Up {
        /// As a server.
        server: bool,
        /// It knows a leader of Consul's.
        led: bool,
        /// It lets the node's agent in: the tokens are made.
        tokens: bool,
    },
}

/// What the leader told a node that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The token of workers, for `docker swarm join`.
    pub token: String,
    /// The managers of the swarm.
    pub managers: Vec<Ipv4Addr>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be done before something else happens: what.
    Wait(&'static str),
    /// Forget the cluster that is no more: leave the swarm, remove Consul and its data, keep nothing.
    Wipe,
    /// Go on alone: Consul and the swarm of what this node has of them, or without.
    Recover,
    /// Keep this.
    Keep(Progress),
    /// `docker swarm init`.
    InitSwarm,
    /// Make the swarm this one manager's again. A cut while its second manager was made has left two that wait for each other: one
    /// needs the other's vote, which needs a leader to learn what it votes about. All that was ever confirmed is here, since one of
    /// two is no majority.
    SwarmAlone,
    /// Start the engine anew. One that meets a swarm without a majority as it starts gives up, and does not try again.
    RestartEngine,
    /// Ask the leader to be taken in.
    Ask(Ipv4Addr),
    /// `docker swarm join`.
    JoinSwarm {
        /// The token of workers.
        token: String,
        /// Whom to join.
        managers: Vec<Ipv4Addr>,
    },
    /// Write Consul's configuration and have it run.
    StartConsul {
        /// As a server.
        server: bool,
        /// As the first one, which elects itself.
        bootstrap: bool,
    },
    /// Have the leader make sure that Consul's servers do not count this node. A server without its data that comes back as itself would
    /// vote again as if it had not voted.
    ClearVote,
    /// Make Consul's policies and tokens.
    BootstrapConsul,
    /// The node is in, as it should be.
    Settled,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wait(what) => write!(f, "waiting for {what}"),
            Self::Wipe => f.write_str("forgetting the cluster that is no more"),
            Self::Recover => f.write_str("going on alone, as `hcl recover` decided"),
            Self::Keep(_) => f.write_str("writing down how far it came"),
            Self::InitSwarm => f.write_str("founding the swarm"),
            Self::SwarmAlone => {
                f.write_str("making the swarm one manager's again, since the power went while its second one was made")
            }
            Self::RestartEngine => f.write_str("starting the engine anew, which has given up coming back to the swarm"),
            Self::Ask(leader) => write!(f, "asking the leader at {leader} to be taken in"),
            Self::JoinSwarm { .. } => f.write_str("joining the swarm"),
            Self::StartConsul { server: true, .. } => f.write_str("starting Consul, a server"),
            Self::StartConsul { server: false, .. } => f.write_str("starting Consul"),
            Self::ClearVote => f.write_str("asking the leader to take back the vote of a Consul server without data"),
            Self::BootstrapConsul => f.write_str("making Consul's tokens"),
            Self::Settled => f.write_str("in, as it should be"),
        }
    }
}

/// What to do next.
pub fn next(kept: &Kept, seen: &Seen) -> Step {
    let Some(place) = &seen.place else { return Step::Wait("the network") };
    // This card is a copy, and its services are the original's.
    if kept.node.is_some_and(|kept| kept != place.node) {
        return Step::Wipe;
    }
    if kept.incarnation.is_some_and(|kept| kept != place.incarnation) {
        // What was to go on is not to be forgotten.
        let cut = kept.progress == Progress::Recovering;
        return if cut { Step::Wait("`sudo hcl recover` once more: it was cut short") } else { Step::Wipe };
    }
    let Engine::Up(swarm) = seen.engine else { return Step::Wait("the engine") };
    match kept.progress {
        Progress::Recovering if place.leads => Step::Recover,
        Progress::Recovering => Step::Wait("the leader's role"),
        Progress::None if place.leads => Step::Keep(Progress::Founding { swarm: false, consul: false }),
        Progress::None => join(place, seen, swarm, false),
        Progress::Founding { .. } | Progress::Joined { .. } if kept.pairing && seen.stranded => Step::SwarmAlone,
        Progress::Founding { .. } | Progress::Joined { .. } if seen.gave_up => Step::RestartEngine,
        Progress::Founding { swarm: done, consul } => found(place, seen, swarm, done, consul),
        Progress::Joined { server } => {
            match (seen.serve, swarm) {
                (Some(serve), _) if serve != server => Step::Keep(Progress::Joined { server: serve }),
                // Its part of the swarm is lost: the card was written anew, or a manager removed it.
                (_, Swarm::None) => join(place, seen, swarm, server),
                _ => run_consul(seen, server),
            }
        }
    }
}

fn found(place: &Place, seen: &Seen, swarm: Swarm, initialised: bool, bootstrapped: bool) -> Step {
    match swarm {
        // Others went on with it, and one of them leads.
        Swarm::None if initialised && place.leader.is_some() => return join(place, seen, swarm, true),
        Swarm::None if initialised => return Step::Wait("`sudo hcl recover`: the swarm's state on this card is lost"),
        Swarm::None => return Step::InitSwarm,
        Swarm::Pending => return Step::Wait("the swarm"),
        // Initialised, and the power went before that was kept.
        Swarm::In if !initialised => return Step::Keep(Progress::Founding { swarm: true, consul: bootstrapped }),
        Swarm::In => {}
    }
    match seen.consul {
        Consul::Up { server: true, led: false, .. } => Step::Wait("Consul's election"),
        Consul::Up { server: true, led: true, tokens: false } => Step::BootstrapConsul,
        Consul::Up { server: true, .. } if bootstrapped => Step::Settled,
        Consul::Up { server: true, .. } => Step::Keep(Progress::Founding { swarm: true, consul: true }),
        Consul::Up { server: false, .. } | Consul::Down if !bootstrapped => Step::StartConsul { server: true, bootstrap: true },
        Consul::Up { server: false, .. } | Consul::Down if !seen.data && !seen.cleared && place.leader.is_none() => {
            Step::Wait("`sudo hcl recover`, or a leader: Consul's data on this card are lost")
        }
        Consul::Up { server: false, .. } | Consul::Down => start(seen, true),
    }
}

fn join(place: &Place, seen: &Seen, swarm: Swarm, server: bool) -> Step {
    match (swarm, &seen.answer) {
        // What is kept may be lost, and the server's data not: without it nobody could lead.
        (Swarm::In, _) => {
            let serves = seen.data && matches!(seen.consul, Consul::Up { server: true, .. });
            Step::Keep(Progress::Joined { server: server || serves })
        }
        (Swarm::Pending, _) => Step::Wait("the swarm"),
        (Swarm::None, Some(answer)) => Step::JoinSwarm { token: answer.token.clone(), managers: answer.managers.clone() },
        (Swarm::None, None) => place.leader.map_or(Step::Wait("a leader"), Step::Ask),
    }
}

fn run_consul(seen: &Seen, server: bool) -> Step {
    match seen.consul {
        Consul::Up { server: runs, .. } if runs != server => start(seen, server),
        Consul::Down => start(seen, server),
        Consul::Up { led: false, .. } => Step::Wait("Consul's servers"),
        Consul::Up { .. } => Step::Settled,
    }
}

/// A member's Consul, or that of a server that there is already.
fn start(seen: &Seen, server: bool) -> Step {
    if server && !seen.data && !seen.cleared { Step::ClearVote } else { Step::StartConsul { server, bootstrap: false } }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
