//! The node program's part of Consul against a real Consul 1.8.7: agents with the node program's own configuration, on addresses of the
//! loopback interface.
//!
//! The judge is Debian's program, which `scripts/consul` fetches; without it these tests fail. What is waited for is looked at until it
//! is there, for a bounded time.

#![cfg(target_os = "linux")]

#[path = "consul/agent.rs"]
mod agent;
#[path = "consul/figures.rs"]
mod figures;
#[path = "consul/founding.rs"]
mod founding;
#[path = "consul/growing.rs"]
mod growing;
#[path = "consul/leading.rs"]
mod leading;
#[path = "consul/losing.rs"]
mod losing;
#[path = "consul/strangers.rs"]
mod strangers;
#[path = "consul/users.rs"]
mod users;
