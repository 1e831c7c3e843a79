//! An engine's containers as they are shown, and what it says of itself that hardly ever changes: for that it is asked after a change of its
//! containers, and once a minute.

use std::time::{Duration, Instant};

use crate::{
    engine::{Container, Engine},
    view,
};

/// How old it may become. What a user makes without a container counts that much later.
const EVERY: Duration = Duration::from_secs(60);

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// The engine's version; empty before it said so.
    pub(super) version: String,
    /// What it was compiled for.
    pub(super) arch: String,
    /// Whether it holds something of a user's.
    pub(super) used: bool,
    asked: Option<Instant>,
    /// The containers at that time.
    containers: Vec<String>,
}

impl Inventory {
    /// Asks `engine`, which has these `containers`, where that is due.
    pub(super) fn look(&mut self, engine: &Engine, containers: &[Container], now: Instant) {
        if !self.is_due(containers, now) {
            return;
        }
        if let Ok(version) = engine.version() {
            (self.version, self.arch) = (version.version, version.arch);
        }
        // Who does not know says nothing new: nothing may be thrown away for that.
        match engine.users_objects() {
            Ok(used) => self.used = used,
            Err(_) => self.asked = None,
        }
    }

    fn is_due(&mut self, containers: &[Container], now: Instant) -> bool {
        let ids: Vec<_> = containers.iter().map(|container| container.id.clone()).collect();
        if self.asked.is_some_and(|at| now < at + EVERY) && ids == self.containers {
            return false;
        }
        (self.asked, self.containers) = (Some(now), ids);
        true
    }
}

/// The containers as the page shows them, by name.
pub(super) fn shown(containers: Vec<Container>) -> Vec<view::Container> {
    let one = |container: Container| view::Container {
        name: container.name().to_owned(),
        system: container.is_ours(),
        ports: container.ports(),
        image: view::image(&container.image),
        state: container.state,
        status: container.status,
    };
    let mut shown: Vec<_> = containers.into_iter().map(one).collect();
    shown.sort_by(|a, b| a.name.cmp(&b.name));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_change_and_once_a_minute() {
        let container = |id: &str| -> Container {
            let text = format!(r#"{{"Id":"{id}","Image":"web:1","State":"running","Status":"Up"}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut inventory = Inventory::default();
        let mut due = |containers: &[Container], seconds| inventory.is_due(containers, at(seconds));
        assert!(due(&[], 0));
        assert!(!due(&[], 3));
        assert!(due(&[container("a")], 6));
        assert!(!due(&[container("a")], 9));
        assert!(due(&[container("b")], 12));
        assert!(!due(&[container("b")], 71));
        assert!(due(&[container("b")], 72));
        assert!(due(&[], 73));
    }
}
