//! `hcl recover`: a node goes on alone, after the servers of its cluster are gone for good.
//!
//! ```text
//!  hcl recover:  look ─► plan ─► a person agrees ─► both programs end ─► Recovering, kept ─► the record of a new founding ─► both start
//!  hcl-firstboot:  leads by right of that record, once it has heard nobody who leads
//!  hcl-cluster:    Recovering ─► Consul alone or anew, the swarm alone or left ─► Founding, as after any founding
//! ```
//!
//! [`plan`] says what becomes of it or why this is not the cure. The new founding says which one it replaces, and is later: whoever
//! belonged to that one joins, a leader that comes back as well, so that there are never two. Each step may be done twice, and is where
//! the power went.

use super::kept::{Kept, Progress};
use crate::{
    engine::{Engine, Error, InitSwarm, SwarmState},
    identity::NodeId,
    record::{Ledger, MemberEntry, Membership, Record},
    status::Status,
};

/// How long somebody must have been silent to be gone, and this node have looked, in milliseconds.
const SILENCE_MS: u64 = 60_000;

/// What is seen before anything is done.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the node remembers.
    pub record: Record,
    /// The status of hcl-firstboot, which runs.
    pub status: Status,
    /// Milliseconds since the boot.
    pub uptime_ms: u64,
    /// How far the services came.
    pub kept: Kept,
    /// The engine's place in a swarm; none where it does not answer.
    pub swarm: Option<SwarmState>,
    /// The swarm's managers are a majority, as this one has it.
    pub swarm_led: bool,
    /// Consul on this node has what servers keep.
    pub consul_state: bool,
    /// Consul's servers have a leader.
    pub consul_led: bool,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The place in the cluster that is founded.
    pub membership: Membership,
    /// How far the services are in it.
    pub kept: Kept,
    /// What stays and what is lost, a line each.
    pub lines: Vec<String>,
}

/// What becomes of the node, with an incarnation of `random` bytes.
///
/// # Errors
///
/// Why this is not the cure, and what is.
pub fn plan(facts: &Facts, random: [u8; 16]) -> Result<Recovery, String> {
    let Facts { record, status, .. } = facts;
    let membership = record.membership.as_ref().filter(|membership| membership.address.is_some());
    let Some(membership) = membership else {
        return Err("this node belongs to no cluster yet: it joins or founds one by itself".into());
    };
    refuse(facts)?;
    let own = membership.address.map(|address| {
        let name = super::place::own_name(status);
        MemberEntry { node: record.node, address, name }
    });
    // Those that are there keep their addresses. Who is gone does not count as a member that is missed for ever.
    let here = super::place::members(status).into_iter().filter(|member| is_here(facts, member.node));
    let mut ledger = Ledger::default();
    own.into_iter().chain(here).for_each(|member| ledger.add(member));
    let incarnation = membership.incarnation.later(random);
    let lines = lines(facts);
    Ok(Recovery {
        membership: Membership {
            incarnation,
            provisional: false,
            ledger: Some(ledger),
            granted: None,
            replaces: Some(membership.incarnation),
            ..membership.clone()
        },
        kept: Kept { progress: Progress::Recovering, alone: true, ..Kept::new(incarnation, record.node) },
        lines,
    })
}

