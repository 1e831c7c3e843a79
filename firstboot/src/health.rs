//! `hcl health`: whether this node is as it should be, a line for each thing that can be wrong.
//!
//! [`checks`] judges [`Facts`] and touches nothing. The facts come from the kernel and from files where these know better than the
//! program: a status that is wrong must not pass for a node that is right. A line that fails says what a person can do.

pub mod endpoint;
mod facts;
pub mod services;

use std::{
    io,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use serde::Serialize;

pub use self::facts::Facts;
use crate::{
    driver::Options,
    link::{Link, LinkKind},
    node::cluster::LEADER_SILENCE,
    status::{Status, duration},
};

/// How long after a change of its state a node may still be doing what goes with it: it tells first and does then, the card may be
/// slow, and a new leader probes its own address once it leads.
const SETTLING_MS: u64 = 5_000;
/// How long one change may follow the other: from the start of the program to the leader of a new cluster.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at a node that settles.
const PAUSE: Duration = Duration::from_millis(100);

/// The program does not run, and no reason is known here.
pub const NOT_RUNNING: &str =
    "hcl-firstboot is not running: `hcl log` and `systemctl status hcl-firstboot` say why, `sudo hcl start` starts it";
/// What makes the program do all of it again, and keeps the network.
const RESTART: &str = "`sudo systemctl restart hcl-firstboot`";
/// What takes everything away and does it again.
const AFRESH: &str = "`sudo hcl stop && sudo hcl start`";

/// How one check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: one word.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub pass: bool,
    /// What was found, and, where it is wrong, what to do.
    pub line: String,
}

impl Check {
    /// A check that passes with the one line or fails with the other.
    pub fn new(name: &'static str, found: Result<String, String>) -> Self {
        let pass = found.is_ok();
        Self { name, pass, line: found.unwrap_or_else(|wrong| wrong) }
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}", if self.pass { "PASS" } else { "FAIL" }, self.line)
    }
}

/// What passes, and what is wrong with what to do.
type Found = Result<String, String>;

/// Judges the facts of a program that runs.
type Judge = fn(&Facts, &Status) -> Found;

/// The check that stands for the program itself.
const PROGRAM: &str = "program";

/// All others. Each is independent of the ones before.
const CHECKS: [(&str, Judge); 13] = [
    ("interface", interface),
    ("vlan", vlan),
    ("address", address),
    ("leader", leader),
    ("lease", lease),
    ("room", room),
    ("hosts", hosts),
    ("guard", guard),
    ("members", members),
    ("ipv6", ipv6),
    ("state", state),
    ("kernel", kernel),
    ("complaints", complaints),
];

