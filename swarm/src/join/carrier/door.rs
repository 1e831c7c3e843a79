//! How many may come in.
//!
//! Who has shown no certificate yet takes none of the places of those who have, and one address not all places before the door.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many may be in a handshake at once.
const WAITING: usize = 64;
/// How many of those from one address.
const WAITING_EACH: usize = 16;
/// How many connections to the engine there may be at once. One that is busy costs 70 KiB.
const INSIDE: usize = 512;

/// Counts who is before the door and who is inside.
#[derive(Debug, Default)]
pub struct Door {
    waiting: Mutex<HashMap<IpAddr, usize>>,
    inside: AtomicUsize,
}

impl Door {
    /// A place before the door, until it is dropped; none where there are too many.
    pub fn knock(self: &Arc<Self>, from: IpAddr) -> Option<Waiting> {
        let mut waiting = self.waiting();
        let mine = waiting.get(&from).copied().unwrap_or(0);
        if mine >= WAITING_EACH || waiting.values().sum::<usize>() >= WAITING {
            return None;
        }
        waiting.insert(from, mine + 1);
        Some(Waiting { door: self.clone(), from })
    }

    /// A place inside, until it is dropped; none where there are too many.
    pub fn enter(self: &Arc<Self>) -> Option<Inside> {
        let inside = Inside(self.clone());
        (self.inside.fetch_add(1, Ordering::Relaxed) < INSIDE).then_some(inside)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place before the door.
#[derive(Debug)]
pub struct Waiting {
    door: Arc<Door>,
    from: IpAddr,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.door.waiting();
        match waiting.get_mut(&self.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(waiting.remove(&self.from)),
        }
    }
}

/// A place inside.
#[derive(Debug)]
pub struct Inside(Arc<Door>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_for_others() {
        let door = Arc::new(Door::default());
        let from = |last| IpAddr::from([192, 168, 200, last]);
        let mut there: Vec<_> = (0..WAITING_EACH).map(|_| door.knock(from(10)).unwrap()).collect();
        assert!(door.knock(from(10)).is_none());
        for host in 11..14 {
            there.extend((0..WAITING_EACH).map(|_| door.knock(from(host)).unwrap()));
        }
        assert!(door.knock(from(14)).is_none());
        there.remove(0);
        let fourteen = door.knock(from(14)).unwrap();
        assert!(door.knock(from(10)).is_none());
        drop((there, fourteen));
        assert!(door.waiting().is_empty());
    }

    #[test]
    fn places_inside_are_given_back() {
        let door = Arc::new(Door::default());
        let mut there: Vec<_> = (0..INSIDE).map(|_| door.enter().unwrap()).collect();
        assert!(door.enter().is_none());
        assert!(door.enter().is_none());
        there.pop();
        there.push(door.enter().unwrap());
        assert!(door.enter().is_none());
        drop(there);
        assert_eq!(door.inside.load(Ordering::Relaxed), 0);
    }
}
