//! What is answered instead of what was asked for, in the form of an engine: a status and `{"message": …}`.

use std::fmt;

use http::{Response, StatusCode};

use super::answer;
use crate::transport::{self, Body};

/// Why a request is refused, with the status. One line that says what to do, where that is not plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    /// A refusal with any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404: what it names is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 409: something else stands against it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 500: it failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 501: classic Swarm did not do that either, or the cluster does it by itself.
    pub fn not_here(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// An engine's own refusal, passed on; its JSON as it came.
    pub fn of_engine(status: StatusCode, answer: &serde_json::Value) -> Self {
        let message = answer.get("message").and_then(serde_json::Value::as_str);
        Self::new(status, message.map_or_else(|| status.to_string(), str::to_owned))
    }

    /// The same with the node's name before it, where one of several nodes refused.
    #[must_use]
    pub fn by_node(self, node: &str) -> Self {
        Self { message: format!("{node}: {}", self.message), ..self }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The answer that says so.
    pub fn into_response(self) -> Response<Body> {
        answer::json(self.status, &serde_json::json!({ "message": self.message }))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An engine that did not answer; what it refused keeps its status.
impl From<transport::Error> for Refusal {
    fn from(error: transport::Error) -> Self {
        match error.refusal() {
            Some((status, message)) => Self::new(status, message),
            None => Self::failed(error.to_string()),
        }
    }
}