/// Looks at the machine and judges it. While a node settles a fault may be over at once: then it looks again, for 15 s at most.
///
/// # Errors
///
/// The status cannot be read, or the kernel gives no lists.
pub fn look(options: &Options) -> io::Result<(Facts, Vec<Check>)> {
    let until = Instant::now() + PATIENCE;
    loop {
        let facts = Facts::gather(options)?;
        let checks = checks(&facts);
        if checks.iter().all(|check| check.pass) || !facts.settles() || Instant::now() >= until {
            return Ok((facts, checks));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Judges `facts`. Where the program does not run there is nothing else to judge.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let Some(status) = &facts.status else {
        let wrong = match &facts.config {
            Err(error) => format!("hcl-firstboot is not running: its configuration is wrong: {error}"),
            Ok(()) => NOT_RUNNING.to_owned(),
        };
        return vec![Check::new(PROGRAM, Err(wrong))];
    };
    let program = match &facts.config {
        Err(error) => Err(format!("hcl-firstboot runs, but would not start again: its configuration is wrong: {error}")),
        Ok(()) => Ok(format!("hcl-firstboot {} runs, process {}", status.version, status.pid)),
    };
    let others = CHECKS.iter().map(|(name, judge)| Check::new(name, judge(facts, status)));
    // A follower hears who is there; who belongs to the cluster says the leader's ledger.
    let members = facts.services.members().unwrap_or(0).max(status.members.len());
    let services = services::checks(&facts.services, facts.uptime_ms, members);
    // Only where something is wrong: a system without an SSH server lacks nothing.
    let host_key = facts.host_key.iter().map(|wrong| Check::new("host_key", Err(wrong.clone())));
    std::iter::once(Check::new(PROGRAM, program)).chain(others).chain(services).chain(host_key).collect()
}

impl Facts {
    fn named(&self, name: Option<&String>) -> Option<&Link> {
        self.links.iter().find(|link| Some(&link.name) == name)
    }

    fn cluster(&self, status: &Status) -> Option<&Link> {
        self.named(status.cluster_interface.as_ref())
    }

    /// Whether the node's state has just changed.
    fn settles(&self) -> bool {
        let changed = |status: &Status| status.since_uptime_ms.max(status.phase_since_uptime_ms);
        let program = self.status.as_ref().is_some_and(|status| self.uptime_ms.saturating_sub(changed(status)) < SETTLING_MS);
        program || self.services.settles(self.uptime_ms, SETTLING_MS)
    }
}

fn interface(facts: &Facts, status: &Status) -> Found {
    let Some(name) = &status.interface else {
        return Err(format!("no wired interface is in use ({}): plug in the cable or the adapter", status.reason));
    };
    match facts.named(Some(name)) {
        None => Err(format!("the wired interface {name} is gone: plug its adapter in again")),
        Some(link) if link.kind == LinkKind::Wireless => {
            Err(format!("{name} is wireless, and the cluster needs a cable: plug one in"))
        }
        Some(link) if !link.up => Err(format!("the wired interface {name} is set down: `sudo ip link set {name} up`")),
        Some(link) if !link.carrier => Err(format!("the wired interface {name} has no carrier: check cable and switch")),
        Some(_) => Ok(format!("the wired interface {name} has a carrier")),
    }
}

fn vlan(facts: &Facts, status: &Status) -> Found {
    let found = facts.cluster(status);
    let Some(id) = status.vlan else {
        return match found {
            Some(link) if status.cluster_interface == status.interface => {
                Ok(format!("the VLAN is off, as configured; the cluster uses {}", link.name))
            }
            _ => Err("the VLAN is off, as configured, and the cluster has no interface: it comes with the cable".to_owned()),
        };
    };
    let Some(link) = found else {
        return Err(match status.state.as_str() {
            // The reason says what to do.
            "faulted" => format!("VLAN {id} is not there: {}", status.reason),
            "ready" => format!("VLAN {id} is gone: the program makes it again; if not, {RESTART}"),
            _ => format!("VLAN {id} is not there yet: it comes with the cable"),
        });
    };
    let Link { name, kind, .. } = link;
    let parent = facts.named(status.interface.as_ref()).map(|link| link.index);
    match kind {
        LinkKind::Vlan { id: there, .. } if *there != id => {
            Err(format!("{name} is VLAN {there} and not {id}: `sudo ip link del {name}`, the program makes it again"))
        }
        LinkKind::Vlan { parent: below, .. } if parent.is_some_and(|parent| parent != *below) => Err(format!(
            "{name} is on another interface than the one in use: `sudo ip link del {name}`, the program makes it again"
        )),
        LinkKind::Vlan { .. } if !link.up => Err(format!("{name} is set down: `sudo ip link set {name} up`")),
        LinkKind::Vlan { .. } => Ok(format!("VLAN {id} is up as {name}")),
        other => Err(format!("{name} is no VLAN but {other}: give that another name, the program makes VLAN {id} then")),
    }
}

fn address(facts: &Facts, status: &Status) -> Found {
    let leader = facts.addresses.leader();
    let Some(Link { index, name, .. }) = facts.cluster(status) else {
        return Err("no address in the cluster: it comes with the network".to_owned());
    };
    let of_cluster = facts.assigned.iter().filter(|(on, address)| on == index && facts.addresses.subnet().contains(*address));
    let (leading, own): (Vec<Ipv4Addr>, Vec<Ipv4Addr>) =
        of_cluster.map(|(_, address)| *address).partition(|address| *address == leader);
    let leads = status.role == "leader";
    let own = match (&own[..], status.address) {
        ([own], Some(wanted)) if *own == wanted => *own,
        ([], Some(wanted)) => return Err(format!("{name} has lost {wanted}, the address of this node: {RESTART} sets it again")),
        ([], None) if leads => {
            return Err(format!("{name} has no address of its own yet: the node makes sure first that no other machine has it"));
        }
        ([], None) => return Err(format!("{name} has no address in the cluster: it comes with a leader")),
        ([own], _) => return Err(format!("{name} has {own}, which is not the address of this node: {AFRESH} takes it away")),
        (several, _) => {
            let all: Vec<_> = several.iter().map(ToString::to_string).collect();
            return Err(format!(
                "{name} has {} addresses in place of one ({}): {AFRESH} sets that right",
                all.len(),
                all.join(", ")
            ));
        }
    };
    match (leads, leading.is_empty()) {
        (true, true) => Err(format!("this node leads, but {name} lacks {leader}, the leader's address: {RESTART} sets it again")),
        (false, false) => {
            Err(format!("{name} has {leader}, the leader's address, but this node does not lead: {AFRESH} takes it away"))
        }
        (true, false) => Ok(format!("{name} has {own}, and {leader} as the leader")),
        (false, true) => Ok(format!("{name} has {own}, and no other address of the cluster")),
    }
}

fn leader(facts: &Facts, status: &Status) -> Found {
    let Some(leader) = &status.leader else {
        let (phase, reason) = (&status.phase, &status.phase_reason);
        let lasting = duration(facts.uptime_ms.saturating_sub(status.phase_since_uptime_ms));
        return Err(match phase.as_str() {
            _ if status.waits_for_grant => format!(
                "nobody leads, and this node, which led before, waits for the role's grant for {lasting}: Consul grants it once more than half of its servers run; `hcl log` and `docker ps` on the boards that were servers say more"
            ),
            "succeeding" => format!("no leader yet: this node is about to lead: {reason}"),
            "off" | "aside" | "dormant" => format!("no leader is known: {reason}"),
            _ => format!(
                "no leader is known, {phase} for {lasting} ({reason}): after a minute check power and cable of the other boards"
            ),
        });
    };
    if status.role == "leader" {
        return Ok(format!("this node leads, at {}", leader.address));
    }
    let name = format!("the leader {}, {},", leader.name, leader.address);
    match leader.heard_uptime_ms.map(|heard| facts.uptime_ms.saturating_sub(heard)) {
        Some(silent) if Duration::from_millis(silent) <= LEADER_SILENCE => {
            Ok(format!("{name} was heard {} ago", duration(silent)))
        }
        Some(silent) => Err(format!("{name} was not heard for {}: check its power, its cable and the switch", duration(silent))),
        None => Err(format!("{name} was not heard yet: check its power, its cable and the switch")),
    }
}

fn lease(facts: &Facts, status: &Status) -> Found {
    match (status.role.as_str(), &status.lease) {
        ("leader", _) if !facts.dhcp_port => {
            Err("this node leads, but its DHCP port is not held: end what has taken it (`sudo ss -lunp sport = :67`)".to_owned())
        }
        ("leader", _) => Ok("this node lends the cluster's addresses".to_owned()),
        ("follower", None) => Err(format!(
            "no lease ({}): check that the leader is up; the node keeps its address and goes on asking",
            status.phase_reason
        )),
        (_, None) => Err("no lease: it comes with a leader".to_owned()),
        (_, Some(lease)) if lease.ends_uptime_ms <= facts.uptime_ms => {
            let over = duration(facts.uptime_ms - lease.ends_uptime_ms);
            Err(format!(
                "the lease from {} ended {over} ago: check that the leader is up; the node keeps its address and goes on asking",
                lease.server
            ))
        }
        (_, Some(lease)) => {
            let left = duration(lease.ends_uptime_ms - facts.uptime_ms);
            Ok(format!("the lease from {} ends in {left}, and is renewed before", lease.server))
        }
    }
}

fn room(facts: &Facts, status: &Status) -> Found {
    let (subnet, range) = (facts.addresses.subnet(), facts.addresses.member_range());
    let all = (range.last() - range.first() + 1) as usize;
    let in_range = |address| subnet.contains(address) && range.contains(subnet.number(address));
    let used = status.members.iter().filter(|member| in_range(member.address)).count();
    match all.saturating_sub(used) {
        0 => Err(format!(
            "no address is left for another member, all {all} are used: widen `members` in /etc/hcl/node.toml, on every node the same"
        )),
        left => Ok(format!("{left} of {all} addresses are left for members")),
    }
}

fn hosts(facts: &Facts, status: &Status) -> Found {
    let wanted = facts.addresses.leader();
    let of_master = |line: &&str| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).any(|name| name == "master")
    };
    let there = facts.hosts.lines().find(of_master).and_then(|line| line.split_whitespace().next());
    match there {
        Some(address) if address == wanted.to_string() => Ok(format!("the hosts file has `master` at {wanted}")),
        Some(address) => {
            Err(format!("the hosts file has `master` at {address} and not {wanted}: take that line out of /etc/hosts"))
        }
        None if status.leader.is_none() => Err("the hosts file has no `master`: it comes with a leader".to_owned()),
        None => Err(format!("the hosts file has no `master`: {RESTART} writes it again")),
    }
}

