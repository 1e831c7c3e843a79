//! What the tests of the Swarm API stand on: real engines on a wire, `hcl-swarm` on them, Docker's own clients on a laptop.
//!
//! Start from [`Cluster`] (what there is) and [`Client`] (what a person types). All of it ends with the [`Cluster`].
//! It needs root, as real engines do, and the packages of `scripts/install-packages test`; what is missing fails.

// Each test uses its part of it.
#![allow(dead_code)]

pub mod certificates;
pub mod client;
pub mod cluster;
pub mod consul;
pub mod programs;
#[path = "../../../firstboot/tests/common/shell.rs"]
mod shell;
pub mod simulated;
pub mod table;
pub mod terminal;
pub mod tls;
#[path = "../../../firstboot/tests/engine/lab.rs"]
mod wire;

pub use self::{
    client::Client,
    cluster::{Cluster, Machine},
    wire::IMAGE,
};

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a busy machine may take for what should take a second.
const PATIENCE: Duration = Duration::from_secs(90);

/// Looks until there is something to be seen; fails after [`PATIENCE`].
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// Looks until there is something to be seen; fails after `limit`.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    look_within(limit, look).unwrap_or_else(|| panic!("waited {} s for {what}", limit.as_secs()))
}

/// Looks until there is something to be seen, for at most `limit`.
pub fn look_within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let seen = look();
        if seen.is_some() || Instant::now() > end {
            return seen;
        }
        thread::sleep(Duration::from_millis(50));
    }
}
