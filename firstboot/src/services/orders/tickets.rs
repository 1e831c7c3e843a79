//! Tickets: what makes an order good for one node, one boot, one time.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::Order;
use crate::{
    identity::NodeId,
    key::{hex, unhex},
};

/// How long a ticket is good: who gives an order waits for tickets, for followers and for the leader, at most
/// [`LONGEST_TIMEOUT`](super::local::LONGEST_TIMEOUT) each.
pub(super) const LIFE: Duration = Duration::from_secs(3 * super::local::LONGEST_TIMEOUT);
/// The most that are open: more than one a member is of no use.
const MOST: usize = 190;

/// 32 random bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Ticket([u8; 32]);

impl TryFrom<String> for Ticket {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        unhex(&text).map(Self).ok_or("a ticket has 64 hexadecimal digits")
    }
}

impl From<Ticket> for String {
    fn from(ticket: Ticket) -> Self {
        hex(&ticket.0)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket")
    }
}

/// Why a ticket is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadTicket {
    /// It was not drawn here since the boot, or was used, or another one was drawn after it.
    #[error("the ticket is none of this boot's, or was used")]
    Unknown,
    /// It is another node's.
    #[error("the ticket is another node's")]
    Peer,
    /// It was drawn for another order.
    #[error("the ticket is for an order to {0}")]
    Order(Order),
    /// Its time is over.
    #[error("the order comes {0} s too late")]
    Late(u64),
}

/// Those that are open. In memory alone: with the boot they end.
#[derive(Debug, Default)]
pub(super) struct Tickets(Vec<Open>);

#[derive(Debug)]
struct Open {
    ticket: Ticket,
    peer: NodeId,
    order: Order,
    /// In time since the boot.
    until: Duration,
}

impl Tickets {
    /// A ticket of the bytes `drawn`, which must be random, for `peer`. An older one of the same node ends.
    pub(super) fn issue(&mut self, peer: NodeId, order: Order, drawn: [u8; 32], now: Duration) -> Ticket {
        self.0.retain(|open| open.peer != peer && open.until > now);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        let ticket = Ticket(drawn);
        self.0.push(Open { ticket: ticket.clone(), peer, order, until: now + LIFE });
        ticket
    }

    /// Takes `ticket`: whatever comes of it, it is good no second time.
    ///
    /// # Errors
    ///
    /// It is not good.
    pub(super) fn redeem(&mut self, ticket: &Ticket, peer: NodeId, order: Order, now: Duration) -> Result<(), BadTicket> {
        let place = self.0.iter().position(|open| open.ticket == *ticket).ok_or(BadTicket::Unknown)?;
        let open = self.0.remove(place);
        match () {
            () if open.peer != peer => Err(BadTicket::Peer),
            () if open.order != order => Err(BadTicket::Order(open.order)),
            () if now >= open.until => Err(BadTicket::Late((now - open.until).as_secs())),
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 16]);
    const B: NodeId = NodeId([2; 16]);
    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn good_once() {
        let mut tickets = Tickets::default();
        let ticket = tickets.issue(A, Order::Reboot, [1; 32], NOW);
        assert_eq!(tickets.redeem(&ticket, A, Order::Reboot, NOW + LIFE - Duration::from_millis(1)), Ok(()));
        assert_eq!(tickets.redeem(&ticket, A, Order::Reboot, NOW), Err(BadTicket::Unknown));
    }

    #[test]
    fn good_for_one_node_one_order_and_a_while() {
        for (peer, order, later, wrong) in [
            (B, Order::Reboot, Duration::ZERO, BadTicket::Peer),
            (A, Order::Poweroff, Duration::ZERO, BadTicket::Order(Order::Reboot)),
            (A, Order::Reboot, LIFE, BadTicket::Late(0)),
            (A, Order::Reboot, LIFE + Duration::from_secs(7), BadTicket::Late(7)),
        ] {
            let mut tickets = Tickets::default();
            let ticket = tickets.issue(A, Order::Reboot, [1; 32], NOW);
            assert_eq!(tickets.redeem(&ticket, peer, order, NOW + later), Err(wrong));
            // A wrong try uses it up.
            assert_eq!(tickets.redeem(&ticket, A, Order::Reboot, NOW), Err(BadTicket::Unknown));
        }
    }

    #[test]
    fn another_boot_knows_none() {
        let ticket = Tickets::default().issue(A, Order::Reboot, [1; 32], NOW);
        assert_eq!(Tickets::default().redeem(&ticket, A, Order::Reboot, NOW), Err(BadTicket::Unknown));
    }

    #[test]
    fn bounded() {
        let mut tickets = Tickets::default();
        for count in 0..1000_u16 {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&count.to_be_bytes());
            tickets.issue(NodeId(id), Order::Reboot, [count as u8; 32], NOW);
        }
        assert_eq!(tickets.0.len(), MOST);
        // One a node.
        for drawn in 0..9 {
            tickets.issue(A, Order::Reboot, [drawn; 32], NOW);
        }
        assert_eq!(tickets.0.iter().filter(|open| open.peer == A).count(), 1);
    }
}
