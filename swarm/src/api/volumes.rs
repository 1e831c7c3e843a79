//! Volumes. One that is made here is made on every node, so that its containers find it wherever they are placed; `node/name` is the
//! one of that node.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
};

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{State, answer, ask::Ask, containers::prune_all, entry::Entry, fan, query::segment, refusal::Refusal, swarm_mode};
use crate::{cluster::Engine, transport::Body};

/// What `GET /volumes` of an engine says.
type Listed = Entry;

/// The node that a name means, and what is left of the name; none for a name on all nodes.
fn on_node<'a>(state: &State, name: &'a str) -> Option<(Arc<Engine>, &'a str)> {
    let (node, rest) = name.split_once('/')?;
    state.cluster.engine(node).map(|engine| (engine, rest))
}

/// `node/name` for a volume of one node; others keep their name.
fn shown(node: &str, volume: &mut Entry) {
    if is_local(volume) {
        volume.set("Name", &format!("{node}/{}", volume.text("Name")));
    }
}

fn is_local(volume: &Entry) -> bool {
    let scope = volume.text("Scope");
    scope.is_empty() || scope == "local"
}

/// `GET /volumes`
///
/// # Errors
///
/// The filters are wrong, or no engine answers.
pub async fn list(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let mut query = ask.query.clone();
    let mut filters = query.filters()?;
    let mut nodes = filters.take("node");
    for name in filters.take("name") {
        match on_node(state, &name) {
            Some((engine, rest)) => {
                nodes.insert(engine.name.clone());
                filters.add("name", rest);
            }
            None => filters.add("name", name),
        }
    }
    query.set_filters(&filters);
    let path = query.on(&ask.versioned("/volumes"));
    let mut engines = fan::some_healthy(&state.cluster)?;
    engines.retain(|engine| nodes.is_empty() || nodes.iter().any(|node| state.is_node(engine, node)));
    let answers = fan::all(engines, |engine| {
        let path = path.clone();
        async move { engine.client().read::<Listed>(&path).await }
    })
    .await;
    let (mut volumes, mut seen) = (Vec::new(), BTreeSet::new());
    for (engine, answer) in fan::agreed(answers)? {
        for mut volume in answer.list::<Entry>("Volumes") {
            shown(&engine.name, &mut volume);
            if seen.insert(volume.text("Name")) {
                volumes.push(volume);
            }
        }
    }
    Ok(answer::json(StatusCode::OK, &json!({ "Volumes": volumes, "Warnings": null })))
}

/// `POST /volumes/create`
///
/// # Errors
///
/// A node refused, or none answers.
pub async fn create(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (mut body, rest) = ask.json::<Value>().await?;
    if !body.is_object() {
        return Err(Refusal::bad_request("invalid JSON: the volume is no object"));
    }
    let target = rest.target("/volumes/create");
    if !body.get("ClusterVolumeSpec").is_none_or(Value::is_null) {
        let manager = swarm_mode::manager(state)?;
        return rest.send(&manager, &target, crate::transport::full(body.to_string())).await;
    }
    let name = body.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (engines, name) = match on_node(state, &name) {
        Some((engine, rest)) => (vec![engine], rest.to_owned()),
        // One name on all nodes.
        None if name.is_empty() => (fan::master_first(&state.cluster)?, unused_name()),
        None => (fan::master_first(&state.cluster)?, name),
    };
    body["Name"] = Value::String(name);
    let answers = fan::all(engines, |engine| {
        let (target, body) = (target.clone(), body.clone());
        async move {
            let (status, answer) = engine.client().json(Method::POST, &target, Some(&body)).await?;
            let _ = engine.refresh_volumes().await;
            match status.is_success() {
                true => Ok(answer),
                false => Err(Refusal::of_engine(status, &answer)),
            }
        }
    })
    .await;
    let made = fan::settle(answers.into_iter().map(|(engine, answer)| (engine.name.clone(), answer)).collect())?;
    Ok(answer::json(StatusCode::CREATED, made.first().unwrap_or(&Value::Null)))
}

/// 64 digits, as an engine names what has no name.
fn unused_name() -> String {
    // Each of these begins from a key of its own.
    (0..4).map(|_| format!("{:016x}", RandomState::new().build_hasher().finish())).collect()
}

