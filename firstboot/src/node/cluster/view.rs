//! The cluster for people: `hcl status`, the hosts file, names on the home network.

use std::net::Ipv4Addr;

use super::{Cluster, Phase};
use crate::{
    attach,
    node::{Action, Grant, Lease, Peer, Role, Summary},
    record::Ledger,
};

/// The name of whoever leads.
const MASTER: &str = "master";

impl Cluster {
    pub(in crate::node) fn summary(&self, link: attach::Summary) -> Summary {
        let role = match self.phase {
            Phase::Leading(_) => Role::Leader,
            Phase::Following(_) | Phase::Succeeding(_) => Role::Follower,
            _ => Role::None,
        };
        let address = match &self.phase {
            Phase::Leading(leading) => leading.own_address(),
            Phase::Following(following) => Some(following.address),
            Phase::Succeeding(succeeding) => Some(succeeding.address),
            Phase::Dormant { address } => *address,
            _ => None,
        };
        let strangers = match &self.phase {
            Phase::Leading(leading) => leading.server.strangers(),
            _ => 0,
        };
        let trouble = self.trouble(&link);
        Summary {
            link,
            node: self.record.node,
            cluster: self.seals.as_ref().map(crate::key::Seals::cluster),
            phase: self.phase.name(),
            since: self.since,
            reason: self.reason.clone(),
            role,
            incarnation: self.incarnation(),
            provisional: self.is_provisional(),
            address,
            leader: self.leading_peer(),
            grant: self.grant.as_ref().map(|grant| Grant { index: grant.index, until: grant.until }),
            waits_for_grant: self.waits_for_grant(),
            lease: self.lease(),
            members: self.members(),
            strangers,
            complaints: self.complaints(),
            trouble,
        }
    }

    fn lease(&self) -> Option<Lease> {
        let Phase::Following(following) = &self.phase else { return None };
        following.client.lease()
    }

    fn leading_peer(&self) -> Option<Peer> {
        if let Phase::Leading(_) = self.phase {
            return Some(Peer { node: self.record.node, address: self.leader_address(), name: self.name(), heard: None });
        }
        let heard = self.leader.as_ref()?;
        let notice = &heard.notice;
        Some(Peer { node: notice.node, address: notice.address, name: notice.name.clone(), heard: Some(heard.at) })
    }

    /// The ledger of a node that leads, or leads again as soon as it can.
    pub(super) fn ledger_in_use(&self) -> Option<&Ledger> {
        let membership = self.membership()?;
        let in_use = matches!(self.phase, Phase::Leading(_)) || membership.leads_by_right();
        membership.ledger.as_ref().filter(|_| in_use)
    }

    /// The members known: on the leader those of its ledger, elsewhere those that were heard, and of the ledger that a node led with
    /// before.
    pub(super) fn members(&self) -> Vec<Peer> {
        let Some(membership) = self.membership() else { return Vec::new() };
        let heard = |node| self.peers.get(node).map(|heard| heard.at);
        let written = membership.ledger.iter().flat_map(|ledger| &ledger.members);
        let written = written.map(|entry| Peer {
            node: entry.node,
            address: entry.address,
            name: entry.name.clone(),
            heard: heard(&entry.node),
        });
        let mut members: Vec<Peer> = if self.ledger_in_use().is_some() {
            written.collect()
        } else {
            let own = membership.address.map(|address| Peer { node: self.record.node, address, name: self.name(), heard: None });
            let others = self.peers.values().map(|heard| {
                let notice = &heard.notice;
                Peer { node: notice.node, address: notice.address, name: notice.name.clone(), heard: Some(heard.at) }
            });
            let mut members: Vec<Peer> = own.into_iter().chain(others).collect();
            // What a node that led before knows, as far as nobody says otherwise.
            for peer in written {
                if !members.iter().any(|member| member.node == peer.node || member.address == peer.address) {
                    members.push(peer);
                }
            }
            members
        };
        members.sort_by_key(|peer| (peer.address, peer.node));
        members
    }

    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if matches!(self.phase, Phase::Aside { .. }) {
            complaints.push(self.reason.clone());
        }
        complaints.extend(self.disk.clone());
        if let Phase::Leading(leading) = &self.phase {
            complaints.extend(leading.complaint());
            complaints.extend(leading.server.complaint());
        }
        if matches!(self.phase, Phase::Dormant { .. }) {
            complaints.push(self.reason.clone());
        }
        complaints.extend(self.leader_is_taken());
        complaints.extend(self.other_cluster());
        complaints.extend(self.lan_names.complaints());
        complaints.extend(self.dropped_tag());
        complaints
    }

    /// The hosts file's names: all members, and `master`.
    pub(super) fn tell_hosts(&mut self, actions: &mut Vec<Action>) {
        let mut hosts: Vec<(Ipv4Addr, String)> = self.members().into_iter().map(|peer| (peer.address, peer.name)).collect();
        // That nobody leads for a moment is no reason to forget where whoever does will be.
        if self.leading_peer().is_some() || self.hosts.iter().any(|(_, name)| name == MASTER) {
            hosts.push((self.leader_address(), MASTER.to_owned()));
        }
        // A link that is gone for a moment is no reason to forget names.
        if !hosts.is_empty() && hosts != self.hosts {
            self.hosts.clone_from(&hosts);
            actions.push(Action::SetHosts(hosts));
        }
    }

    /// Whom the members' ports are open for. Not before those that are here had a chance to answer: nobody is to be cut off by our
    /// start.
    pub(super) fn tell_members(&mut self, actions: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Following(_) | Phase::Succeeding(_) | Phase::Leading(_) | Phase::Dormant { .. }) {
            return;
        }
        let members = self.members().into_iter().map(|peer| peer.address);
        let mut addresses: Vec<Ipv4Addr> = members.chain([self.leader_address()]).collect();
        addresses.sort();
        addresses.dedup();
        if addresses != self.admitted {
            self.admitted.clone_from(&addresses);
            actions.push(Action::SetMembers(addresses));
        }
    }

    /// The names that this node has on the home network now.
    pub(super) fn lan_wanted(&self) -> Vec<(String, Ipv4Addr)> {
        let two_networks = self.link.as_ref().is_some_and(|link| link.parent != link.cluster);
        let (Some(lan), true) = (self.lan.first(), two_networks) else { return Vec::new() };
        let mut wanted = vec![(self.name().to_ascii_lowercase(), lan.address)];
        if matches!(self.phase, Phase::Leading(_)) {
            wanted.push((MASTER.to_owned(), lan.address));
        }
        wanted
    }
}
