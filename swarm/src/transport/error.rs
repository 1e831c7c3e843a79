//! What can go wrong with an engine.

use std::{io, time::Duration};

use http::StatusCode;

/// What failed, with which engine. One line.
#[derive(Debug, thiserror::Error)]
#[error("{engine}: {kind}")]
pub struct Error {
    /// The engine: its name and where it is.
    pub engine: String,
    /// What failed.
    pub kind: Kind,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Kind {
    /// Nobody is there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// It is there, but is not who it should be, or does not believe that this node is one.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// It did not answer in this time.
    #[error("no answer to {0} within {secs} s", secs = .1.as_secs())]
    Late(String, Duration),
    /// The connection broke, or what came is no HTTP.
    #[error("{0}: {why}", why = reason(.1))]
    Exchange(String, hyper::Error),
    /// It said no; with its message.
    #[error("{what}: {status}: {message}", status = .status.as_u16())]
    Refused {
        /// Method and path.
        what: String,
        /// The status.
        status: StatusCode,
        /// The engine's message.
        message: String,
    },
    /// Its answer makes no sense.
    #[error("{0}: {1}")]
    Answer(String, String),
}

impl Error {
    /// The status and message of an engine that said no.
    pub fn refusal(&self) -> Option<(StatusCode, &str)> {
        match &self.kind {
            Kind::Refused { status, message, .. } => Some((*status, message)),
            _ => None,
        }
    }

    /// Whether the request certainly did not reach the engine.
    pub fn is_unreached(&self) -> bool {
        matches!(self.kind, Kind::Connect(_) | Kind::Tls(_))
    }
}

/// hyper's words, and those of what lies below it.
fn reason(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = error.source();
    }
    text
}
