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
    Act { who: Who::Everyone, deed: Deed::Ask(cloud::TAKING) },
    Act { who: Who::Leader, deed: Deed::Reboot },
    Act { who: Who::Everyone, deed: Deed::Ask(cloud::AFTERWARDS) },
    Act { who: Who::Leader, deed: Deed::Ask(cloud::STILL_GIVING) },
    // Last: nobody looks at the members any more, one of whom is away for a moment.
    Act { who: Who::Follower, deed: Deed::Ask(LEAVING) },
];

impl Act {
    /// The nodes that take part, given what each said of itself.
    pub fn nodes(&self, standings: &[Option<Standing>]) -> Vec<usize> {
        let leads = |wanted: bool| {
            let of_kind = move |standing: &Option<Standing>| standing.as_ref().is_some_and(|standing| standing.leads == wanted);
            standings.iter().position(of_kind).into_iter().collect()
        };
        match self.who {
            Who::Leader => leads(true),
            Who::Follower => leads(false),
            Who::Everyone => (0..standings.len()).collect(),
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
        let nodes = |who, standings: &[Option<Standing>]| Act { who, deed: Deed::Reboot }.nodes(standings);
        let three = [None, standing(false), standing(true)];
        assert_eq!(nodes(Who::Leader, &three), [2]);
        assert_eq!(nodes(Who::Follower, &three), [1]);
        assert_eq!(nodes(Who::Everyone, &three), [0, 1, 2]);
        assert!(nodes(Who::Follower, &[standing(true)]).is_empty());
    }
}
