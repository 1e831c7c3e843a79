//! What the cluster's Consul is asked: keys, services and their health, and what runs on this node.
//!
//! [`Client`] asks the agent of this node on its unix socket. [`Follow`] keeps an answer up to date, and keeps the last one while
//! Consul does not answer: whoever lives by it goes on with what was last known.
//!
//! The names here are those of the node program, which registers the engines and keeps the lock (`hcl_firstboot::consul`).

mod agent;
mod answer;
mod follow;
mod health;
mod kv;

use std::{fmt, fs, io, path::Path, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header::HeaderValue};
use http_body_util::Full;
use serde::{Serialize, de::DeserializeOwned};

pub use agent::{Registered, Service, TcpCheck};
use answer::Answer;
pub use answer::Seen;
pub use follow::Follow;
pub use health::{Check, Instance, State};
pub use kv::{Entry, Freshness, If};

use crate::local::{self, Response, Socket};

/// The service that each node's engine is in the catalog, with a check that fails when the engine does not answer or its node is away.
pub const ENGINE: &str = "hcl-engine";
/// The key that whoever leads holds as a lock; its value says who that is.
pub const LEADER: &str = "hcl/leader";
/// The users' keys begin so.
pub const USERS: &str = "hcl/users/";

/// How long an answer may take: longer than Consul itself waits for a leader (7 s), so that it is Consul who says what is missing.
const LIMIT: Duration = Duration::from_secs(10);

/// Consul on this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    socket: Socket,
    token: Option<Token>,
    limit: Duration,
}

/// What says who asks. It does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

impl Token {
    /// The token of the file at `path`; none where the file is empty.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds more than one line of plain text.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = fs::read_to_string(path)?;
        match text.trim() {
            "" => Ok(None),
            token => Self::new(token).map(Some),
        }
    }

    /// This token.
    ///
    /// # Errors
    ///
    /// It can stand in no header field.
    pub fn new(token: &str) -> io::Result<Self> {
        let mut value = HeaderValue::from_str(token)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no token: one line of plain text is expected"))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

/// Why something was not done, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("Consul does not answer: {0}")]
    Silent(#[from] local::Error),
    /// Consul says no.
    #[error("Consul refused {what} ({}): {text}", status.as_u16())]
    Refused {
        /// What was asked.
        what: String,
        /// The HTTP status: 403 without the right, 500 also where no leader is known.
        status: StatusCode,
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

impl Client {
    /// Consul on the socket at `path`, asked with `token`; without one it gives what anyone may read.
    pub fn new(path: impl Into<PathBuf>, token: Option<Token>) -> Self {
        Self { socket: Socket::new(path), token, limit: LIMIT }
    }

    /// The same, with another time for each answer.
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Asks; a refusal is an answer.
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(String, Response), Error> {
        let what = format!("{method} {}", path.split('?').next().unwrap_or(path));
        let unexpected = |error: http::Error| Error::Unexpected { what: what.clone(), why: error.to_string() };
        let mut request = Request::builder().method(method).uri(path).body(Full::new(body)).map_err(unexpected)?;
        if let Some(Token(value)) = &self.token {
            request.headers_mut().insert("X-Consul-Token", value.clone());
        }
        let response = self.socket.exchange(request, self.limit).await?;
        Ok((what, response))
    }

    /// Asks for what may not be there: none for 404.
    async fn find(&self, path: &str) -> Result<Option<Answer>, Error> {
        let (what, response) = self.ask(Method::GET, path, Bytes::new()).await?;
        if response.status == StatusCode::NOT_FOUND { Ok(None) } else { Answer::new(what, response).map(Some) }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let (what, response) = self.ask(Method::GET, path, Bytes::new()).await?;
        Answer::new(what, response)?.json()
    }

    async fn write(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Error> {
        let (what, response) = self.ask(method, path, body).await?;
        Answer::new(what, response)
    }

    async fn tell<T: Serialize>(&self, path: &str, body: &T) -> Result<Answer, Error> {
        // Texts, numbers and maps whose keys are texts: nothing in them can fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.write(Method::PUT, path, body.into()).await
    }
}
