//! `GET /images/json`: the images of all nodes, each once.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map},
    sync::Arc,
};

use http::{Response, StatusCode};

use super::known;
use crate::{
    api::{State, answer, ask::Ask, entry::Entry, fan, refusal::Refusal},
    cluster::Engine,
    transport::{self, Body},
};

/// Lists them.
///
/// # Errors
///
/// The filters are wrong, or no engine answers.
pub async fn list(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let mut query = ask.query.clone();
    let mut filters = query.filters()?;
    let nodes = filters.take("node");
    let mark = |key: &str, values: std::collections::BTreeSet<String>| match values.into_iter().next() {
        None => Ok(None),
        Some(reference) => created(state, &reference)
            .map(Some)
            .ok_or_else(|| Refusal::bad_request(format!("Invalid filter: 'type'='{key}': no such image found: '{reference}'"))),
    };
    let (before, since) = (mark("before", filters.take("before"))?, mark("since", filters.take("since"))?);
    query.set_filters(&filters);
    let path = query.on(&ask.versioned("/images/json"));
    let mut engines = fan::master_first(&state.cluster)?;
    engines.retain(|engine| nodes.is_empty() || nodes.iter().any(|node| state.is_node(engine, node)));
    let answers = fan::all(engines, |engine: Arc<Engine>| {
        let path = path.clone();
        async move { engine.client().read::<Vec<Entry>>(&path).await }
    })
    .await;
    let mut images = merge(fan::agreed(answers)?.into_iter().map(|(_, list)| list));
    images.retain(|image| {
        let created = image.number("Created");
        before.is_none_or(|before| created < before) && since.is_none_or(|since| created > since)
    });
    let text = serde_json::to_vec(&images).map_err(|error| Refusal::failed(error.to_string()))?;
    Ok(answer::typed(StatusCode::OK, "application/json", transport::full(text)))
}

/// When the image was made.
fn created(state: &State, reference: &str) -> Option<i64> {
    state.cluster.engines().iter().find_map(|engine| {
        let snapshot = engine.snapshot();
        let image = snapshot.images.iter().find(|image| known::is(image, reference))?;
        Entry::parse(image.raw.get()).ok().map(|entry| entry.number("Created"))
    })
}

/// One entry an image, with the tags and digests of all; the youngest first.
pub fn merge(lists: impl IntoIterator<Item = Vec<Entry>>) -> Vec<Entry> {
    let mut images: BTreeMap<String, Entry> = BTreeMap::new();
    for image in lists.into_iter().flatten() {
        match images.entry(image.text("Id")) {
            btree_map::Entry::Vacant(place) => drop(place.insert(image)),
            btree_map::Entry::Occupied(mut place) => join(place.get_mut(), &image),
        }
    }
    let mut images: Vec<_> = images.into_values().collect();
    images.sort_by_cached_key(|image| Reverse(image.number("Created")));
    images
}

fn join(image: &mut Entry, other: &Entry) {
    for key in ["RepoTags", "RepoDigests"] {
        let mut own: Vec<String> = image.list(key);
        for name in other.list::<String>(key) {
            if !own.contains(&name) {
                own.push(name);
            }
        }
        if own.iter().any(|name| !name.starts_with("<none>")) {
            own.retain(|name| !name.starts_with("<none>"));
        }
        image.set(key, &own);
    }
    // Below zero: not counted.
    let (own, more) = (image.number("Containers"), other.number("Containers"));
    if own >= 0 && more > 0 {
        image.set("Containers", &own.saturating_add(more));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entries(list: Value) -> Vec<Entry> {
        serde_json::from_value(list).expect("a list of objects")
    }

    #[test]
    fn united_by_id() {
        let merged = merge([
            entries(json!([
                {"Id": "sha256:a", "Created": 1, "RepoTags": ["x:1"], "RepoDigests": null, "Size": 10, "Containers": -1},
                {"Id": "sha256:b", "Created": 3, "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"], "Containers": 1}
            ])),
            entries(json!([
                {"Id": "sha256:a", "Created": 1, "RepoTags": ["x:1", "y:2"], "RepoDigests": ["x@sha256:0"], "Size": 10, "Containers": -1},
                {"Id": "sha256:b", "Created": 3, "RepoTags": ["b:1"], "RepoDigests": [], "Containers": 2},
                {"Id": "sha256:c", "Created": 2}
            ])),
        ]);
        assert_eq!(
            serde_json::to_value(&merged).expect("JSON"),
            json!([
                {"Id": "sha256:b", "Created": 3, "RepoTags": ["b:1"], "RepoDigests": ["<none>@<none>"], "Containers": 3},
                {"Id": "sha256:c", "Created": 2},
                {"Id": "sha256:a", "Created": 1, "RepoTags": ["x:1", "y:2"], "RepoDigests": ["x@sha256:0"], "Size": 10, "Containers": -1}
            ])
        );
    }
}
