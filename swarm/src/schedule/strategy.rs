//! Which of the nodes that pass the filters is taken.
//!
//! A node's weight is how full it would be, in per cent of its CPUs plus per cent of its memory, each 100 where the container
//! asks for none. `spread` takes the lightest, `binpack` the heaviest; among equals the number of containers decides, the stopped
//! ones included, then chance. As in classic Swarm a node may be filled to 105 %, and `random` does not look at resources.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::{Candidate, Request};

/// Per cent of a node that can be promised on top of what it has.
const OVERCOMMIT: u64 = 5;
/// Billionths of a CPU.
const CPU: u64 = 1_000_000_000;

/// How to choose among nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The emptiest.
    #[default]
    Spread,
    /// The fullest that has room.
    Binpack,
    /// Any.
    Random,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spread => "spread",
            Self::Binpack => "binpack",
            Self::Random => "random",
        })
    }
}

/// There is no strategy of that name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no strategy '{0}': take spread, binpack or random")]
pub struct UnknownStrategy(String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        match name {
            "spread" => Ok(Self::Spread),
            // Its first name.
            "binpack" | "binpacking" => Ok(Self::Binpack),
            "random" => Ok(Self::Random),
            other => Err(UnknownStrategy(other.to_owned())),
        }
    }
}

impl Strategy {
    /// One of the candidates at `left`; `None` when none has the resources.
    pub(super) fn pick(self, request: &Request, candidates: &[Candidate], left: &[usize], random: u64) -> Option<usize> {
        if self == Self::Random {
            return one_of(left, random);
        }
        let weighed = left.iter().filter_map(|index| {
            let candidate = &candidates[*index];
            weight(request, candidate).map(|weight| (weight, candidate.containers.len(), *index))
        });
        let mut best: Vec<usize> = Vec::new();
        let mut rank = None;
        for (weight, containers, index) in weighed {
            let own = (weight, containers);
            let better = rank.is_none_or(|rank| if self == Self::Spread { own < rank } else { own > rank });
            if better {
                rank = Some(own);
                best.clear();
            }
            if rank == Some(own) {
                best.push(index);
            }
        }
        one_of(&best, random)
    }
}

fn one_of(indexes: &[usize], random: u64) -> Option<usize> {
    let position = random.checked_rem(u64::try_from(indexes.len()).ok()?)?;
    indexes.get(usize::try_from(position).ok()?).copied()
}

/// How full the node would be; `None` when it would be too full.
fn weight(request: &Request, candidate: &Candidate) -> Option<u128> {
    let cpus = share(request.nano_cpus, candidate.reserved_nano_cpus, overcommitted_cpus(candidate.nano_cpus))?;
    let memory = share(request.memory, candidate.reserved_memory, overcommitted_memory(candidate.memory))?;
    Some(cpus + memory)
}

/// Per cent of `total` with `wanted` added, rounded down; 100 if nothing is wanted; `None` above 100.
fn share(wanted: u64, reserved: u64, total: u64) -> Option<u128> {
    if wanted == 0 {
        return Some(100);
    }
    if wanted > total {
        return None;
    }
    let share = (u128::from(reserved) + u128::from(wanted)) * 100 / u128::from(total);
    Some(share).filter(|share| *share <= 100)
}

/// Bytes that a node with so much memory can promise.
#[must_use]
pub fn overcommitted_memory(memory: u64) -> u64 {
    memory.saturating_add((u128::from(memory) * u128::from(OVERCOMMIT) / 100) as u64)
}

/// Billionths of CPUs that a node with so many can promise: whole CPUs are added, so none below 20.
#[must_use]
pub fn overcommitted_cpus(nano_cpus: u64) -> u64 {
    nano_cpus.saturating_add((nano_cpus / CPU * OVERCOMMIT / 100).saturating_mul(CPU))
}

#[cfg(test)]
mod tests {
    use super::{CPU, Strategy, overcommitted_cpus, overcommitted_memory};
    use crate::schedule::{Candidate, Request, Unplaceable, place};

    const GIB: u64 = 1 << 30;

    fn node(memory: u64, cpus: u64) -> Candidate {
        Candidate { healthy: true, memory: memory * GIB, nano_cpus: cpus * CPU, ..Candidate::default() }
    }

    fn request(memory: u64, cpus: u64) -> Request {
        Request { memory: memory * GIB, nano_cpus: cpus * CPU, ..Request::default() }
    }

    /// Places the requests one after another: how many containers each node has then, and whether all found one.
    fn fill(strategy: Strategy, nodes: &mut [Candidate], requests: &[Request]) -> (Vec<usize>, Result<(), Unplaceable>) {
        let result =
            requests.iter().try_for_each(|request| place(request, nodes, strategy, 0).map(|index| nodes[index].add(request, "")));
        (nodes.iter().map(|node| node.containers.len()).collect(), result)
    }

