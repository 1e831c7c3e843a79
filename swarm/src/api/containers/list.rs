//! `GET /containers/json`: the containers of all nodes.
//!
//! Each engine that answers lists its own, by its own filters, so that what is shown is as right as on one engine. Of those that do
//! not answer, what was known last is shown as [`HOST_DOWN`](super::shown::HOST_DOWN), by the filters in [`down`](super::down).

use std::{cmp::Reverse, sync::Arc};

use http::{Response, StatusCode};

use super::{down, shown};
use crate::{
    api::{State, answer, ask::Ask, entry::Entry, fan, filters::Filters, refusal::Refusal},
    cluster::Engine,
    transport::{self, Body},
};

/// Which containers are wanted, as far as one engine cannot tell.
struct Window {
    limit: Option<usize>,
    before: Option<Mark>,
    since: Option<Mark>,
}

/// A container that others are older or younger than.
struct Mark {
    id: String,
    created: i64,
}

/// Lists them.
///
/// # Errors
///
/// The filters are wrong, or no engine answers.
pub async fn list(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let mut query = ask.query.clone();
    let mut filters = query.filters()?;
    let nodes = filters.take("node");
    let mark = |values: std::collections::BTreeSet<String>| match values.into_iter().next() {
        Some(value) => {
            let (_, container) = state.cluster.find_container(&value)?;
            Ok::<_, Refusal>(Some(Mark { id: container.id.clone(), created: container.created }))
        }
        None => Ok(None),
    };
    let limit = query.get("limit").and_then(|limit| limit.parse::<usize>().ok()).filter(|&limit| limit > 0);
    let window = Window { limit, before: mark(filters.take("before"))?, since: mark(filters.take("since"))? };
    if limit.is_some() && (window.before.is_some() || window.since.is_some()) {
        // Cut here, and a limit includes those that do not run.
        query.take("limit");
        query.set("all", "1");
    }
    query.set_filters(&filters);
    let all = query.flag("all") || limit.is_some() || filters.has("status");
    let path = query.on(&ask.versioned("/containers/json"));

    let wanted = |engine: &Arc<Engine>| nodes.is_empty() || nodes.iter().any(|node| state.is_node(engine, node));
    let engines: Vec<_> = state.cluster.engines().into_iter().filter(wanted).collect();
    let listed = fan::all(engines, |engine| {
        let path = path.clone();
        async move {
            match engine.snapshot().is_healthy() {
                true => Some(engine.client().read::<Vec<Entry>>(&path).await),
                false => None,
            }
        }
    })
    .await;
    let mut entries = Vec::new();
    for (engine, list) in listed {
        match list {
            Some(Ok(list)) => entries.extend(list.into_iter().map(|mut entry| {
                shown::summary(&mut entry, &engine.name, engine.address);
                entry
            })),
            Some(Err(error)) if error.refusal().is_some() => return Err(error.into()),
            // It has just stopped to answer.
            Some(Err(_)) | None if all => entries.extend(lost(&engine, &filters)),
            Some(Err(_)) | None => {}
        }
    }
    let text = serde_json::to_vec(&window.cut(entries)).map_err(|error| Refusal::failed(error.to_string()))?;
    Ok(answer::typed(StatusCode::OK, "application/json", transport::full(text)))
}

/// What was known last of an engine that does not answer.
fn lost(engine: &Engine, filters: &Filters) -> Vec<Entry> {
    let snapshot = engine.snapshot();
    let known = snapshot.containers.iter().filter(|container| down::fits(filters, container));
    let entries = known.filter_map(|container| Entry::parse(container.raw.get()).ok());
    entries
        .map(|mut entry| {
            shown::summary(&mut entry, &engine.name, engine.address);
            entry.set("Status", &shown::HOST_DOWN);
            entry
        })
        .collect()
}

impl Window {
    /// The youngest first; each engine's own order stays where the second is the same.
    fn cut(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        entries.sort_by_cached_key(|entry| Reverse(entry.number("Created")));
        let position = |entries: &[Entry], mark: &Mark| entries.iter().position(|entry| entry.text("Id") == mark.id);
        if let Some(mark) = &self.before {
            match position(&entries, mark) {
                Some(index) => drop(entries.drain(..=index)),
                None => entries.retain(|entry| entry.number("Created") <= mark.created),
            }
        }
        if let Some(mark) = &self.since {
            match position(&entries, mark) {
                Some(index) => entries.truncate(index),
                None => entries.retain(|entry| entry.number("Created") >= mark.created),
            }
        }
        entries.truncate(self.limit.unwrap_or(usize::MAX));
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(list: &[(&str, i64)]) -> Vec<Entry> {
        let entry = |(id, created): &(&str, i64)| Entry::parse(&format!(r#"{{"Id":"{id}","Created":{created}}}"#));
        list.iter().map(|own| entry(own).expect("an object")).collect()
    }

    fn mark(id: &str, created: i64) -> Option<Mark> {
        Some(Mark { id: id.to_owned(), created })
    }

    #[test]
    fn youngest_first_and_cut() {
        // Two nodes, each with its youngest first.
        let all = [("a", 30), ("b", 10), ("c", 30), ("d", 20)];
        for (window, expected) in [
            (Window { limit: None, before: None, since: None }, vec!["a", "c", "d", "b"]),
            (Window { limit: Some(2), before: None, since: None }, vec!["a", "c"]),
            (Window { limit: None, before: mark("c", 30), since: None }, vec!["d", "b"]),
            (Window { limit: None, before: None, since: mark("d", 20) }, vec!["a", "c"]),
            (Window { limit: Some(1), before: None, since: mark("b", 10) }, vec!["a"]),
            // The filters left the mark out.
            (Window { limit: None, before: mark("x", 20), since: None }, vec!["d", "b"]),
            (Window { limit: None, before: mark("a", 30), since: mark("b", 10) }, vec!["c", "d"]),
        ] {
            let cut = window.cut(entries(&all));
            assert_eq!(cut.iter().map(|entry| entry.text("Id")).collect::<Vec<_>>(), expected);
        }
    }
}