fn guard(facts: &Facts, status: &Status) -> Found {
    // A node that stands aside has reasons of its own, and says them.
    let told = status.complaints.iter().find(|line| line.contains("the firewall does not keep"));
    let aside = (status.phase == "aside").then_some(&status.phase_reason);
    let cluster = facts.cluster(status).map(|link| link.index);
    let subnet = facts.addresses.subnet();
    // Nothing is dropped then: it would lock out the person who comes to change the subnet.
    let clash = facts.assigned.iter().find(|(on, address)| Some(*on) != cluster && subnet.contains(*address));
    match (&facts.guard, told.or(aside)) {
        (Ok(()), _) => Ok("the firewall keeps the cluster's subnet off other networks (table inet hcl)".to_owned()),
        (Err(_), Some(reason)) => Ok(format!("the firewall has no table inet hcl, for a reason: {reason}")),
        (Err(_), None) if cluster.is_none() => Err("the firewall has no table inet hcl: it comes with the network".to_owned()),
        (Err(reason), None) => Err(match clash {
            Some((_, address)) => format!(
                "the firewall keeps nothing off, since this machine has {address} of the cluster's subnet on another network: change `subnet` in /etc/hcl/node.toml, on every node the same"
            ),
            None => {
                format!(
                    "the firewall does not keep the cluster's subnet off other networks ({reason}): {RESTART} sets that right"
                )
            }
        }),
    }
}

