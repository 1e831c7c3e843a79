//! Images: wherever they are, and everywhere once they have been pulled, loaded or built here.

mod build;
mod buildkit;
mod known;
mod list;
mod pull;
mod remove;
mod spread;

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};

pub use self::{
    build::{build, build_cancel, build_prune},
    buildkit::buildkit,
    list::{list, merge},
    pull::{load, pull},
    remove::{prune, remove, tag},
    spread::spread,
};
use super::{State, ask::Ask, fan, refusal::Refusal};
use crate::{
    cluster::Engine,
    transport::{self, Body},
};

/// The engines that answer and are known to have all of these images, the master's first.
///
/// # Errors
///
/// 503 where no engine answers.
pub fn holders(state: &State, references: &[&str]) -> Result<Vec<Arc<Engine>>, Refusal> {
    let mut engines = fan::master_first(&state.cluster)?;
    engines.retain(|engine| {
        let snapshot = engine.snapshot();
        references.iter().all(|reference| snapshot.images.iter().any(|image| known::is(image, reference)))
    });
    Ok(engines)
}

/// `GET /images/{name}/json` and the like: from an engine that has it. Where none is known to, all are asked.
///
/// # Errors
///
/// 404 where none has it, or no engine answers.
pub async fn pass(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let name = ask.name().to_owned();
    let mut engines = holders(state, &[&name])?;
    if engines.is_empty() {
        engines = fan::master_first(&state.cluster)?;
    }
    first_that_has(engines, &ask.target(&name), || Refusal::not_found(format!("No such image: {name}"))).await
}

/// The first answer that is no 404; where all are, the last of them: in an engine's words.
async fn first_that_has(engines: Vec<Arc<Engine>>, target: &str, none: impl Fn() -> Refusal) -> Result<Response<Body>, Refusal> {
    let mut last = Err(none());
    for engine in engines {
        let mut request = Request::new(transport::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = target.parse().map_err(|_| none())?;
        match engine.client().send(request).await {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => last = Ok(response),
            Ok(response) => return Ok(response.map(transport::from_incoming)),
            Err(error) if last.is_err() => last = Err(error.into()),
            Err(_) => {}
        }
    }
    last.map(|response| response.map(transport::from_incoming))
}

/// `GET /images/get?names=…` and `GET /images/{name}/get`: from an engine that has all of them.
///
/// # Errors
///
/// 404 where none has all.
pub async fn save(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let name = ask.name().to_owned();
    // The engine splits them at commas too.
    let mut names: Vec<&str> =
        ask.query.all("names").flat_map(|names| names.split(',')).filter(|name| !name.is_empty()).collect();
    if !name.is_empty() {
        names.push(&name);
    }
    let mut engines = holders(state, &names)?;
    let somewhere = |name: &&str| holders(state, &[name]).is_ok_and(|engines| !engines.is_empty());
    if engines.is_empty() && !names.iter().all(somewhere) {
        // One of them is nowhere: an engine says so in its own words.
        engines = fan::master_first(&state.cluster)?;
        engines.truncate(1);
    }
    let none = || Refusal::not_found(format!("Unable to find a healthy engine containing all images: [{}]", names.join(" ")));
    match engines.is_empty() {
        true => Err(none()),
        false => first_that_has(engines, &ask.target(&name), none).await,
    }
}

/// `POST /images/{name}/push`: an engine that has it pushes it. The master's engine says what is wrong where none has.
///
/// # Errors
///
/// No engine answers.
pub async fn push(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let name = ask.name().to_owned();
    let tagged = ask.query.get("tag").filter(|tag| !tag.is_empty()).map_or_else(|| name.clone(), |tag| format!("{name}:{tag}"));
    let mut engines = holders(state, &[&tagged])?;
    if engines.is_empty() {
        engines = fan::master_first(&state.cluster)?;
    }
    let target = ask.target(&name);
    match engines.first() {
        Some(engine) => ask.pass(engine, &target).await,
        None => Err(Refusal::unavailable("no node of the cluster answers")),
    }
}
