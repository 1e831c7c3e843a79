//! Consul's container.

use std::{collections::BTreeMap, path::PathBuf};

use super::{RUN, STATE};
use crate::engine::{ContainerSpec, Mount};

/// What it is called.
pub const NAME: &str = "hcl-consul";

/// What the engine runs: `image` on the host's network, its files on the card, with these further labels.
///
/// The states of checks lie in memory: Consul writes each beat of a check that must be told of to a file, and after a start the next
/// beat brings it back.
pub fn spec(image: &str, labels: BTreeMap<String, String>) -> ContainerSpec {
    let mount = |source: &str, target: &str| Mount { source: source.into(), target: target.into(), read_only: false };
    ContainerSpec {
        // Whatever the image starts by itself: images differ.
        command: ["consul", "agent", "-config-dir=/consul/config"].map(str::to_owned).to_vec(),
        user: Some("0:0".to_owned()),
        mounts: vec![mount(STATE, "/consul"), mount(RUN, RUN)],
        tmpfs: vec![PathBuf::from("/consul/data/checks/state"), PathBuf::from("/tmp")],
        labels,
        ..ContainerSpec::new(NAME, image)
    }
}
