//! `exec`: its id says nothing of where it is, so that is kept from when it was made.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use http::{Response, StatusCode};

use super::{locate, taken_in};
use crate::{
    api::{State, answer, ask::Ask, fan, query::segment, refusal::Refusal},
    cluster::Engine,
    transport::Body,
};

/// How many are kept; older ones are searched for.
const KEPT: usize = 4096;

/// Which node an exec is on.
#[derive(Default)]
pub struct Execs(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    nodes: BTreeMap<String, String>,
    order: VecDeque<String>,
}

impl Execs {
    fn keep(&self, id: &str, node: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.nodes.insert(id.to_owned(), node.to_owned()).is_none() {
            kept.order.push_back(id.to_owned());
        }
        if kept.order.len() > KEPT {
            if let Some(oldest) = kept.order.pop_front() {
                kept.nodes.remove(&oldest);
            }
        }
    }

    fn node(&self, id: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).nodes.get(id).cloned()
    }
}

/// `POST /containers/{name}/exec`
///
/// # Errors
///
/// As [`locate`], or the engine does not answer.
pub async fn create(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engine, id) = locate(state, ask.name())?;
    let target = ask.target(&id);
    let (status, answer) = taken_in(&engine, ask.pass(&engine, &target).await?).await?;
    if let Some(id) = answer.get("Id").and_then(serde_json::Value::as_str).filter(|_| status.is_success()) {
        state.execs.keep(id, &engine.name);
    }
    Ok(answer::json(status, &answer))
}

/// `POST /exec/{id}/start`, `POST /exec/{id}/resize`, `GET /exec/{id}/json`
///
/// # Errors
///
/// No engine knows it, or its engine does not answer.
pub async fn pass(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let id = ask.name().to_owned();
    let engine = find(state, &ask, &id).await?;
    let target = ask.target(&id);
    ask.pass(&engine, &target).await
}

async fn find(state: &State, ask: &Ask, id: &str) -> Result<Arc<Engine>, Refusal> {
    if let Some(engine) = state.execs.node(id).and_then(|node| state.cluster.engine(&node)) {
        return match engine.snapshot().is_healthy() {
            true => Ok(engine),
            false => Err(Refusal::failed(format!("Exec {id} is on unhealthy node {}", engine.name))),
        };
    }
    let path = ask.versioned(&format!("/exec/{}/json", segment(id)));
    let asked = fan::all(fan::some_healthy(&state.cluster)?, |engine| {
        let path = path.clone();
        async move { engine.client().json(http::Method::GET, &path, None).await.is_ok_and(|(status, _)| status == StatusCode::OK) }
    })
    .await;
    let (engine, _) =
        asked.into_iter().find(|(_, has)| *has).ok_or_else(|| Refusal::not_found(format!("No such exec instance: {id}")))?;
    state.execs.keep(id, &engine.name);
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let execs = Execs::default();
        for number in 0..=KEPT {
            execs.keep(&number.to_string(), "node-1");
            execs.keep(&number.to_string(), "node-1");
        }
        assert_eq!(execs.node("0"), None);
        assert_eq!(execs.node("1").as_deref(), Some("node-1"));
        assert_eq!(execs.node(&KEPT.to_string()).as_deref(), Some("node-1"));
    }
}
