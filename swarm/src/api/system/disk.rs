//! `GET /system/df`: the disks of all nodes.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    api::{State, answer, ask::Ask, containers, entry::Entry, fan, images, refusal::Refusal},
    transport::Body,
};

/// What all nodes use; images once, though each node that has one needs its bytes.
///
/// # Errors
///
/// An engine refused, or none answers.
pub async fn disk_usage(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let target = ask.query.on(&ask.versioned("/system/df"));
    let answers = fan::all(fan::some_healthy(&state.cluster)?, |engine| {
        let target = target.clone();
        async move { fan::told::<Entry>(&engine, Method::GET, &target).await }
    })
    .await;
    let (mut layers, mut builder) = (0_i64, 0_i64);
    let (mut shown, mut volumes, mut caches, mut images) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (engine, answer) in answers {
        let answer = answer?;
        layers = layers.saturating_add(answer.number("LayersSize"));
        builder = builder.saturating_add(answer.number("BuilderSize"));
        images.push(answer.list::<Entry>("Images"));
        shown.extend(answer.list::<Entry>("Containers").into_iter().map(|mut own| {
            containers::summary(&mut own, &engine.name, engine.address);
            own
        }));
        volumes.extend(answer.list::<Entry>("Volumes").into_iter().map(|mut own| {
            own.set("Name", &format!("{}/{}", engine.name, own.text("Name")));
            own
        }));
        caches.extend(answer.list::<Value>("BuildCache"));
    }
    Ok(answer::json(
        StatusCode::OK,
        &json!({
            "LayersSize": layers, "Images": images::merge(images), "Containers": shown, "Volumes": volumes, "BuildCache": caches,
            "BuilderSize": builder,
        }),
    ))
}
