//! Real engines, `dockerd` of this machine, each on a machine of its own: network, host name, mounts, processes.
//!
//! Their only way out is a bridge without a way out. Needs root, as a real engine does; the image in their stores is made of this
//! machine's busybox.

#![cfg(target_os = "linux")]

#[path = "engine/containers.rs"]
mod containers;
#[path = "engine/endpoint.rs"]
mod endpoint;
#[path = "engine/lab.rs"]
mod lab;
#[path = "engine/revive.rs"]
mod revive;
#[path = "common/shell.rs"]
mod shell;
#[path = "engine/swarm.rs"]
mod swarm;
