//! Addresses that somebody has who did not get them here.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Instant};

use super::after;

/// A member found it in use: not given to a member before this many seconds.
const DECLINED: u64 = 600;
/// Seen in an ARP packet. Anybody can send those, also a node with a temporary address: given last, for this many seconds.
const SEEN: u64 = 60;
const MOST: usize = 256;

/// Bounded: where there is no room, what anybody could have written goes first.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    declined: BTreeMap<Ipv4Addr, Instant>,
    seen: BTreeMap<Ipv4Addr, Instant>,
}

impl Foreign {
    pub(super) fn declined(&mut self, now: Instant, address: Ipv4Addr) {
        note(&mut self.declined, address, after(now, DECLINED));
    }

    pub(super) fn seen(&mut self, now: Instant, address: Ipv4Addr) {
        note(&mut self.seen, address, after(now, SEEN));
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.declined.retain(|_, until| now < *until);
        self.seen.retain(|_, until| now < *until);
    }

    /// The first of `free` that nobody was seen at; otherwise the first that no member declined.
    pub(super) fn choose(&self, free: impl Iterator<Item = Ipv4Addr>) -> Option<Ipv4Addr> {
        let mut last = None;
        for address in free.filter(|address| !self.declined.contains_key(address)) {
            if !self.seen.contains_key(&address) {
                return Some(address);
            }
            last = last.or(Some(address));
        }
        last
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.declined.len() + self.seen.len()
    }
}

fn note(notes: &mut BTreeMap<Ipv4Addr, Instant>, address: Ipv4Addr, until: Instant) {
    if notes.len() >= MOST && !notes.contains_key(&address) {
        let oldest = notes.iter().min_by_key(|(_, until)| **until).map(|(address, _)| *address);
        oldest.and_then(|oldest| notes.remove(&oldest));
    }
    notes.insert(address, until);
}
