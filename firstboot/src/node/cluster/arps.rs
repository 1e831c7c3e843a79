//! ARP: who else has our addresses.

use std::{net::Ipv4Addr, time::Instant};

use super::{Cluster, DEFENCE, Phase};
use crate::{
    node::Action,
    wire::{Arp, arp::Operation},
};

/// When an address of ours was last defended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defence(Option<Instant>);

impl Cluster {
    /// Says that `address` is ours where somebody else uses it, once in a while (RFC 5227, section 2.4 (b)).
    pub(super) fn defend(&self, now: Instant, address: Ipv4Addr, defence: &mut Defence, arp: &Arp, actions: &mut Vec<Action>) {
        if arp.sender == address && defence.0.is_none_or(|at| now >= at + DEFENCE) {
            defence.0 = Some(now);
            self.send_arp(Arp::announcement(self.mac(), address), actions);
            self.note(format!("{} uses {address} as well", arp.sender_mac), actions);
        }
    }

    pub(super) fn arp_came(&mut self, now: Instant, arp: &Arp, actions: &mut Vec<Action>) {
        if arp.sender_mac == self.mac() {
            return;
        }
        match &mut self.phase {
            Phase::Addressing(addressing) => {
                if concerns(arp, addressing.address) {
                    self.temporary_is_taken(now, actions);
                }
            }
            Phase::Browsing(_) | Phase::Claiming(_) | Phase::Joining(_) => {
                self.defend_temporary(now, arp, actions);
                self.young_arp(now, arp, actions);
            }
            Phase::Reclaiming(_) => self.reclaiming_arp(now, arp, actions),
            Phase::Following(_) => self.following_arp(now, arp, actions),
            Phase::Succeeding(_) => self.succeeding_arp(now, arp, actions),
            Phase::Leading(_) => self.leading_arp(now, arp, actions),
            Phase::Off | Phase::Aside { .. } | Phase::Dormant { .. } => {}
        }
    }

    /// The kernel does not know our temporary address, so we answer for it.
    fn defend_temporary(&mut self, now: Instant, arp: &Arp, actions: &mut Vec<Action>) {
        let Some(temporary) = self.source_address() else { return };
        if arp.sender == temporary {
            self.temporary_is_taken(now, actions);
        } else if arp.operation == Operation::Request && arp.target == temporary {
            let reply = arp.reply(self.mac());
            self.send_arp(reply, actions);
        }
    }

    fn young_arp(&mut self, now: Instant, arp: &Arp, actions: &mut Vec<Action>) {
        let leader = self.leader_address();
        if let (Phase::Claiming(claiming), true) = (&self.phase, arp.sender == leader) {
            // A leader whose answers were lost? Once more, before a stranger is blamed.
            let temporary = claiming.temporary;
            self.suspicions += 1;
            if self.suspicions > 1 {
                self.suspicions = 0;
                let reason = format!(
                    "{leader} belongs to a machine that is no node of this lab ({}): take it off this VLAN, or build with --set node.vlan=201 --set node.subnet=192.168.201.0/24",
                    arp.sender_mac
                );
                return self.aside(now, reason, actions);
            }
            self.browse(now, Some(temporary), super::ROUND, format!("{leader} is in use: asking again whose it is"), actions);
        }
        if let Phase::Joining(joining) = &mut self.phase {
            joining.arp(now, arp);
        }
    }
}

/// Whether `arp` says that somebody has `address`, or is about to take it (RFC 5227, section 2.1.1).
pub(super) fn concerns(arp: &Arp, address: Ipv4Addr) -> bool {
    arp.sender == address || (arp.is_probe() && arp.target == address)
}
