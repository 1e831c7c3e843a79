//! Bodies of requests and answers.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use serde::Serialize;

/// Why a body ended before its end.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Any body: one that is here already, or one that still comes.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No body.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body that is here already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// `value` as JSON, with the newline that engines end it with.
///
/// # Errors
///
/// A map of `value` has keys that are no strings.
pub fn json_body(value: &impl Serialize) -> Result<Body, serde_json::Error> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(full(text))
}

/// A body that still comes: frame by frame, as it comes. Its error is passed on, so that whoever reads it sees that it was cut.
pub fn from_incoming(incoming: Incoming) -> Body {
    incoming.map_err(Into::into).boxed_unsync()
}
