//! The engine on this node: Docker's API on its unix socket, and what the cluster asks of it.
//!
//! [`Engine`] is the API, one call a function. On top of it stand what the supervisor calls in a loop: [`SwarmWatch`],
//! [`Engine::ensure_container`], [`Engine::users_objects`] and [`Reviver`]. Every call blocks, and ends within its time. All of it can be
//! asked again: what is there already is left as it is.
//!
//! Source: Docker Engine API v1.41 (Docker 20.10), the oldest that we speak, to v1.45 (Docker 26).

mod container;
mod ensure;
mod node;
mod objects;
mod revive;
mod spec;
mod swarm;
mod system;
mod watch;

use std::time::Duration;

pub use self::{
    container::{Container, ContainerState, Inspected, RestartPolicy},
    ensure::Ensured,
    node::{Availability, ManagerStatus, Node, NodeRole},
    objects::{Image, Network, Service, Volume},
    revive::{Revival, Reviver},
    spec::{ContainerSpec, Mount, NetworkMode, Restart},
    swarm::{InitSwarm, JoinSwarm, JoinTokens, Swarm, SwarmState},
    system::{Info, SwarmInfo, Version},
    watch::SwarmWatch,
};
use crate::http::{self, Client, Response};

/// Where the engine listens, and nowhere else.
pub const SOCKET: &str = "/run/docker.sock";
/// The label of containers, networks and volumes of ours, with the value `1`. All others are a user's.
pub const SYSTEM_LABEL: &str = "hcl.system";
/// The oldest API that has all we need: Docker 20.10.
const OLDEST: ApiVersion = ApiVersion(1, 41);
/// The newest API that this was written for; an engine that speaks newer ones speaks it as well.
const NEWEST: ApiVersion = ApiVersion(1, 45);
/// How long the engine may take to answer a question. A Pi 2 whose card is busy takes seconds.
const LIMIT: Duration = Duration::from_secs(30);

/// An API version, such as 1.41.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(u16, u16);

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Why something was not done, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no answer; what was asked may have been done all the same.
    #[error("{doing}: the engine gives no answer: {error}")]
    NoAnswer {
        /// What we were doing.
        doing: String,
        /// Why there is none.
        error: http::Error,
    },
    /// The engine refused.
    #[error("{doing}: the engine says: {message}")]
    Refused {
        /// What we were doing.
        doing: String,
        /// The HTTP status.
        status: u16,
        /// What the engine said.
        message: String,
    },
    /// The engine's answer is not what its API says.
    #[error("{doing}: the engine's answer cannot be read: {why}")]
    Unreadable {
        /// What we were doing.
        doing: String,
        /// What is wrong with it.
        why: String,
    },
    /// The engine is too old.
    #[error("the engine speaks its API up to version {0}, and {OLDEST} is needed: install Docker 20.10 or later")]
    TooOld(ApiVersion),
    /// A container needs an image that is not here.
    #[error("there is no image {0} in the engine's store: `docker images` shows what there is")]
    NoImage(String),
    /// A user's container has a name of ours.
    #[error("the container {0} is a user's, and the cluster needs its name: `docker rename {0}` to another one")]
    NameTaken(String),
    /// It did not come about in time.
    #[error("{doing}: not done within {} s", limit.as_secs())]
    TooSlow {
        /// What we were doing.
        doing: String,
        /// How long it had.
        limit: Duration,
    },
}

impl Error {
    /// Whether the engine refused with this HTTP status.
    pub fn is_refusal(&self, wanted: u16) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == wanted)
    }
}

/// The engine's API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    client: Client,
    api: ApiVersion,
}

impl Engine {
    /// Asks the engine behind `client` which API it speaks, and takes the newest that both know.
    ///
    /// # Errors
    ///
    /// The engine does not answer, or is too old.
    pub fn connect(client: Client) -> Result<Self, Error> {
        let doing = "asking for the API's version";
        let response = client.request("GET", "/_ping", &[], None, LIMIT).map_err(no_answer(doing))?;
        let response = refused(doing, response)?;
        // Engines of the last ten years all say it here.
        let offered = response.field("api-version").and_then(ApiVersion::parse);
        let offered = offered.ok_or_else(|| unreadable(doing, "it names no API version"))?;
        if offered < OLDEST {
            return Err(Error::TooOld(offered));
        }
        Ok(Self { client, api: offered.min(NEWEST) })
    }

