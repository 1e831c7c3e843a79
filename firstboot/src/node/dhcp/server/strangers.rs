//! Addresses lent to machines without the key: few, for minutes.
//!
//! Whatever they send, this holds at most [`MOST`] loans and as many offers. An offer that is not taken is gone after
//! [`PENDING`], so that a flood of forged questions keeps nobody waiting for longer than that once it ends.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{STRANGER_LEASE, after, candidates, foreign::Foreign};
use crate::{config::Addresses, link::Mac, record::StrangerEntry, wire::dhcp::Message};

/// The most loans, and the most offers.
pub(super) const MOST: usize = 32;
/// How long an offer stands, its probe included, in seconds.
const PENDING: u64 = 30;
/// How long a holder has to answer a probe.
const PROBE: Duration = Duration::from_millis(300);
/// New loans are written to the card, which wears: one in this many seconds.
const PACE: u64 = 1;

#[derive(Debug)]
pub(super) struct Strangers {
    addresses: Addresses,
    loans: Vec<Loan>,
    pending: Vec<Pending>,
    /// Before then no new loan is made.
    next_loan: Instant,
    full: bool,
}

#[derive(Debug)]
struct Loan {
    mac: Mac,
    address: Ipv4Addr,
    until: Instant,
}

#[derive(Debug)]
struct Pending {
    offer: Message,
    /// Until then the address is being probed; none: it is offered.
    probing: Option<Instant>,
    until: Instant,
}

/// What became of a request for an offered address.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bound {
    New,
    Old,
    TooSoon,
    No,
}

