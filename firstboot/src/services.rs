//! Engine, Consul and swarm of a node: from a network to a cluster, and kept so.
//!
//! A process of its own, `hcl-firstboot cluster`, beside the one that makes the network: it may fail and start again without taking
//! the network away. What it sees goes through [`plan::next`], which says the one step to make.

mod agent;
pub mod anew;
mod caller;
mod copied;
mod door;
mod duties;
pub mod endpoint;
pub(crate) mod host_key;
pub(crate) mod images;
mod inventory;
pub mod kept;
pub mod orders;
pub(crate) mod place;
pub mod plan;
mod promote;
pub mod recover;
mod report;
pub mod role;
mod run;
pub mod state;
mod systemctl;

pub use run::run;
