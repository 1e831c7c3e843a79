//! Images that come in: pulled, imported, loaded. They reach every node that answers.

use std::sync::{Arc, Mutex, PoisonError};

use http::Response;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::spread::{self, send_load, tee};
use crate::{
    api::{
        State,
        ask::{Ask, Rest},
        fan,
        progress::{self, ByNode, Messages, Outcome, line},
        refusal::Refusal,
        stream::{self, Pieces},
    },
    cluster::Engine,
    transport::{Body, empty, from_incoming},
};

/// `POST /images/create`: every node pulls (`fromImage`); or the first one imports (`fromSrc`) and the others get what it made, so that
/// its id is the same everywhere. `node=…` in the query means that node alone.
///
/// # Errors
///
/// No node begins; or no engine answers.
pub async fn pull(state: &State, mut ask: Ask) -> Result<Response<Body>, Refusal> {
    let mut engines = fan::master_first(&state.cluster)?;
    if let Some(node) = ask.query.take("node") {
        engines.retain(|engine| state.is_node(engine, &node));
        if engines.is_empty() {
            return Err(Refusal::not_found(format!("no node {node} that answers")));
        }
    }
    if ask.query.get("fromImage").is_none_or(str::is_empty) {
        return import(ask, engines).await;
    }
    let target = ask.query.on(&ask.versioned("/images/create"));
    let (rest, _) = ask.into_stream();
    progress::gather(engines, ByNode, |engine| pull_on(engine, rest.clone(), target.clone())).await
}

async fn pull_on(engine: Arc<Engine>, rest: Rest, target: String) -> Result<Response<Incoming>, Refusal> {
    Ok(engine.client().send(rest.post(&target, empty())?).await?)
}

async fn import(ask: Ask, mut engines: Vec<Arc<Engine>>) -> Result<Response<Body>, Refusal> {
    let first = engines.remove(0);
    let target = ask.query.on(&ask.versioned("/images/create"));
    let (rest, body) = ask.into_stream();
    let response = first.client().send(rest.post(&target, from_incoming(body))?).await?;
    if !response.status().is_success() || engines.is_empty() {
        return Ok(response.map(from_incoming));
    }
    let (pieces, answer) = stream::body();
    let kind = response.headers().get(http::header::CONTENT_TYPE).cloned();
    tokio::spawn(async move {
        let ended = pieces.clone();
        tokio::select! {
            () = bring(rest, first, engines, response.into_body(), pieces) => {}
            () = ended.closed() => {}
        }
    });
    let mut response = Response::new(answer);
    if let Some(kind) = kind {
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

/// Passes on what an import says, and brings what it made to the others.
async fn bring(rest: Rest, first: Arc<Engine>, others: Vec<Arc<Engine>>, output: Incoming, pieces: Pieces) {
    let mut id = None;
    let mut messages = Messages::of(output);
    let cut = loop {
        match messages.next().await {
            Ok(Some(message)) => {
                let status = message.get("status").and_then(Value::as_str).filter(|status| status.starts_with("sha256:"));
                id = status.map(str::to_owned).or(id);
                // A reader that is gone ends all of it from outside.
                let _ = pieces.send(Ok(line(&message))).await;
            }
            Ok(None) => break None,
            Err(refusal) => break Some(refusal.message().to_owned()),
        }
    };
    // Without an id nothing was made, and the stream has said why.
    let failed = match (cut, id) {
        (Some(text), _) => Some(text),
        (None, None) => None,
        (None, Some(id)) => {
            let name = |key| rest.query.get(key).unwrap_or_default();
            let image = match (name("repo"), name("tag")) {
                ("", _) => id,
                (name, "") => name.to_owned(),
                (name, tag) => format!("{name}:{tag}"),
            };
            failures(spread::spread(rest.version, &first, &[image], others).await)
        }
    };
    if let Some(text) = failed {
        let _ = pieces.send(Ok(line(&progress::failure_message(&text)))).await;
    }
}

/// What failed while an image was brought to the other nodes, on one line.
pub fn failures(spread: Result<spread::Loaded, Refusal>) -> Option<String> {
    match spread {
        Err(refusal) => Some(format!("the image was not brought to the other nodes: {refusal}")),
        Ok(loaded) => {
            let failed: Vec<_> =
                loaded.into_iter().filter_map(|(engine, loaded)| Some(format!("{}: {}", engine.name, loaded.err()?))).collect();
            (!failed.is_empty()).then(|| failed.join("; "))
        }
    }
}

/// `POST /images/load`: the body goes to every node, at the pace of the slowest.
///
/// # Errors
///
/// No node begins; or no engine answers.
pub async fn load(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let engines = fan::master_first(&state.cluster)?;
    let shown = Outcome::new(ask.query.flag("quiet"));
    let target = ask.query.on(&ask.versioned("/images/load"));
    let (_, body) = ask.into_stream();
    let bodies = Mutex::new(tee(body, engines.len()));
    progress::gather(engines, shown, |engine| {
        let body = bodies.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_else(empty);
        let target = target.clone();
        async move { send_load(&engine, &target, body).await }
    })
    .await
}

/// A line of a build's output.
pub fn said(text: &str) -> bytes::Bytes {
    line(&json!({ "stream": format!("{text}\n") }))
}