impl Strangers {
    /// Those of `entries` that fit, with their full time.
    pub(super) fn new(addresses: Addresses, entries: Vec<StrangerEntry>, now: Instant) -> Self {
        let mut this = Self { addresses, loans: Vec::new(), pending: Vec::new(), next_loan: now, full: false };
        let (mut macs, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for StrangerEntry { mac, address } in entries {
            let fits = this.lends(address) && !macs.contains(&mac) && !taken.contains(&address);
            if fits && this.loans.len() < MOST {
                macs.insert(mac);
                taken.insert(address);
                this.loans.push(Loan { mac, address, until: after(now, STRANGER_LEASE.into()) });
            }
        }
        this
    }

    pub(super) fn entries(&self) -> Vec<StrangerEntry> {
        self.loans.iter().map(|loan| StrangerEntry { mac: loan.mac, address: loan.address }).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.loans.len()
    }

    pub(super) fn has(&self, address: Ipv4Addr) -> bool {
        self.loans.iter().any(|loan| loan.address == address) || self.pending.iter().any(|it| it.offer.yiaddr == address)
    }

    /// What `mac` has, or is offered already: to be offered again at once.
    pub(super) fn offered(&self, mac: Mac) -> Option<Ipv4Addr> {
        let loan = self.loans.iter().find(|loan| loan.mac == mac).map(|loan| loan.address);
        let offered = self.pending.iter().find(|it| it.offer.chaddr == mac && it.probing.is_none());
        loan.or_else(|| offered.map(|it| it.offer.yiaddr))
    }

    /// An address for `mac`: the one that it wishes where that is free. The one being probed for it where there is one.
    pub(super) fn choose(&mut self, mac: Mac, wish: Option<Ipv4Addr>, foreign: &Foreign) -> Option<Ipv4Addr> {
        if let Some(pending) = self.pending.iter().find(|it| it.offer.chaddr == mac) {
            return Some(pending.offer.yiaddr);
        }
        if self.pending.len() >= MOST {
            return None;
        }
        if self.loans.len() >= MOST {
            self.full = true;
            return None;
        }
        let wish = wish.filter(|wish| self.lends(*wish));
        let range = candidates(self.addresses.subnet(), self.addresses.stranger_range(), mac);
        let address = foreign.choose(mac, wish.into_iter().chain(range).filter(|address| !self.has(*address)));
        self.full = address.is_none();
        address
    }

    /// Keeps `offer` until its address was probed; says whether that begins now.
    pub(super) fn pend(&mut self, now: Instant, offer: Message) -> bool {
        if self.refresh(offer.chaddr, &offer) {
            return false;
        }
        self.pending.push(Pending { offer, probing: Some(now + PROBE), until: after(now, PENDING) });
        true
    }

    /// Puts `offer` in place of the one before to `mac`, which asked again; its time stays.
    pub(super) fn refresh(&mut self, mac: Mac, offer: &Message) -> bool {
        let pending = self.pending.iter_mut().find(|it| it.offer.chaddr == mac);
        pending.map(|it| it.offer.clone_from(offer)).is_some()
    }

    /// Ends what was offered to `mac`.
    pub(super) fn withdraw(&mut self, mac: Mac) {
        self.pending.retain(|it| it.offer.chaddr != mac);
    }

    /// `holder` has `address`: nothing comes of an offer of it to another one, which is named.
    pub(super) fn conflict(&mut self, address: Ipv4Addr, holder: Mac) -> Option<Mac> {
        let place = self.pending.iter().position(|it| it.offer.yiaddr == address && it.offer.chaddr != holder)?;
        Some(self.pending.remove(place).offer.chaddr)
    }

    /// The offers whose addresses nobody claimed.
    pub(super) fn probed(&mut self, now: Instant) -> Vec<Message> {
        let ready = self.pending.iter_mut().filter(|it| it.probing.is_some_and(|until| until <= now));
        let offers = ready.map(|it| {
            it.probing = None;
            it.offer.clone()
        });
        offers.collect()
    }

    /// Lends `address`, which was offered, to `mac`.
    pub(super) fn bind(&mut self, now: Instant, mac: Mac, address: Ipv4Addr) -> Bound {
        if let Some(same) = self.renew(now, mac, address) {
            return if same { Bound::Old } else { Bound::No };
        }
        let offered = |it: &Pending| it.offer.chaddr == mac && it.offer.yiaddr == address && it.probing.is_none();
        if !self.pending.iter().any(offered) {
            return Bound::No;
        }
        if now < self.next_loan || self.loans.len() >= MOST {
            return Bound::TooSoon;
        }
        self.next_loan = after(now, PACE);
        self.withdraw(mac);
        self.loans.push(Loan { mac, address, until: after(now, STRANGER_LEASE.into()) });
        Bound::New
    }

    /// More time for `mac`; whether `address` is what it has. None: it has none.
    pub(super) fn renew(&mut self, now: Instant, mac: Mac, address: Ipv4Addr) -> Option<bool> {
        let loan = self.loans.iter_mut().find(|loan| loan.mac == mac)?;
        let same = loan.address == address;
        if same {
            loan.until = after(now, STRANGER_LEASE.into());
        }
        Some(same)
    }

    /// Ends the loan of `address` to `mac`; whether there was one.
    pub(super) fn free(&mut self, mac: Mac, address: Ipv4Addr) -> bool {
        let before = self.loans.len();
        self.loans.retain(|loan| loan.mac != mac || loan.address != address);
        let freed = self.loans.len() < before;
        self.full &= !freed;
        freed
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let before = self.loans.len();
        self.loans.retain(|loan| now < loan.until);
        self.full &= self.loans.len() == before;
        self.pending.retain(|it| now < it.until);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let loans = self.loans.iter().map(|loan| loan.until);
        loans.chain(self.pending.iter().map(|it| it.probing.unwrap_or(it.until))).min()
    }

    pub(super) fn complaint(&self) -> Option<String> {
        let range = self.addresses.stranger_range();
        self.full.then(|| {
            if self.loans.len() >= MOST {
                return format!("{MOST} addresses are lent to machines without the key, which is the most: take one off, or give it the key");
            }
            format!("a machine without the key found no free address in strangers = \"{range}\": widen `strangers` in /etc/hcl/node.toml on every node")
        })
    }

    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    fn lends(&self, address: Ipv4Addr) -> bool {
        let subnet = self.addresses.subnet();
        let number = subnet.number(address);
        // The range ends before the broadcast address.
        subnet.contains(address) && self.addresses.stranger_range().contains(number)
    }
}
