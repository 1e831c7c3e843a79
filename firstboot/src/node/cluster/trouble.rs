//! What a person must see to, in the order of what to look at first.

use super::{Cluster, NO_KEY, Phase};
use crate::{
    attach,
    marker::Marker,
    node::Action,
    trouble::{Kind, Trouble},
};

impl Cluster {
    /// The trouble that this node is in, with the link as it is.
    pub(super) fn trouble(&self, link: &attach::Summary) -> Option<Trouble> {
        if let Some(fault) = &link.fault {
            return Some(Trouble::new(Kind::Network, fault.clone()));
        }
        if self.seals.is_none() {
            return Some(Trouble::new(Kind::Key, NO_KEY));
        }
        if self.link.is_none() || self.stopping {
            return None;
        }
        if let Some(reason) = &self.disk {
            return Some(Trouble::new(Kind::Card, reason.clone()));
        }
        match &self.phase {
            Phase::Leading(_) => self.dropped_tag().map(|text| Trouble::new(Kind::Switch, text)),
            Phase::Following(_) | Phase::Succeeding(_) => self.other_cluster().map(|text| Trouble::new(Kind::Cluster, text)),
            Phase::Dormant { .. } => Some(Trouble::new(Kind::Cluster, self.reason.clone())),
            // Looking again is no reason to call what was found solved.
            _ => self.told.clone(),
        }
    }

    /// What a node stands aside for.
    pub(super) fn trouble_aside(&self, reason: String) -> Trouble {
        let kind = match &self.disk {
            _ if self.deaf => Kind::Network,
            Some(disk) if *disk == reason => Kind::Card,
            _ => Kind::Neighbour,
        };
        Trouble::new(kind, reason)
    }

    /// A member that leads nothing knows of another cluster of its key, and this one is in use.
    pub(super) fn other_cluster(&self) -> Option<String> {
        let rival = self.rival.as_ref().filter(|_| matches!(self.phase, Phase::Following(_)) && !self.is_provisional())?;
        let name = &rival.notice.name;
        Some(format!(
            "{name} leads another cluster of the same key, and this one is in use: put these nodes on another VLAN, or flash their cards anew"
        ))
    }

    /// A leader that has nobody hears, untagged, a node that it does not hear on the VLAN.
    pub(super) fn dropped_tag(&self) -> Option<String> {
        let alone = matches!(self.phase, Phase::Leading(_)) && self.members().len() <= 1;
        let sibling = self.lan_names.sibling().filter(|_| alone)?;
        let vlan = &self.config.vlan;
        Some(format!(
            "{sibling} is heard on the home network but not on VLAN {vlan}: if it is of this lab, the switch between drops VLAN {vlan}; let it pass, or use a simple switch"
        ))
    }

    /// Tells the console of a switch that drops the tag, once.
    pub(super) fn tell_of_switch(&mut self, actions: &mut Vec<Action>) {
        let found = self.dropped_tag();
        if found != self.switch_told {
            actions.extend(found.clone().map(|reason| Action::Mark(Marker::Fault { reason })));
            self.switch_told = found;
        }
    }
}
