//! Addresses that somebody has who did not get them here.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Instant};

use super::after;
use crate::link::Mac;

/// A member found it in use: not given to a member before this many seconds.
const DECLINED: u64 = 600;
/// Seen in an ARP packet. Anybody can send those, also a node with a temporary address: given last, for this many seconds.
const SEEN: u64 = 60;
const MOST: usize = 256;

/// Bounded: where there is no room, what anybody could have written goes first.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    declined: BTreeMap<Ipv4Addr, Note>,
    seen: BTreeMap<Ipv4Addr, Note>,
}

#[derive(Debug)]
struct Note {
    /// Who was seen there; none where nobody knows.
    by: Option<Mac>,
    until: Instant,
}

impl Foreign {
    pub(super) fn declined(&mut self, now: Instant, address: Ipv4Addr) {
        note(&mut self.declined, address, Note { by: None, until: after(now, DECLINED) });
    }

    /// `by` has it; none where only somebody says so.
    pub(super) fn seen(&mut self, now: Instant, address: Ipv4Addr, by: Option<Mac>) {
        note(&mut self.seen, address, Note { by, until: after(now, SEEN) });
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.declined.retain(|_, note| now < note.until);
        self.seen.retain(|_, note| now < note.until);
    }

    /// The first of `free` that nobody but `mac` was seen at; otherwise the first that no member declined. Who comes from another founding of
    /// the key holds the address that it had there until it is given one, and is to keep it.
    pub(super) fn choose(&self, mac: Mac, free: impl Iterator<Item = Ipv4Addr>) -> Option<Ipv4Addr> {
        let mut last = None;
        for address in free.filter(|address| !self.declined.contains_key(address)) {
            if self.seen.get(&address).is_none_or(|note| note.by == Some(mac)) {
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

fn note(notes: &mut BTreeMap<Ipv4Addr, Note>, address: Ipv4Addr, note: Note) {
    if notes.len() >= MOST && !notes.contains_key(&address) {
        let oldest = notes.iter().min_by_key(|(_, note)| note.until).map(|(address, _)| *address);
        oldest.and_then(|oldest| notes.remove(&oldest));
    }
    notes.insert(address, note);
}
