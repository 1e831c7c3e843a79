//! Swarm mode's own endpoints: services, tasks, nodes, secrets, configs. A manager answers them, unchanged.

use std::sync::Arc;

use http::Response;

use super::{State, ask::Ask, refusal::Refusal};
use crate::{cluster::Engine, transport::Body};

/// A manager that answers.
///
/// # Errors
///
/// 503 where there is none.
pub fn manager(state: &State) -> Result<Arc<Engine>, Refusal> {
    state.cluster.manager().ok_or_else(|| Refusal::unavailable("no manager of the swarm answers: see hcl health on a node"))
}

/// Passes the request to a manager.
///
/// # Errors
///
/// There is none, or it does not answer.
pub async fn pass(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let manager = manager(state)?;
    let target = ask.target(ask.name());
    ask.pass(&manager, &target).await
}