    /// Classic Swarm's own tests of `spread`.
    #[test]
    fn spread_as_classic_swarm_tested_it() {
        let nodes = || vec![node(64, 21), node(128, 42)];
        assert_eq!(fill(Strategy::Spread, &mut nodes(), &vec![request(0, 0); 60]), (vec![30, 30], Ok(())));
        assert_eq!(fill(Strategy::Spread, &mut nodes(), &vec![request(0, 1); 60]), (vec![20, 40], Ok(())));
        // Same weight: the number of containers decides.
        let mut two = [node(4, 0), node(4, 0)];
        two[0].add(&request(2, 0), "c1");
        two[1].add(&request(1, 0), "c2");
        two[1].add(&request(1, 0), "c3");
        assert_eq!(place(&request(1, 0), &two, Strategy::Spread, 7), Ok(0));
        // 2, 3 and 1 GiB on nodes of 4: the third beside the first.
        let mut two = [node(4, 4), node(4, 4)];
        assert_eq!(fill(Strategy::Spread, &mut two, &[request(2, 0), request(3, 0), request(1, 0)]), (vec![2, 1], Ok(())));
        let mut hundred = vec![node(1, 1); 100];
        assert_eq!(fill(Strategy::Spread, &mut hundred, &vec![request(0, 1); 101]), (vec![1; 100], Err(Unplaceable::Resources)));
    }

    #[test]
    fn binpack_fills_one_node_first() {
        let mut two = [node(2, 2), node(2, 2)];
        let requests = [request(1, 0), request(1, 0), request(2, 0)];
        assert_eq!(fill(Strategy::Binpack, &mut two, &requests), (vec![2, 1], Ok(())));
        assert_eq!(place(&request(1, 0), &two, Strategy::Binpack, 0), Err(Unplaceable::Resources));
        // Without limits every node weighs the same: the one with most containers.
        assert_eq!(fill(Strategy::Binpack, &mut two, &vec![request(0, 0); 5]), (vec![7, 1], Ok(())));
    }

    #[test]
    fn a_node_can_be_filled_to_105_per_cent() {
        let mut hundred = [node(100, 1)];
        for (memory, fits) in [(90, true), (100, true), (105, true), (106, false)] {
            assert_eq!(place(&request(memory, 0), &hundred, Strategy::Spread, 0).is_ok(), fits, "{memory}");
        }
        assert_eq!(fill(Strategy::Spread, &mut hundred, &[request(100, 1), request(0, 1)]).1, Err(Unplaceable::Resources));
        assert_eq!((overcommitted_cpus(4 * CPU), overcommitted_cpus(20 * CPU)), (4 * CPU, 21 * CPU));
        assert_eq!((overcommitted_memory(100), overcommitted_memory(u64::MAX)), (105, u64::MAX));
        assert_eq!(overcommitted_cpus(u64::MAX), u64::MAX);
        let huge = Request { memory: u64::MAX, nano_cpus: u64::MAX, ..Request::default() };
        hundred[0] = Candidate { memory: u64::MAX, nano_cpus: u64::MAX, ..node(0, 0) };
        assert_eq!(fill(Strategy::Spread, &mut hundred, &[huge.clone(), huge]), (vec![1], Err(Unplaceable::Resources)));
    }

    #[test]
    fn chance_decides_among_equals_only() {
        let mut three = [node(1, 1), node(1, 1), node(1, 1)];
        three[1].add(&request(0, 0), "");
        let found = |strategy| (0..6).map(|random| place(&request(0, 0), &three, strategy, random).unwrap()).collect::<Vec<_>>();
        assert_eq!(found(Strategy::Spread), [0, 2, 0, 2, 0, 2]);
        assert_eq!(found(Strategy::Binpack), [1; 6]);
        assert_eq!(found(Strategy::Random), [0, 1, 2, 0, 1, 2]);
        // It does not look at resources, as classic Swarm's did not.
        assert_eq!(place(&request(9, 9), &three, Strategy::Random, u64::MAX), Ok(0));
    }

    #[test]
    fn names_of_strategies() {
        for (name, strategy) in [("spread", Strategy::Spread), ("binpack", Strategy::Binpack), ("random", Strategy::Random)] {
            assert_eq!(name.parse(), Ok(strategy));
            assert_eq!(strategy.to_string(), name);
        }
        assert_eq!("binpacking".parse(), Ok(Strategy::Binpack));
        let error = "Spread".parse::<Strategy>().unwrap_err().to_string();
        assert_eq!(error, "there is no strategy 'Spread': take spread, binpack or random");
    }
}
