//! What must hold of all machines together.

use std::time::Duration;

use hcl_firstboot::{
    key::ClusterKey,
    node::{Node, Role},
};

use super::{Class, Host, World, key};

impl World {
    /// Rule 2: nobody else of the same incarnation has an address of this machine.
    pub(super) fn alone_with_its_addresses(&self, place: usize) -> Result<(), String> {
        let incarnation = |host: &Host| host.disk.as_ref().and_then(|disk| disk.membership.as_ref()).map(|of| of.incarnation);
        let holds = |host: &Host, address| {
            host.addresses.get(address).is_some_and(|until: &Option<Duration>| until.is_none_or(|until| self.now < until))
        };
        let host = &self.hosts[place];
        for address in host.addresses.keys().filter(|address| holds(host, address)) {
            for (other, of) in self.hosts.iter().enumerate() {
                if other != place && holds(of, address) && incarnation(of) == incarnation(host) {
                    return Err(format!("2: {place} and {other} of one incarnation have {address}"));
                }
            }
        }
        Ok(())
    }

    /// Rule 1b: one leader, all others follow it, each with an address of its own. Of two keys one runs and the other explains.
    pub(super) fn settled(&mut self) -> Result<(), String> {
        if self.hosts.iter().any(|host| host.node.is_none()) {
            return Err("a machine is still without power".into());
        }
        if self.class != Class::Keys {
            return self.settled_of(&key(0));
        }
        let of_key = |number| {
            let hosts = self.hosts.iter().filter(move |host| host.key == key(number));
            hosts.filter_map(|host| host.node.as_ref()).map(Node::summary).collect::<Vec<_>>()
        };
        let aside = |number| of_key(number).iter().all(|summary| summary.role == Role::None && !summary.complaints.is_empty());
        match (aside(0), aside(1)) {
            (_, true) => self.settled_of(&key(0)),
            (true, false) => self.settled_of(&key(1)),
            (false, false) => Err("1b: two labs of two keys run on one wire".into()),
        }
    }

    fn settled_of(&self, key: &ClusterKey) -> Result<(), String> {
        let hosts = self.hosts.iter().filter(|host| host.key == *key);
        let running: Vec<_> = hosts.filter_map(|host| host.node.as_ref()).map(Node::summary).collect();
        let leaders = running.iter().filter(|summary| summary.role == Role::Leader).count();
        if leaders != 1 {
            return Err(format!("1b: {leaders} leaders after all faults have ended"));
        }
        for (place, summary) in running.iter().enumerate() {
            if summary.role == Role::None {
                return Err(format!("1b: node {place} is in no cluster: {} ({})", summary.phase, summary.reason));
            }
            if summary.incarnation != running[0].incarnation {
                return Err(format!("1b: node {place} is in another cluster"));
            }
            if summary.role == Role::Follower && summary.lease.is_none() {
                return Err(format!("1b: node {place} follows without a lease: {}", summary.reason));
            }
        }
        if self.used.is_some() && running[0].incarnation != self.used {
            return Err("1b: the cluster that held something is lost".into());
        }
        for host in self.hosts.iter().filter(|host| host.key == *key) {
            let Some(summary) = host.node.as_ref().map(Node::summary) else { continue };
            let held: Vec<_> = host.addresses.iter().filter(|(_, until)| until.is_none_or(|until| self.now < until)).collect();
            let mut wanted: Vec<_> = summary.address.into_iter().collect();
            if summary.role == Role::Leader {
                wanted.insert(0, crate::rules::LEADER);
            }
            if held.iter().map(|(address, _)| **address).ne(wanted.iter().copied()) {
                return Err(format!("2: {} has {held:?} and wants {wanted:?}", host.mac));
            }
            if summary.address.is_none_or(|address| !(10..=199).contains(&address.octets()[3])) {
                return Err(format!("1b: {} has no member's address: {:?}", host.mac, summary.address));
            }
        }
        let mut addresses: Vec<_> = running.iter().filter_map(|summary| summary.address).collect();
        addresses.sort();
        addresses.dedup();
        if addresses.len() < running.len() { Err("2: two members have one address".into()) } else { Ok(()) }
    }
}
