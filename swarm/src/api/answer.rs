//! Answers that are made here, not by an engine.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::transport::{self, Body};

/// `value` as JSON with the newline that engines end it with.
pub fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut text = value.to_string();
    text.push('\n');
    typed(status, "application/json", transport::full(text))
}

/// A body with its type.
pub fn typed(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A status alone.
pub fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(transport::empty());
    *response.status_mut() = status;
    response
}
