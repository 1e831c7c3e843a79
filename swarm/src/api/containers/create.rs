//! `POST /containers/create`: places a container.

use std::{collections::BTreeSet, sync::Arc};

use http::{Response, StatusCode};
use serde_json::Value;

use super::{place, references};
use crate::{
    api::{
        State, answer,
        ask::{Ask, Rest},
        images,
        refusal::Refusal,
        stream::whole,
    },
    cluster::{Cluster, Engine},
    schedule::{Expression, Request},
    transport::{Body, full},
};

/// How much of an answer to a create is taken in.
const ANSWER_BYTES: usize = 1 << 20;

/// Makes it on the node that the scheduler chooses. Where that one lacks the image and others have it: on one of them; or, where it
/// must be that node, with the image brought there.
///
/// # Errors
///
/// The name is taken, an expression is wrong, no node fits, or the engine does not answer.
pub async fn create(state: &Arc<State>, ask: Ask) -> Result<Response<Body>, Refusal> {
    let (mut body, rest) = ask.json::<Value>().await?;
    if !body.is_object() {
        return Err(Refusal::bad_request("invalid JSON: the configuration is no object"));
    }
    let only = references::settle(&mut body, &*state.cluster);
    let mut request = Request::take(&mut body).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let name = rest.query.get("name").unwrap_or_default().trim_start_matches('/').to_owned();
    // Kept until the container is known here.
    let _guard = match name.is_empty() {
        true => None,
        false => Some(state.cluster.reserve_name(&name).map_err(|taken| Refusal::conflict(taken.to_string()))?),
    };
    let attempt = Attempt { state, rest: &rest, text: body.to_string(), name: &name, only: only.as_ref() };
    let first = attempt.make(&request).await?;
    if !first.lacks_image() {
        return Ok(answer::json(first.status, &first.answer));
    }
    let image = body.get("Image").and_then(Value::as_str).unwrap_or_default();
    if !request.names_node() {
        request.affinities.push(Expression::exactly("image", image));
        if let Some(made) = attempt.make(&request).await.ok().filter(|made| !made.lacks_image()) {
            return Ok(answer::json(made.status, &made.answer));
        }
        request.affinities.pop();
    }
    if bring(state, &rest, image, &first.engine).await {
        request.constraints.push(Expression::exactly("node", &first.engine.name));
        let made = attempt.make(&request).await?;
        return Ok(answer::json(made.status, &made.answer));
    }
    // Nobody has it: the CLI pulls it when it hears so.
    Ok(answer::json(first.status, &first.answer))
}

/// Brings an image that another node has. Whether it is there now.
async fn bring(state: &State, rest: &Rest, image: &str, to: &Arc<Engine>) -> bool {
    let holders = images::holders(state, &[image]).unwrap_or_default();
    let Some(from) = holders.iter().find(|holder| holder.name != to.name) else { return false };
    let brought = images::spread(rest.version, from, &[image.to_owned()], vec![Arc::clone(to)]).await;
    brought.is_ok_and(|brought| brought.iter().all(|(_, loaded)| loaded.is_ok()))
}

/// All that does not change from one attempt to the next.
struct Attempt<'a> {
    state: &'a State,
    rest: &'a Rest,
    text: String,
    name: &'a str,
    only: Option<&'a BTreeSet<String>>,
}

/// What an engine answered.
struct Made {
    engine: Arc<Engine>,
    status: StatusCode,
    answer: Value,
}

impl Attempt<'_> {
    async fn make(&self, request: &Request) -> Result<Made, Refusal> {
        let (engine, place) = place::choose(self.state, request, self.name, self.only)?;
        let target = self.rest.target("/containers/create");
        let response = self.rest.send(&engine, &target, full(self.text.clone())).await?;
        let (status, answer) = taken_in(&engine, response).await?;
        if let Some(id) = answer.get("Id").and_then(Value::as_str).filter(|_| status.is_success()) {
            place.made(id);
            // Where that fails the engine's events tell it a little later.
            let _ = self.state.cluster.refresh_container(&engine, id).await;
        }
        Ok(Made { engine, status, answer })
    }
}

impl Made {
    fn lacks_image(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && lacks_image(&self.answer)
    }
}

/// A short answer as JSON.
///
/// # Errors
///
/// It does not come whole, is too long, or is no JSON.
pub async fn taken_in(engine: &Engine, response: Response<Body>) -> Result<(StatusCode, Value), Refusal> {
    let status = response.status();
    let cut = |error: &dyn std::fmt::Display| Refusal::failed(format!("{}: the engine's answer: {error}", engine.name));
    let bytes = whole(response.into_body(), ANSWER_BYTES).await.map_err(|error| cut(&error))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok((status, Value::Null));
    }
    Ok((status, serde_json::from_slice(&bytes).map_err(|error| cut(&error))?))
}

/// Whether an engine says that it has no such image. It also answers 404 where a container is missing.
fn lacks_image(answer: &Value) -> bool {
    let message = answer.get("message").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    message.contains("no such image") || (message.contains("image") && message.contains("not found"))
}

impl references::Names for Cluster {
    fn container(&self, reference: &str) -> Option<String> {
        Self::container(self, reference).ok().map(|(_, id)| id)
    }

    fn node(&self, name: &str) -> Option<String> {
        self.engine(name).map(|engine| engine.name.clone())
    }

    fn local_network(&self, reference: &str) -> Option<BTreeSet<String>> {
        // Those that each engine has of its own.
        if matches!(reference, "" | "default" | "bridge" | "host" | "none") || reference.contains(':') {
            return None;
        }
        let mut nodes = BTreeSet::new();
        for engine in self.engines() {
            for network in engine.snapshot().networks.iter().filter(|own| own.name == reference || own.id == reference) {
                if network.scope != "local" {
                    return None;
                }
                nodes.insert(engine.name.clone());
            }
        }
        (!nodes.is_empty()).then_some(nodes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_missing_image_looks_like() {
        for (message, lacks) in [
            ("No such image: busybox:latest", true),
            ("no such image: busybox: No such image: busybox:latest", true),
            ("image docker.io/library/x:latest not found", true),
            ("No such container: web", false),
            ("network demo not found", false),
            ("", false),
        ] {
            assert_eq!(lacks_image(&json!({ "message": message })), lacks, "{message}");
        }
        assert!(!lacks_image(&Value::Null));
    }
}
