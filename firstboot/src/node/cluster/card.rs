//! What the node remembers, on its card.

use std::time::Instant;

use super::{Cluster, Phase};
use crate::{marker::Marker, node::Action};

impl Cluster {
    /// Before a promise: what follows in `actions` is backed by it.
    pub(super) fn persist(&self, actions: &mut Vec<Action>) {
        actions.push(Action::Persist(Box::new(self.record.clone())));
    }

    pub(super) fn persist_failed(&mut self, now: Instant, error: String, actions: &mut Vec<Action>) {
        self.record = self.on_disk.clone();
        let reason = format!("the card cannot be written ({error}): put in another card, or free some space");
        if self.disk.as_ref() != Some(&reason) {
            actions.push(Action::Mark(Marker::Fault { reason: reason.clone() }));
        }
        self.disk = Some(reason.clone());
        let by_right = self.leads_by_right();
        let granted = self.membership().filter(|membership| membership.ledger.is_some()).map(|membership| membership.granted);
        match &mut self.phase {
            // The first grant is taken note of with the next renewal.
            Phase::Leading(leading) if by_right => {
                leading.quorum = None;
                self.restart_server(now);
                self.hold_own(actions);
            }
            // The binding that could not be written was not promised, and is forgotten; the rest goes on.
            Phase::Leading(leading) if granted == Some(leading.quorum.as_ref().map(|quorum| quorum.index)) => {
                self.restart_server(now);
                self.hold_own(actions);
            }
            Phase::Off => {}
            _ => {
                actions.push(Action::Close);
                self.open(actions);
                self.aside(now, reason, actions);
            }
        }
    }
}
