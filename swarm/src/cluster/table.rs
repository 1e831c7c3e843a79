//! The containers of one engine, as answers to overlapping questions come in.
//!
//! One container is asked for after each of its events, and all of them now and then. An answer tells of a moment after its
//! question, so the later *question* wins, whatever order the answers come in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Container;

/// When something was asked: greater is later.
pub(super) type Ticket = u64;

/// See the module.
#[derive(Default)]
pub(super) struct Table {
    containers: BTreeMap<String, Arc<Container>>,
    /// What was asked for on its own, and when: since the last time that all were taken in.
    single: BTreeMap<String, Ticket>,
    /// When all were asked for that were taken in last.
    full: Ticket,
    last: Ticket,
}

impl Table {
    /// To be drawn right before asking.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.last = self.last.saturating_add(1);
        self.last
    }

    pub(super) fn find(&self, id: &str) -> Option<&Arc<Container>> {
        self.containers.get(id)
    }

    /// Takes in one container; none for one that is no more. Whether it was news.
    pub(super) fn put(&mut self, asked: Ticket, id: &str, container: Option<Arc<Container>>) -> bool {
        if asked < self.full || self.single.get(id).is_some_and(|known| *known > asked) {
            return false;
        }
        self.single.insert(id.to_owned(), asked);
        match container {
            Some(container) => {
                self.containers.insert(id.to_owned(), container);
                true
            }
            None => self.containers.remove(id).is_some(),
        }
    }

    /// Takes in all containers there are.
    pub(super) fn put_all(&mut self, asked: Ticket, all: Vec<Arc<Container>>) {
        self.full = asked;
        // What was asked for on its own later than this is known better.
        self.single.retain(|_, single| *single > asked);
        let better: BTreeSet<&str> = self.single.keys().map(String::as_str).collect();
        self.containers.retain(|id, _| better.contains(id.as_str()));
        for container in all {
            if !better.contains(container.id.as_str()) {
                self.containers.insert(container.id.clone(), container);
            }
        }
    }

    /// All of them, the youngest first.
    pub(super) fn list(&self) -> Arc<[Arc<Container>]> {
        let mut list: Vec<_> = self.containers.values().map(Arc::clone).collect();
        list.sort_by_key(|container| std::cmp::Reverse(container.created));
        list.into()
    }
}
