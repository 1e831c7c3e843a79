//! Two clusters of one key: which of them stays.

use std::time::Instant;

use super::{Cluster, LEADER_SILENCE, Phase};
use crate::node::{Action, notice::Notice};

impl Cluster {
    /// Two clusters of one key have met.
    pub(super) fn consider_rival(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(rival) = self.rival.clone() else { return };
        match &self.phase {
            Phase::Leading(_) => self.meet(now, &rival, actions),
            Phase::Following(following) => {
                let address = following.address;
                // Its leader decides, while it has one or is about to.
                let led = self.leader.as_ref().is_some_and(|leader| now < leader.at + LEADER_SILENCE);
                if !led && self.is_provisional() && !self.may_succeed(now) {
                    self.join_other(now, &rival, Some(address), actions);
                }
            }
            // Nobody leads ours and nobody would miss it.
            Phase::Dormant { address } if self.is_provisional() => {
                let old = *address;
                self.join_other(now, &rival, old, actions);
            }
            _ => {}
        }
    }

    pub(super) fn is_provisional(&self) -> bool {
        self.membership().is_none_or(|membership| membership.provisional) || self.is_replaced()
    }

    /// Whether another founding has taken the place of ours.
    pub(super) fn is_replaced(&self) -> bool {
        let by = self.rival.as_ref().and_then(|rival| rival.notice.replaces);
        by.is_some() && by == self.incarnation()
    }

    /// Whether our cluster gives way to the one that `theirs` leads: what holds something stays, then the larger one, then the
    /// later incarnation. Never by a clock.
    pub(super) fn loses_to(&self, theirs: &Notice) -> bool {
        let Some(ours) = self.membership() else { return true };
        if theirs.replaces == Some(ours.incarnation) || ours.replaces == Some(theirs.incarnation) {
            return theirs.replaces == Some(ours.incarnation);
        }
        let rank = |provisional: bool, members, incarnation| (!provisional, members, incarnation);
        rank(ours.provisional, self.member_count(), ours.incarnation)
            < rank(theirs.provisional, theirs.members, theirs.incarnation)
    }
}
