//! What a trial does once all nodes have answered: act after act, on the nodes that each of them names.
//!
//! An act begins when all nodes have done with the one before.

use super::{cloud, cluster::Standing, leave::LEAVING, probe::Probe};

/// One act.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// On which nodes.
    pub who: Who,
    /// What happens there.
    pub deed: Deed,
}

/// Which nodes, by what they said of themselves when they were first asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The leader.
    Leader,
    /// One follower, always the same one. A lab of one node has none, and leaves the act out.
    Follower,
    /// All of them.
    Everyone,
    /// All of them, one after the other: for what keeps an emulated node busy for so long that the engines, which give each other twenty
    /// seconds, would miss them with all at it.
    OneByOne,
}

/// What happens on a node.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// These questions.
    Ask(&'static [Probe]),
    /// `systemctl reboot`, up to the kernel's first words.
    Reboot,
}

/// All acts in their order.
pub const ACTS: &[Act] = &[
    Act { who: Who::Leader, deed: Deed::Ask(cloud::GIVING) },
    Act { who: Who::OneByOne, deed: Deed::Ask(cloud::TAKING) },
    Act { who: Who::Leader, deed: Deed::Reboot },
    Act { who: Who::Everyone, deed: Deed::Ask(cloud::AFTERWARDS) },
    Act { who: Who::OneByOne, deed: Deed::Ask(cloud::TAKING_AFTERWARDS) },
    Act { who: Who::Everyone, deed: Deed::Ask(cloud::HEALTH_AFTERWARDS) },
    Act { who: Who::Leader, deed: Deed::Ask(cloud::STILL_GIVING) },
    // Last: nobody looks at the members any more, one of whom is away for a moment.
    Act { who: Who::Follower, deed: Deed::Ask(LEAVING) },
];

impl Act {
    /// The nodes that take part, given what each said of itself: who is at it at the same time.
    pub fn rounds(&self, standings: &[Option<Standing>]) -> Vec<Vec<usize>> {
        let leads = |wanted: bool| {
            let of_kind = move |standing: &Option<Standing>| standing.as_ref().is_some_and(|standing| standing.leads == wanted);
            standings.iter().position(of_kind).map(|node| vec![node]).into_iter().collect()
        };
        match self.who {
            Who::Leader => leads(true),
            Who::Follower => leads(false),
            Who::Everyone => vec![(0..standings.len()).collect()],
            Who::OneByOne => (0..standings.len()).map(|node| vec![node]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(leads: bool) -> Option<Standing> {
        Some(Standing { leads, address: None, members: Vec::new(), leased: false })
    }

    #[test]
    fn who_takes_part() {
        let rounds = |who, standings: &[Option<Standing>]| Act { who, deed: Deed::Reboot }.rounds(standings);
        let three = [None, standing(false), standing(true)];
        assert_eq!(rounds(Who::Leader, &three), [[2]]);
        assert_eq!(rounds(Who::Follower, &three), [[1]]);
        assert_eq!(rounds(Who::Everyone, &three), [[0, 1, 2]]);
        assert_eq!(rounds(Who::OneByOne, &three), [[0], [1], [2]]);
        assert!(rounds(Who::Follower, &[standing(true)]).is_empty());
    }
}
