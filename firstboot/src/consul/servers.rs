//! Which nodes are to be servers: of Consul, and managers of the swarm.
//!
//! The list is kept in the cluster before anything is done about it. Whoever leads makes it true; one that stops on the way leaves the
//! rest to the next one.

use super::{
    Client, Error,
    keys::SERVERS,
    kv::{Freshness, If},
};
use crate::identity::NodeId;

/// The list as the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The nodes.
    pub nodes: Vec<NodeId>,
    /// What to give when it is written anew.
    pub condition: If,
}

/// The list to be kept next; none where that which is kept is as it should be, or nothing can be done about it yet.
///
/// One server for one or two members, three from three on, and `most` (3 or 5) where there are as many members. Members that are away
/// count, for they come back; nothing shrinks by itself. It grows at once or not at all, with `healthy` members: two servers would be
/// worse than one, since both are needed then.
pub fn plan(wanted: &[NodeId], members: usize, most: usize, healthy: &[NodeId]) -> Option<Vec<NodeId>> {
    let fits = |servers: &usize| *servers <= members && *servers <= most.max(1);
    let size = [5, 3, 1].into_iter().find(fits)?;
    let missing = size.checked_sub(wanted.len()).filter(|missing| *missing > 0)?;
    let mut candidates: Vec<NodeId> = healthy.iter().filter(|node| !wanted.contains(node)).copied().collect();
    candidates.sort();
    candidates.dedup();
    let chosen = candidates.get(..missing)?;
    Some(wanted.iter().chain(chosen).copied().collect())
}

impl Client {
    /// The list, none of it where nothing was kept yet.
    ///
    /// # Errors
    ///
    /// Consul does not say, or has something else there.
    pub fn wanted_servers(&self) -> Result<Wanted, Error> {
        let Some(entry) = self.value(SERVERS, Freshness::Consistent)? else {
            return Ok(Wanted { nodes: Vec::new(), condition: If::Absent });
        };
        let nodes = serde_json::from_slice(&entry.value);
        let nodes = nodes.map_err(|error| Error::Unexpected { what: format!("GET /v1/kv/{SERVERS}"), why: error.to_string() })?;
        Ok(Wanted { nodes, condition: If::Unchanged(entry.modified) })
    }

    /// Keeps the list, if nobody else did since it was read; whether it was kept.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn want_servers(&self, nodes: &[NodeId], condition: If) -> Result<bool, Error> {
        // Strings: nothing in it can fail.
        let value = serde_json::to_vec(nodes).unwrap_or_default();
        self.put_if(SERVERS, &value, condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u8]) -> Vec<NodeId> {
        numbers.iter().map(|number| NodeId([*number; 16])).collect()
    }

    #[test]
    fn how_many() {
        type Row = (&'static [u8], usize, usize, &'static [u8], Option<&'static [u8]>);
        // (wanted, members, most, healthy, next)
        let table: [Row; 14] = [
            (&[], 1, 3, &[7], Some(&[7])),
            (&[7], 1, 3, &[7], None),
            (&[7], 2, 3, &[7, 1], None),
            (&[7], 3, 3, &[7, 2, 1], Some(&[7, 1, 2])),
            // One of three is away: two servers would be worse than one.
            (&[7], 3, 3, &[7, 2], None),
            // The server itself is away, and two others are there: nothing to ask a majority, but the answer is the same.
            (&[7], 4, 3, &[1, 2], Some(&[7, 1, 2])),
            (&[7, 1, 2], 9, 3, &[7, 1, 2, 3, 4], None),
            (&[7, 1, 2], 9, 5, &[7, 1, 2, 4, 3], Some(&[7, 1, 2, 3, 4])),
            (&[7, 1, 2], 4, 5, &[7, 1, 2, 3], None),
            (&[7, 1, 2], 5, 5, &[7, 1, 2, 3], None),
            // Nothing shrinks.
            (&[7, 1, 2], 2, 3, &[7, 1], None),
            (&[7, 1, 2, 3, 4], 9, 3, &[7], None),
            // One was removed by a person.
            (&[7, 1], 3, 3, &[7, 1, 3], Some(&[7, 1, 3])),
            (&[], 0, 3, &[], None),
        ];
        for (wanted, members, most, healthy, next) in table {
            let found = plan(&ids(wanted), members, most, &ids(healthy));
            assert_eq!(found, next.map(ids), "{wanted:?} of {members}, at most {most}, healthy {healthy:?}");
        }
    }
}