fn refuse(facts: &Facts) -> Result<(), String> {
    let Facts { record, status, uptime_ms, kept, swarm, swarm_led, consul_led, .. } = facts;
    let (leads, wait) = (status.role == "leader", "wait a minute, and try again");
    let young = |at: u64| uptime_ms.saturating_sub(at) < SILENCE_MS;
    let heard = |at: Option<u64>| at.is_some_and(young);
    if !status.is_ready() {
        return Err(format!("the network is not ready ({}): the others cannot be heard", status.reason));
    }
    if status.phase == "dormant" {
        return Err(format!("this node stands back for another cluster of the same key: {}", status.phase_reason));
    }
    if let Some(leader) = status.leader.as_ref().filter(|leader| !leads && heard(leader.heard_uptime_ms)) {
        return Err(format!(
            "{} leads, and was heard in the last minute: `sudo hcl health` says what is wrong here",
            leader.name
        ));
    }
    if swarm.is_none() {
        return Err("the engine does not answer: `sudo systemctl restart docker`".to_owned());
    }
    let others = || kept.servers.iter().filter(|server| server.node != record.node);
    if leads {
        let lost = matches!(swarm, Some(SwarmState::None)) && matches!(kept.progress, Progress::Founding { swarm: true, .. });
        let alone = others().count() == 0;
        return match () {
            // A recovery that was cut short is done again.
            () if kept.progress == Progress::Recovering => Ok(()),
            () if (lost || !swarm_led) && alone => Ok(()),
            () if lost || !swarm_led => {
                Err("this node leads, and other servers are there, with the swarm's state: see `docker node ls` on them"
                    .to_owned())
            }
            () => Err("this node leads, and nothing of the cluster is lost".to_owned()),
        };
    }
    if young(status.phase_since_uptime_ms) {
        return Err(format!("this node has only just begun to look for the others: {wait}"));
    }
    if *consul_led || *swarm_led {
        let what = if *consul_led { "Consul's servers" } else { "the swarm's managers" };
        return Err(format!("{what} are a majority and have a leader: the role comes back by itself, {wait}"));
    }
    if let Some(server) = others().find(|server| is_here(facts, server.node)) {
        return Err(format!(
            "the server at {}, which has the cluster's state, is there: `sudo hcl health` on it says what is wrong",
            server.address
        ));
    }
    Ok(())
}

/// Whether another member was heard in the last minute.
fn is_here(facts: &Facts, node: NodeId) -> bool {
    let member = facts.status.members.iter().find(|member| member.node == node.to_string());
    let heard = member.and_then(|member| member.heard_uptime_ms);
    heard.is_some_and(|at| facts.uptime_ms.saturating_sub(at) < SILENCE_MS)
}

fn lines(facts: &Facts) -> Vec<String> {
    let swarm = match facts.swarm.as_ref().is_some_and(keeps) {
        true => "swarm: services, networks, secrets and configs stay, as this manager has them; other managers are struck off",
        false => "swarm: its services, overlay networks, secrets and configs are LOST; containers and volumes on this node stay",
    };
    let consul = match facts.consul_state {
        true => "Consul: its keys and tokens stay, as this server has them; what only others had confirmed is LOST",
        false => "Consul: all its keys are LOST, and with them which users were removed: `hcl user remove` them again",
    };
    let others = "other nodes: whoever belongs to the cluster as it was joins this one, now or when it comes back, and LOSES its part of swarm and Consul";
    vec![swarm.to_owned(), consul.to_owned(), others.to_owned()]
}

/// Whether a swarm of one can be made of what the engine has. A manager that was started without the others is on its way for ever.
fn keeps(state: &SwarmState) -> bool {
    matches!(state, SwarmState::Manager { .. } | SwarmState::Pending { manager: true })
}

/// Whether a manager waits for a majority: it was started without one, or has lost it while it ran.
pub(super) fn has_no_majority(state: &SwarmState) -> bool {
    matches!(state, SwarmState::Pending { manager: true } | SwarmState::Manager { swarm_id: None, .. })
}

/// Makes a swarm of one of what this manager has, where it still has no majority. It never leaves.
///
/// # Errors
///
/// The engine does not answer, or refuses.
pub fn swarm_alone(engine: &Engine, alone: &InitSwarm) -> Result<(), Error> {
    // What was seen may be half a minute old.
    if !has_no_majority(&engine.swarm_state()?) {
        return Ok(());
    }
    engine.init_swarm(&InitSwarm { force_new: true, ..alone.clone() }).map(|_| ())
}

/// Makes a swarm of one of what this engine has as a manager, or leaves it; whether it is in one. `alone` says where.
///
/// # Errors
///
/// The engine does not answer, or refuses.
pub fn swarm(engine: &Engine, alone: &InitSwarm) -> Result<bool, Error> {
    let state = engine.swarm_state()?;
    if keeps(&state) {
        return engine.init_swarm(&InitSwarm { force_new: true, ..alone.clone() }).map(|_| true);
    }
    engine.leave_swarm().map(|()| false)
}

#[cfg(test)]
mod tests;
