//! `POST /build`: one node builds, and the others load what it built.
//!
//! The classic builder's node is chosen by the scheduler; `--build-arg constraint:node==master` says which. BuildKit needs several
//! connections to one and the same engine, so it is the master's.

use std::sync::Arc;

use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::{
    pull::{failures, said},
    spread::spread,
};
use crate::{
    api::{
        State, answer,
        ask::{Ask, Rest},
        containers::{Place, choose, prune_all},
        fan,
        progress::{self, Messages, line},
        refusal::Refusal,
        stream::{self, Pieces},
    },
    cluster::Engine,
    schedule::Request,
    transport::{Body, from_incoming},
};

/// The query's value for BuildKit.
const BUILDKIT: &str = "2";

/// Builds.
///
/// # Errors
///
/// An expression is wrong, no node fits, or the engine does not answer.
pub async fn build(state: &State, mut ask: Ask) -> Result<Response<Body>, Refusal> {
    let request = expressions(&mut ask)?;
    let (engine, place) = if ask.query.get("version") == Some(BUILDKIT) {
        if !request.constraints.is_empty() || !request.affinities.is_empty() {
            return Err(Refusal::bad_request("BuildKit builds on the master: for constraints set DOCKER_BUILDKIT=0"));
        }
        (fan::master_first(&state.cluster)?.swap_remove(0), None)
    } else {
        let (engine, place) = choose(state, &request, "", None)?;
        (engine, Some(place))
    };
    let target = ask.query.on(&ask.versioned("/build"));
    // One of BuildKit's two requests only brings the files.
    let upload = ask.query.get("buildid").is_some_and(|id| id.starts_with("upload-request:"));
    let others: Vec<_> = fan::healthy(&state.cluster).into_iter().filter(|other| other.name != engine.name).collect();
    let (rest, body) = ask.into_stream();
    let response = engine.client().send(rest.post(&target, from_incoming(body))?).await?;
    if !response.status().is_success() || upload || others.is_empty() {
        return Ok(response.map(from_incoming));
    }
    let (pieces, body) = stream::body();
    let ended = pieces.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = follow(Building { engine, others, rest, pieces }, response.into_body(), place) => {}
            // Whoever asked is gone; the engine ends the build when its connection does.
            () = ended.closed() => {}
        }
    });
    Ok(answer::typed(StatusCode::OK, "application/json", body))
}

/// Takes expressions out of the build arguments.
fn expressions(ask: &mut Ask) -> Result<Request, Refusal> {
    let Some(text) = ask.query.get("buildargs").filter(|text| !text.is_empty()) else { return Ok(Request::default()) };
    // What is no object the engine refuses in its own words.
    let Ok(mut arguments) = serde_json::from_str::<Map<String, Value>>(text) else { return Ok(Request::default()) };
    let request = Request::take_build_args(&mut arguments).map_err(|error| Refusal::bad_request(error.to_string()))?;
    ask.query.set("buildargs", Value::Object(arguments).to_string());
    Ok(request)
}

struct Building {
    engine: Arc<Engine>,
    others: Vec<Arc<Engine>>,
    rest: Rest,
    pieces: Pieces,
}

async fn follow(building: Building, output: Incoming, place: Option<Place>) {
    let Building { engine, others, rest, pieces } = building;
    let mut built = Built::default();
    let mut messages = Messages::of(output);
    loop {
        match messages.next().await {
            Ok(Some(message)) => {
                built.note(&message);
                // A reader that is gone ends all of it from outside.
                let _ = pieces.send(Ok(line(&message))).await;
            }
            Ok(None) => break,
            Err(refusal) => {
                let text = format!("{}: {refusal}", engine.name);
                let _ = pieces.send(Ok(line(&progress::failure_message(&text)))).await;
                return;
            }
        }
    }
    drop(place);
    let images = built.images(rest.query.all("t"));
    if built.failed || images.is_empty() {
        return;
    }
    let loud = !rest.query.flag("q");
    let names: Vec<_> = others.iter().map(|other| other.name.clone()).collect();
    if loud {
        let _ = pieces.send(Ok(said(&format!("Built on {}, now to {}", engine.name, names.join(", "))))).await;
    }
    let text = match failures(spread(rest.version, &engine, &images, others).await) {
        None => format!("Loaded on {}", names.join(", ")),
        // The image is there, on one node at least; containers of it are placed where it is.
        Some(text) => format!("Not on every node: {text}"),
    };
    if loud {
        let _ = pieces.send(Ok(said(&text))).await;
    }
}

/// What the output of a build says.
#[derive(Default)]
struct Built {
    id: Option<String>,
    failed: bool,
}

impl Built {
    fn note(&mut self, message: &Value) {
        self.failed |= progress::failure(message).is_some();
        let text = message.get("stream").and_then(Value::as_str).map(str::trim).unwrap_or_default();
        let id = message.pointer("/aux/ID").and_then(Value::as_str);
        // Quietly, it is all that is said.
        if let Some(id) = id.or_else(|| Some(text).filter(|text| text.starts_with("sha256:"))) {
            self.id = Some(id.to_owned());
        }
    }

    /// What to bring to the other nodes: the tags, so that they come along; the id where there are none.
    fn images<'a>(&self, tags: impl Iterator<Item = &'a str>) -> Vec<String> {
        let tags: Vec<_> = tags.filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        if tags.is_empty() { self.id.clone().into_iter().collect() } else { tags }
    }
}

/// `POST /build/cancel`: only BuildKit's builds have an id, and they are on the master.
///
/// # Errors
///
/// No engine answers.
pub async fn build_cancel(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let target = ask.target("");
    ask.pass(&fan::master_first(&state.cluster)?.swap_remove(0), &target).await
}

/// `POST /build/prune`
///
/// # Errors
///
/// A node refused, or none answers.
pub async fn build_prune(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (mut caches, mut reclaimed) = (Vec::new(), 0);
    for (_, answer) in prune_all(state, &ask).await? {
        caches.extend(answer.list::<Value>("CachesDeleted"));
        reclaimed += answer.get::<u64>("SpaceReclaimed").unwrap_or_default();
    }
    Ok(answer::json(StatusCode::OK, &json!({ "CachesDeleted": caches, "SpaceReclaimed": reclaimed })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_built() {
        let built = |messages: &[Value]| {
            let mut built = Built::default();
            messages.iter().for_each(|message| built.note(message));
            built
        };
        let loud = built(&[json!({"stream": "Step 1/1 : FROM scratch\n"}), json!({"aux": {"ID": "sha256:a"}})]);
        assert_eq!(loud.images([].into_iter()), ["sha256:a"]);
        assert_eq!(loud.images(["x:1", "", "y"].into_iter()), ["x:1", "y"]);
        assert_eq!(built(&[json!({"stream": "sha256:b\n"})]).images([].into_iter()), ["sha256:b"]);
        assert!(built(&[json!({"errorDetail": {"message": "no"}, "error": "no"})]).failed);
        assert!(built(&[]).images([].into_iter()).is_empty());
    }
}