/// The volumes of this name on the nodes that answer, the master's first.
async fn named(state: &State, ask: &Ask, name: &str) -> Result<Vec<(Arc<Engine>, Entry)>, Refusal> {
    let (engines, name) = match on_node(state, name) {
        Some((engine, rest)) => (vec![engine], rest),
        None => (fan::master_first(&state.cluster)?, name),
    };
    let path = ask.versioned(&format!("/volumes/{}", segment(name)));
    let answers = fan::all(engines, |engine| {
        let path = path.clone();
        async move { engine.client().read::<Entry>(&path).await }
    })
    .await;
    let (mut found, mut lost) = (Vec::new(), None);
    for (engine, answer) in answers {
        match answer {
            Ok(volume) => found.push((engine, volume)),
            Err(error) if error.refusal().is_some_and(|(status, _)| status == StatusCode::NOT_FOUND) => {}
            Err(error) => lost = Some(error),
        }
    }
    match (found.is_empty(), lost) {
        (false, _) => Ok(found),
        (true, Some(error)) => Err(error.into()),
        (true, None) => Err(Refusal::not_found(format!("get {name}: no such volume"))),
    }
}

/// `GET /volumes/{name}`: a plain name means the volume where it is on one node, or the same on all that have it.
///
/// # Errors
///
/// 404 where there is none, 409 where there are different ones.
pub async fn inspect(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let name = ask.name().to_owned();
    let found = named(state, &ask, &name).await?;
    let kind = |volume: &Entry| ["Driver", "Labels", "Options", "Scope"].map(|key| volume.get::<Value>(key));
    let (_, first) = &found[0];
    if found.iter().any(|(_, other)| kind(other) != kind(first)) {
        let choices: Vec<_> = found.iter().map(|(engine, _)| format!("{}/{name}", engine.name)).collect();
        return Err(Refusal::conflict(format!("volume {name} is ambiguous: say {}", choices.join(" or "))));
    }
    let text = serde_json::to_vec(first).map_err(|error| Refusal::failed(error.to_string()))?;
    Ok(answer::typed(StatusCode::OK, "application/json", crate::transport::full(text)))
}

/// `DELETE /volumes/{name}`: on all nodes that have it.
///
/// # Errors
///
/// 404 where there is none; a node refused.
pub async fn remove(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (engines, name) = match on_node(state, ask.name()) {
        Some((engine, rest)) => (vec![engine], rest),
        None => (fan::master_first(&state.cluster)?, ask.name()),
    };
    let target = ask.target(name);
    let answers = fan::all(engines, |engine| {
        let target = target.clone();
        async move {
            let (status, answer) = fan::patient(&engine, Method::DELETE, &target).await?;
            let _ = engine.refresh_volumes().await;
            match status.is_success() {
                true => Ok(()),
                false => Err(Refusal::of_engine(status, &serde_json::from_slice(&answer).unwrap_or_default())),
            }
        }
    })
    .await;
    fan::settle(answers.into_iter().map(|(engine, answer)| (engine.name.clone(), answer)).collect())?;
    Ok(answer::status(StatusCode::NO_CONTENT))
}

/// `POST /volumes/prune`
///
/// # Errors
///
/// A node refused, or none answers.
pub async fn prune(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    for (engine, answer) in prune_all(state, &ask).await? {
        deleted.extend(answer.list::<String>("VolumesDeleted").into_iter().map(|name| format!("{}/{name}", engine.name)));
        reclaimed += answer.get::<u64>("SpaceReclaimed").unwrap_or_default();
        let _ = engine.refresh_volumes().await;
    }
    Ok(answer::json(StatusCode::OK, &json!({ "VolumesDeleted": deleted, "SpaceReclaimed": reclaimed })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (volume, name) in [
            (json!({"Name": "data", "Scope": "local"}), "n1/data"),
            (json!({"Name": "data"}), "n1/data"),
            (json!({"Name": "shared", "Scope": "global"}), "shared"),
        ] {
            let mut entry = Entry::parse(&volume.to_string()).expect("an object");
            shown("n1", &mut entry);
            assert_eq!(entry.text("Name"), name);
        }
        assert_eq!(unused_name().len(), 64);
        assert_ne!(unused_name(), unused_name());
    }
}
