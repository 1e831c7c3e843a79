//! Where a container goes: the scheduler of classic Swarm, as a pure function.
//!
//! [`Request::take`] reads what `docker create` sends and takes the scheduling expressions out of it; [`place`] picks one of the
//! [`Candidate`]s. There is no clock, no input or output and no source of chance in here: whoever calls describes the nodes and
//! passes a random number in, so that every decision can be replayed.
//!
//! The filters run in classic Swarm's order (health, port, containerslots, dependency, affinity, constraint), first with soft
//! expressions enforced, then, if nothing is left, without them. The [`Strategy`] ranks what is left. Texts of errors are
//! classic Swarm's, since people search for them.

mod candidate;
mod expression;
mod filter;
mod glob;
mod kept;
mod port;
mod request;
mod strategy;

use thiserror::Error;

pub use self::{
    candidate::{Candidate, PlacedContainer, PlacedImage},
    expression::{BadExpression, Expression, Family, Operator, Wrong},
    filter::Filter,
    port::{ExposedPort, Protocol, PublishedPort, WantedPort},
    request::{Dependency, Request, Sharing},
    strategy::{Strategy, UnknownStrategy, overcommitted_cpus, overcommitted_memory},
};

/// Why no node takes the container. `Display` is what classic Swarm said.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unplaceable {
    /// The health filter left no node.
    #[error("No healthy node available in the cluster")]
    Unhealthy,
    /// A later filter left no node.
    #[error("Unable to find a node that satisfies the following conditions {}", list(.conditions))]
    Conditions {
        /// The filter that left none.
        filter: Filter,
        /// What the filters asked for, one list for each up to `filter`, without those that asked nothing.
        conditions: Vec<Vec<String>>,
    },
    /// The filters left nodes, and none of them has the memory or the CPUs.
    #[error("no resources available to schedule container")]
    Resources,
}

/// As Go prints lists of strings, each on a line of its own.
fn list(conditions: &[Vec<String>]) -> String {
    conditions.iter().map(|condition| format!("\n[{}]", condition.join(" "))).collect()
}

/// The index of the candidate on which the container is to be created. Among equals, `random` decides.
///
/// # Errors
///
/// [`Unplaceable`], with the reason found without soft expressions.
pub fn place(request: &Request, candidates: &[Candidate], strategy: Strategy, random: u64) -> Result<usize, Unplaceable> {
    let attempt = |soft| {
        let left = filter::apply(request, candidates, soft)?;
        strategy.pick(request, candidates, &left, random).ok_or(Unplaceable::Resources)
    };
    attempt(true).or_else(|_| attempt(false))
}

/// The indexes of all candidates that pass the filters, ascending; resources are not looked at. Soft expressions count as long as
/// they leave one.
///
/// # Errors
///
/// [`Unplaceable`] where the filters leave none.
pub fn eligible(request: &Request, candidates: &[Candidate]) -> Result<Vec<usize>, Unplaceable> {
    filter::apply(request, candidates, true).or_else(|_| filter::apply(request, candidates, false))
}
