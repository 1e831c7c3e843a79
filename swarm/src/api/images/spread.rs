//! One stream to several engines, at the pace of the slowest; and an image from one engine to the others by that.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::{
    api::{
        containers::taken_in,
        fan,
        progress::{self, Messages},
        query::{Query, segment},
        refusal::Refusal,
        stream::{self, Pieces},
        version::ApiVersion,
    },
    cluster::Engine,
    transport::{self, Body},
};

/// As many bodies as there are engines, each with all that `body` has. A reader that ends early is left behind; the others wait for
/// the slowest. What cuts `body` cuts all of them.
pub fn tee(body: Incoming, count: usize) -> Vec<Body> {
    let (pieces, bodies): (Vec<_>, Vec<_>) = (0..count).map(|_| stream::body()).unzip();
    tokio::spawn(pump(body, pieces));
    bodies
}

async fn pump(mut body: Incoming, mut readers: Vec<Pieces>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            // Trailers.
            Ok(Err(_)) => continue,
            Err(error) => Err(error.to_string()),
        };
        let mut left = Vec::with_capacity(readers.len());
        for reader in readers {
            let piece: Result<Bytes, transport::BoxError> = piece.clone().map_err(Into::into);
            if reader.send(piece).await.is_ok() {
                left.push(reader);
            }
        }
        readers = left;
        if readers.is_empty() || piece.is_err() {
            return;
        }
    }
}

/// How loading went, engine by engine.
pub type Loaded = Vec<(Arc<Engine>, Result<(), Refusal>)>;

/// Brings images from one engine to `others`: what each of them says.
///
/// # Errors
///
/// The one engine does not give the images.
pub async fn spread(version: ApiVersion, from: &Engine, images: &[String], others: Vec<Arc<Engine>>) -> Result<Loaded, Refusal> {
    let path = match images {
        [image] => format!("/v{version}/images/{}/get", segment(image)),
        images => {
            let names = images.iter().fold(Query::default(), |mut query, image| {
                query.push("names", image);
                query
            });
            names.on(&format!("/v{version}/images/get"))
        }
    };
    let mut request = Request::new(transport::empty());
    *request.uri_mut() = path.parse().map_err(|_| Refusal::bad_request("an image's name has characters that no path has"))?;
    let response = from.client().send(request).await?;
    if !response.status().is_success() {
        let (status, answer) = taken_in(from, response.map(transport::from_incoming)).await?;
        return Err(Refusal::of_engine(status, &answer));
    }
    let mut bodies = tee(response.into_body(), others.len());
    let bodies = std::sync::Mutex::new(&mut bodies);
    let take = || bodies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop().unwrap_or_else(transport::empty);
    Ok(fan::all(others, |engine| {
        let body = take();
        async move {
            let loaded = load(version, &engine, body).await;
            let _ = engine.refresh_images().await;
            loaded
        }
    })
    .await)
}

async fn load(version: ApiVersion, engine: &Engine, body: Body) -> Result<(), Refusal> {
    let response = send_load(engine, &format!("/v{version}/images/load?quiet=1"), body).await?;
    if !response.status().is_success() {
        let (status, answer) = taken_in(engine, response.map(transport::from_incoming)).await?;
        return Err(Refusal::of_engine(status, &answer));
    }
    let mut failure = None;
    let mut messages = Messages::of(response.into_body());
    while let Some(message) = messages.next().await? {
        failure = progress::failure(&message).or(failure);
    }
    failure.map_or(Ok(()), |text| Err(Refusal::failed(text)))
}

/// `POST /images/load`
///
/// # Errors
///
/// The engine does not answer.
pub async fn send_load(engine: &Engine, target: &str, body: Body) -> Result<Response<Incoming>, Refusal> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.parse().map_err(|_| Refusal::bad_request("the query has characters that no path has"))?;
    request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-tar"));
    Ok(engine.client().send(request).await?)
}
