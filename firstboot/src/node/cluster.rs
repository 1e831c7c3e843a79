//! The cluster on a link that is ready: found it or found one.

use std::time::Instant;

use super::{Action, Event, Role, Setup, Summary, random::Random};
use crate::{
    attach::{self, Ready},
    identity::NodeId,
    key::Seals,
    record::Record,
};

/// The machine.
#[derive(Debug)]
pub struct Cluster {
    record: Record,
    seals: Option<Seals>,
    since: Instant,
    random: Random,
    link: Option<Ready>,
}

impl Cluster {
    pub(super) fn start(setup: Setup, now: Instant, actions: &mut Vec<Action>) -> Self {
        let _ = actions;
        let mut random = Random::new(setup.seed);
        let record = setup.record.unwrap_or_else(|| Record::new(NodeId(random.bytes()), setup.hardware));
        let seals = setup.key.map(|key| key.seals());
        Self { record, seals, since: now, random, link: None }
    }

    pub(super) fn link(&mut self, now: Instant, link: Option<Ready>, actions: &mut Vec<Action>) {
        let _ = (now, actions, &self.random);
        self.link = link;
    }

    pub(super) fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        let _ = (now, event, actions, &self.link);
    }

    pub(super) fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }

    pub(super) fn summary(&self, link: attach::Summary) -> Summary {
        Summary {
            link,
            node: self.record.node,
            cluster: self.seals.as_ref().map(Seals::cluster),
            phase: "waiting",
            since: self.since,
            reason: String::new(),
            role: Role::None,
            incarnation: None,
            provisional: true,
            address: None,
            leader: None,
            lease: None,
            members: Vec::new(),
            strangers: 0,
            complaints: Vec::new(),
        }
    }
}
