//! Several nodes and foreign machines on one wire: the real program, and clients and servers of others, in namespaces on a bridge.
//!
//! The bridge carries no VLAN here, `vlan = "off"`; tags are real in the boot of the image (`hcl-image test --nodes 3`). What is
//! waited for is looked at until it is there, for a bounded time; a judge that is not installed fails its test.

#![cfg(target_os = "linux")]

#[path = "peers/alone.rs"]
mod alone;
#[path = "peers/avahi.rs"]
mod avahi;
#[path = "peers/clients.rs"]
mod clients;
#[path = "peers/lab.rs"]
mod lab;
#[path = "peers/nodes.rs"]
mod nodes;
#[path = "peers/role.rs"]
mod role;
#[path = "peers/servers.rs"]
mod servers;
#[path = "common/shell.rs"]
mod shell;
