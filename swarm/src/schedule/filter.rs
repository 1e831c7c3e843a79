//! The filters, in classic Swarm's order. Each says of one candidate whether it will do, and what it asked for.

use std::fmt;

use super::{Candidate, Expression, Request, Unplaceable};

/// What can be wrong with a node for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// It answers.
    Health,
    /// The ports are free.
    Port,
    /// It has fewer containers than its label `containerslots` says.
    Containerslots,
    /// The containers whose volumes, network and the like are to be shared are there.
    Dependency,
    /// What is on it matches.
    Affinity,
    /// It matches itself.
    Constraint,
}

impl Filter {
    /// All, in the order in which they run.
    pub const ALL: [Self; 6] =
        [Self::Health, Self::Port, Self::Containerslots, Self::Dependency, Self::Affinity, Self::Constraint];

    fn accepts(self, request: &Request, candidate: &Candidate, soft: bool) -> bool {
        let enforced = |expression: &&Expression| soft || !expression.is_soft();
        match self {
            Self::Health => candidate.healthy,
            Self::Port => ports_are_free(request, candidate),
            Self::Containerslots => has_slot(candidate),
            Self::Dependency => {
                request.dependencies.iter().all(|dependency| candidate.container(dependency.container()).is_some())
            }
            Self::Affinity => request.affinities.iter().filter(enforced).all(|affinity| attracts(affinity, candidate)),
            Self::Constraint => request.constraints.iter().filter(enforced).all(|constraint| meets(constraint, candidate)),
        }
    }

    /// What it asked for, in the words of classic Swarm's error.
    fn conditions(self, request: &Request) -> Vec<String> {
        match self {
            Self::Health => Vec::new(),
            Self::Port if request.host_network => request.exposed.iter().map(|port| format!("port {port} (Host mode)")).collect(),
            Self::Port => request.ports.iter().map(|port| format!("port {port} (Bridge mode)")).collect(),
            Self::Containerslots => vec!["available container slots".to_owned()],
            Self::Dependency => request.dependencies.iter().map(ToString::to_string).collect(),
            Self::Affinity => request.affinities.iter().map(|wish| format!("{wish} (soft={})", wish.is_soft())).collect(),
            Self::Constraint => request.constraints.iter().map(ToString::to_string).collect(),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Health => "health",
            Self::Port => "port",
            Self::Containerslots => "containerslots",
            Self::Dependency => "dependency",
            Self::Affinity => "affinity",
            Self::Constraint => "constraint",
        })
    }
}

/// The indexes of the candidates that all filters accept.
pub(super) fn apply(request: &Request, candidates: &[Candidate], soft: bool) -> Result<Vec<usize>, Unplaceable> {
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    for (position, filter) in Filter::ALL.into_iter().enumerate() {
        left.retain(|index| filter.accepts(request, &candidates[*index], soft));
        if left.is_empty() {
            if filter == Filter::Health {
                return Err(Unplaceable::Unhealthy);
            }
            let conditions = Filter::ALL[..=position].iter().map(|filter| filter.conditions(request));
            return Err(Unplaceable::Conditions { filter, conditions: conditions.filter(|list| !list.is_empty()).collect() });
        }
    }
    Ok(left)
}

/// On the node's network the exposed ports count, against those of other containers there; else the published ones.
fn ports_are_free(request: &Request, candidate: &Candidate) -> bool {
    if request.host_network {
        let mut there = candidate.containers.iter().filter(|container| container.host_network);
        return !there.any(|container| container.exposed.iter().any(|port| request.exposed.contains(port)));
    }
    request.ports.iter().all(|port| port.is_free(candidate.containers.iter().flat_map(|container| &container.ports)))
}

/// A label that is no number sets no limit.
fn has_slot(candidate: &Candidate) -> bool {
    let limit = candidate.labels.get("containerslots").and_then(|slots| slots.parse::<i64>().ok());
    limit.is_none_or(|limit| i64::try_from(candidate.containers.len()).is_ok_and(|containers| containers < limit))
}

/// A label that the node does not have is as an empty one.
fn meets(constraint: &Expression, candidate: &Candidate) -> bool {
    match constraint.key() {
        "node" => constraint.holds(candidate.names.iter().chain([&candidate.id]).map(String::as_str)),
        key => constraint.holds([candidate.labels.get(key).map_or("", String::as_str)]),
    }
}

/// A label that a container does not have is as an empty one.
fn attracts(affinity: &Expression, candidate: &Candidate) -> bool {
    let containers = candidate.containers.iter();
    match affinity.key() {
        "container" => affinity.holds(containers.flat_map(|container| {
            let id = Some(container.id.as_str()).filter(|id| !id.is_empty());
            id.into_iter().chain(container.short_id()).chain(container.plain_names())
        })),
        "image" => affinity.holds(candidate.images.iter().flat_map(|image| image.references())),
        key => affinity.holds(containers.map(|container| container.labels.get(key).map_or("", String::as_str))),
    }
}