fn members(facts: &Facts, status: &Status) -> Found {
    let admitted = facts.admitted.as_ref().map_err(|reason| {
        format!("the firewall does not keep others off what members have among themselves ({reason}): {RESTART} sets that right")
    })?;
    // Before it is in, a node lets in whom it let in last, or nobody.
    if !matches!(status.phase.as_str(), "following" | "succeeding" | "leading" | "dormant") {
        return Ok("the firewall keeps others off what members have among themselves (table inet hcl_members)".to_owned());
    }
    let wanted = status.members.iter().map(|member| member.address).chain([facts.addresses.leader()]).collect();
    let names = |all: Vec<&Ipv4Addr>| all.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (names(admitted.difference(&wanted).collect()), names(wanted.difference(admitted).collect())) {
        (strangers, missing) if strangers.is_empty() && missing.is_empty() => {
            Ok(format!("the firewall lets in {} members and nobody else (table inet hcl_members)", status.members.len()))
        }
        (strangers, missing) if missing.is_empty() => {
            Err(format!("the firewall lets in {strangers}, which is no member: {RESTART} sets that right"))
        }
        (_, missing) => Err(format!("the firewall keeps the member {missing} off: {RESTART} sets that right")),
    }
}

fn ipv6(facts: &Facts, status: &Status) -> Found {
    match (status.vlan, &status.cluster_interface, facts.ipv6_off) {
        (None, ..) => Ok("IPv6 is left as it is: without a VLAN the cable may be the home network's".to_owned()),
        (Some(_), _, None) => Ok("this kernel has no IPv6".to_owned()),
        (Some(_), None, _) => Ok("IPv6 is off in the cluster, which has no interface".to_owned()),
        (Some(_), Some(name), Some(true)) => Ok(format!("IPv6 is off on {name}")),
        (Some(_), Some(name), Some(false)) => {
            Err(format!("IPv6 is on for {name}, somebody has set it: {RESTART} puts it off again"))
        }
    }
}

fn state(facts: &Facts, _: &Status) -> Found {
    facts.state.clone().map(|()| "what the node must remember is on the card, whole, and can be written".to_owned())
}

fn kernel(facts: &Facts, _: &Status) -> Found {
    match &facts.lacks[..] {
        [] => Ok("the kernel has all that the engine needs".to_owned()),
        all => Err(all.join("; ")),
    }
}

fn complaints(_: &Facts, status: &Status) -> Found {
    match &status.complaints[..] {
        [] => Ok("the program has no complaints".to_owned()),
        all => Err(format!("the program complains: {}", all.join("; "))),
    }
}

#[cfg(test)]
mod tests;
