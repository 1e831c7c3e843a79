//! What we say of ourselves.

use super::{Cluster, Phase};
use crate::{
    node::{Action, notice::Notice},
    wire::mdns::{Data, Message, Name, Record, Service},
};

impl Cluster {
    /// The notices that are true of us now. Nothing in them that is not on the card.
    pub(super) fn notices(&self) -> Vec<Notice> {
        let Some(membership) = self.membership() else { return Vec::new() };
        let notice = |service, address| Notice {
            service,
            incarnation: membership.incarnation,
            node: self.record.node,
            mac: self.mac(),
            address,
            name: self.name(),
            provisional: membership.provisional,
            members: self.member_count(),
            grant: 0,
            replaces: membership.replaces,
            leaving: false,
        };
        let member = |address| notice(Service::Member, address);
        match &self.phase {
            Phase::Leading(leading) => {
                let grant = leading.quorum.as_ref().map_or(0, |quorum| quorum.index);
                let mut notices = vec![Notice { grant, ..notice(Service::Leader, self.leader_address()) }];
                notices.extend(leading.own_address().map(member));
                notices
            }
            Phase::Following(following) => vec![member(following.address)],
            Phase::Succeeding(succeeding) => vec![member(succeeding.address)],
            Phase::Dormant { address } => address.map(member).into_iter().collect(),
            // Whoever has a copy of our card must hear of us as soon as we hear the question.
            Phase::Reclaiming(reclaiming) if reclaiming.answers() => vec![member(reclaiming.address)],
            _ => Vec::new(),
        }
    }

    pub(super) fn member_count(&self) -> u16 {
        let count = self.ledger_in_use().map_or_else(|| self.members().len(), |ledger| ledger.members.len());
        count.max(1).try_into().unwrap_or(u16::MAX)
    }

    /// Says it to everybody.
    pub(super) fn answer(&mut self, actions: &mut Vec<Action>) {
        self.answer_at = None;
        self.respond(&self.notices(), actions);
    }

    /// Takes back those of our notices that are as `which` says.
    pub(super) fn say_goodbye(&self, which: impl Fn(&Notice) -> bool, actions: &mut Vec<Action>) {
        let ours = self.notices().into_iter().filter(which);
        let leaving: Vec<_> = ours.map(|notice| Notice { leaving: true, ..notice }).collect();
        self.respond(&leaving, actions);
    }

    fn respond(&self, notices: &[Notice], actions: &mut Vec<Action>) {
        let (Some(seals), false) = (&self.seals, notices.is_empty()) else { return };
        // One message for each: together they would not fit into a frame of every size.
        for notice in notices {
            let mut answers = notice.records(seals);
            if notice.service == Service::Leader {
                let data = Data::Ptr(Name::Type(Service::Leader));
                answers.push(Record { name: Name::Types, ttl: answers[0].ttl, flush: false, data });
            }
            self.multicast(Message { response: true, answers, ..Message::default() }, actions);
        }
    }
}
