//! What is done with an image on every node that has it: tags, removal, pruning.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::holders;
use crate::{
    api::{State, answer, ask::Ask, containers::prune_all, fan, refusal::Refusal},
    cluster::Engine,
    transport::Body,
};

/// `POST /images/{name}/tag`
///
/// # Errors
///
/// 404 where no node has it; a node refused.
pub async fn tag(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    on_all_that_have(state, &ask, Method::POST).await?;
    Ok(answer::status(StatusCode::CREATED))
}

/// `DELETE /images/{name}`: what was untagged and deleted on all nodes, each once.
///
/// # Errors
///
/// 404 where no node has it; a node refused.
pub async fn remove(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let answers = on_all_that_have(state, &ask, Method::DELETE).await?;
    Ok(answer::json(StatusCode::OK, &Value::Array(once(answers.iter().filter_map(Value::as_array)))))
}

fn once<'a>(lists: impl Iterator<Item = &'a Vec<Value>>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for item in lists.flatten() {
        if !kept.contains(item) {
            kept.push(item.clone());
        }
    }
    kept
}

/// Sends the request, which has no body, to each engine that has the image; where none is known to, to all. The answers of those that
/// did it.
async fn on_all_that_have(state: &State, ask: &Ask, method: Method) -> Result<Vec<Value>, Refusal> {
    let name = ask.name();
    let mut engines = holders(state, &[name])?;
    if engines.is_empty() {
        engines = fan::master_first(&state.cluster)?;
    }
    let target = ask.target(name);
    let answers = fan::all(engines, |engine: Arc<Engine>| {
        let (target, method) = (target.clone(), method.clone());
        async move {
            let (status, bytes) = fan::patient(&engine, method, &target).await?;
            let answer = serde_json::from_slice(&bytes).unwrap_or_default();
            let _ = engine.refresh_images().await;
            match status.is_success() {
                true => Ok(answer),
                false => Err(Refusal::of_engine(status, &answer)),
            }
        }
    })
    .await;
    fan::settle(answers.into_iter().map(|(engine, answer)| (engine.name.clone(), answer)).collect())
}

/// `POST /images/prune`
///
/// # Errors
///
/// A node refused, or none answers.
pub async fn prune(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (mut lists, mut reclaimed) = (Vec::new(), 0);
    for (engine, answer) in prune_all(state, &ask).await? {
        lists.push(answer.list::<Value>("ImagesDeleted"));
        reclaimed += answer.get::<u64>("SpaceReclaimed").unwrap_or_default();
        let _ = engine.refresh_images().await;
    }
    Ok(answer::json(StatusCode::OK, &json!({ "ImagesDeleted": once(lists.iter()), "SpaceReclaimed": reclaimed })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once() {
        let lists = [vec![json!({"Untagged": "x"}), json!({"Deleted": "y"})], vec![json!({"Deleted": "y"})]];
        assert_eq!(once(lists.iter()), [json!({"Untagged": "x"}), json!({"Deleted": "y"})]);
    }
}