    /// The API version in use.
    pub fn api(&self) -> ApiVersion {
        self.api
    }

    /// One exchange. `doing` stands at the start of an error; `path` is without the version.
    fn call(
        &self,
        doing: &str,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
        limit: Duration,
    ) -> Result<Response, Error> {
        let path = format!("/v{}{path}", self.api);
        let body = body.map(|body| body.to_string().into_bytes());
        let body = body.as_deref().map(|body| ("application/json", body));
        let response = self.client.request(method, &path, &[], body, limit).map_err(no_answer(doing))?;
        refused(doing, response)
    }

    fn get<T: serde::de::DeserializeOwned>(&self, doing: &str, path: &str) -> Result<T, Error> {
        parse(doing, &self.call(doing, "GET", path, None, LIMIT)?)
    }

    /// As [`Self::get`], with none for what is not there.
    fn find<T: serde::de::DeserializeOwned>(&self, doing: &str, path: &str) -> Result<Option<T>, Error> {
        match self.get(doing, path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_refusal(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn post(&self, doing: &str, path: &str, body: Option<&serde_json::Value>) -> Result<Response, Error> {
        self.call(doing, "POST", path, body, LIMIT)
    }

    /// Deletes what is there. What is not there is deleted.
    fn delete(&self, doing: &str, path: &str) -> Result<(), Error> {
        match self.call(doing, "DELETE", path, None, LIMIT) {
            Err(error) if !error.is_refusal(404) => Err(error),
            _ => Ok(()),
        }
    }
}

fn no_answer(doing: &str) -> impl FnOnce(http::Error) -> Error + '_ {
    move |error| Error::NoAnswer { doing: doing.to_owned(), error }
}

fn unreadable(doing: &str, why: impl ToString) -> Error {
    Error::Unreadable { doing: doing.to_owned(), why: why.to_string() }
}

/// An answer that is no refusal. 304 says that all was so already.
fn refused(doing: &str, response: Response) -> Result<Response, Error> {
    if response.is_success() || response.status == 304 {
        return Ok(response);
    }
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    let message = serde_json::from_slice(&response.body).map(|Refusal { message }| one_line(&message));
    let message = message.unwrap_or_else(|_| format!("status {} {}", response.status, response.text()));
    Err(Error::Refused { doing: doing.to_owned(), status: response.status, message })
}

/// What the engine says over several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect()
}

fn parse<T: serde::de::DeserializeOwned>(doing: &str, response: &Response) -> Result<T, Error> {
    serde_json::from_slice(&response.body).map_err(|error| unreadable(doing, error))
}

/// A path segment or a query's value: all but the unreserved characters of RFC 3986 section 2.3 become percent codes.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// Go writes an empty list as null.
fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Default + serde::Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    use serde::Deserialize;
    Option::deserialize(input).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response { status, fields: Vec::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn versions() {
        assert_eq!(ApiVersion::parse("1.41"), Some(ApiVersion(1, 41)));
        assert!(ApiVersion::parse("1.9") < ApiVersion::parse("1.41"), "not as text");
        assert_eq!(["", "1", "1.x", "v1.41"].map(ApiVersion::parse), [None; 4]);
        assert_eq!(
            Error::TooOld(ApiVersion(1, 24)).to_string(),
            "the engine speaks its API up to version 1.24, and 1.41 is needed: install Docker 20.10 or later"
        );
    }

    #[test]
    fn refusals_in_one_line() {
        let line = |status, body| refused("listing nodes", response(status, body)).unwrap_err().to_string();
        assert_eq!(line(503, "{\"message\":\"no\\n leader\"}"), "listing nodes: the engine says: no leader");
        assert_eq!(line(500, "a\n\nb"), "listing nodes: the engine says: status 500 a b");
        for status in [200, 201, 204, 304] {
            assert!(refused("", response(status, "")).is_ok(), "{status}");
        }
    }

    #[test]
    fn encoding() {
        assert_eq!(encode("hcl/consul:1.8.7"), "hcl%2Fconsul%3A1.8.7");
        assert_eq!(encode("{\"a\":[\"ö\"]}"), "%7B%22a%22%3A%5B%22%C3%B6%22%5D%7D");
    }
}
