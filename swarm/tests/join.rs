//! `hcl-swarm join` and the demo against a real engine, a real Consul 1.8.7 with the node program's own configuration, a real Compose and
//! a real HAProxy, each test in a network namespace of its own. Needs root.
//!
//! A judge that is missing fails the tests: `scripts/install-packages test`.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../firstboot/tests/consul/agent.rs"]
mod agent;
#[path = "join/carrier.rs"]
mod carrier;
#[path = "join/demo.rs"]
mod demo;
#[path = "join/dns.rs"]
mod dns;
#[path = "join/figures.rs"]
mod figures;
#[path = "join/host.rs"]
mod host;
#[path = "join/registrar.rs"]
mod registrar;
