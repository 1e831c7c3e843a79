//! Asking Consul on its socket. Everything blocks, for [`LIMIT`] at most where nothing else is said.

use std::{path::PathBuf, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::secrets::Secret;
use crate::http;

/// How long an answer may take: longer than Consul itself waits for a leader (7 s), so that it is Consul who says what is missing.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Consul on this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: http::Client,
    token: Option<Secret>,
    limit: Duration,
}

/// Why something was not done, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// Consul says no.
    #[error("Consul refused {what} ({status}): {text}")]
    Refused {
        /// What was asked.
        what: String,
        /// The HTTP status: 403 without the right, 500 also where no leader is known.
        status: u16,
        /// What Consul said.
        text: String,
    },
    /// The answer is not what Consul's documentation says.
    #[error("Consul's answer to {what}: {why}")]
    Unexpected {
        /// What was asked.
        what: String,
        /// What is wrong.
        why: String,
    },
}

impl Error {
    /// Whether the token does not allow it, or is not known (yet).
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403, .. })
    }
}

/// An answer that counts as one.
pub(super) struct Answer {
    what: String,
    pub response: http::Response,
}

impl Client {
    /// Consul on the socket at `path`, asked with `token`; without one it gives what anyone may read.
    pub fn new(path: impl Into<PathBuf>, token: Option<Secret>) -> Self {
        Self { http: http::Client::unix(path), token, limit: LIMIT }
    }

    /// The same, asked with another token.
    pub fn with_token(&self, token: &Secret) -> Self {
        Self { token: Some(token.clone()), ..self.clone() }
    }

    /// The same, with another time for each answer.
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Asks for what is not among the methods here.
    ///
    /// # Errors
    ///
    /// There is no answer. A refusal is an answer.
    pub fn raw(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<http::Response, http::Error> {
        let mut fields = Vec::new();
        if let Some(token) = &self.token {
            fields.push(("X-Consul-Token", token.reveal()));
        }
        self.http.request(method, path, &fields, body.map(|body| ("application/json", body)), self.limit)
    }

    /// Asks; `None` for 404.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Option<Answer>, Error> {
        let response = self.raw(method, path, body)?;
        // What stands behind the question mark is long and says little.
        let what = format!("{method} {}", path.split('?').next().unwrap_or(path));
        match response.status {
            404 => Ok(None),
            _ if response.is_success() => Ok(Some(Answer { what, response })),
            status => Err(Error::Refused { what, status, text: response.text() }),
        }
    }

    /// Asks for what must be there.
    pub(super) fn done(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let body = body.map(Value::to_string);
        let answer = self.ask(method, path, body.as_deref().map(str::as_bytes))?;
        answer.ok_or_else(|| Error::Refused { what: format!("{method} {path}"), status: 404, text: "no such thing".into() })
    }

    pub(super) fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.done("GET", path, None)?.json()
    }
}

impl Answer {
    pub fn new(what: String, response: http::Response) -> Self {
        Self { what, response }
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.response.body).map_err(|error| self.unexpected(&error.to_string()))
    }

    /// The index that stands for what was read, for a question that waits for a change.
    pub fn index(&self) -> Result<u64, Error> {
        let field = self.response.field("X-Consul-Index").and_then(|index| index.parse().ok());
        field.ok_or_else(|| self.unexpected("no index"))
    }

    pub fn unexpected(&self, why: &str) -> Error {
        Error::Unexpected { what: self.what.clone(), why: why.to_owned() }
    }
}

/// `text` as a part of a path (RFC 3986 section 2.3); slashes stay.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut path, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => path.push(char::from(byte)),
            _ => path += &format!("%{byte:02X}"),
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(escaped("hcl/leader"), "hcl/leader");
        assert_eq!(escaped("a b?c=d&e%\u{e9}\r\n"), "a%20b%3Fc%3Dd%26e%25%C3%A9%0D%0A");
    }
}
