//! What the engine of this node is asked.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};

use super::container::{Container, Listed};
use crate::local::{self, Socket};

/// How long an answer may take; an engine that starts many containers at once is slow.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest line of events, in bytes: one has all labels of its container.
const LONGEST_LINE: usize = 1 << 20;
/// What matters here of what happens to containers.
const FILTER: &str = r#"{"type":["container"],"event":["start","unpause","rename","kill","pause","die","destroy"]}"#;

/// Why the engine did not say.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("the engine does not answer: {0}")]
    Silent(#[from] local::Error),
    /// It says no, or something that is not in its documentation.
    #[error("the engine's answer to GET {path}: {why}")]
    Unexpected {
        /// What was asked.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// The engine of this node.
#[derive(Clone, Debug)]
pub struct Engine(Socket);

impl Engine {
    /// The engine on this socket.
    pub fn new(socket: Socket) -> Self {
        Self(socket)
    }

    /// The containers that run, those that are paused too.
    ///
    /// # Errors
    ///
    /// The engine does not say.
    pub async fn running(&self) -> Result<Vec<Listed>, Error> {
        let path = "/containers/json";
        self.read(path).await?.ok_or_else(|| unexpected(path, "not found"))
    }

    /// A container; none where there is none of this id.
    ///
    /// # Errors
    ///
    /// The engine does not say.
    pub async fn container(&self, id: &str) -> Result<Option<Container>, Error> {
        self.read(&format!("/containers/{}/json", utf8_percent_encode(id, NON_ALPHANUMERIC))).await
    }

    /// What happens to containers from now on.
    ///
    /// # Errors
    ///
    /// The engine does not say.
    pub async fn events(&self) -> Result<Events, Error> {
        let path = format!("/events?filters={}", utf8_percent_encode(FILTER, NON_ALPHANUMERIC));
        let response = self.0.open(request(&path)?, LIMIT).await?;
        if response.status() != StatusCode::OK {
            return Err(unexpected("/events", &format!("status {}", response.status())));
        }
        Ok(Events { body: response.into_body(), unread: BytesMut::new() })
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        let response = self.0.exchange(request(path)?, LIMIT).await?;
        match response.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => match serde_json::from_slice(&response.body) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(unexpected(path, &error.to_string())),
            },
            status => Err(unexpected(path, &format!("{}: {}", status.as_u16(), response.text()))),
        }
    }
}

fn request(path: &str) -> Result<Request<Full<Bytes>>, Error> {
    Request::get(path).body(Full::default()).map_err(|error| unexpected(path, &error.to_string()))
}

fn unexpected(path: &str, why: &str) -> Error {
    Error::Unexpected { path: path.split('?').next().unwrap_or(path).to_owned(), why: why.to_owned() }
}

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which container.
    pub container: String,
    /// What happened.
    pub kind: Kind,
}

/// What can happen to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It takes connections, or will soon: it was started, or goes on after a pause.
    Came,
    /// It has another name.
    Renamed,
    /// It was told to end.
    Told,
    /// It takes no more connections: it ended, or is paused.
    Went,
}

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    unread: BytesMut,
}

impl Events {
    /// The next event; none where the engine ends the stream. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(end + 1);
                if let Some(event) = event(&line) {
                    return Some(event);
                }
            }
            if self.unread.len() > LONGEST_LINE {
                return None;
            }
            let piece = self.body.frame().await?.ok()?;
            if let Ok(data) = piece.into_data() {
                self.unread.extend_from_slice(&data);
            }
        }
    }
}

/// What a line says that matters here.
fn event(line: &[u8]) -> Option<Event> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Raw {
        action: String,
        actor: Actor,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Actor {
        #[serde(rename = "ID")]
        id: String,
        #[serde(default)]
        attributes: Attributes,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Attributes {
        signal: String,
    }
    let Raw { action, actor } = serde_json::from_slice(line).ok()?;
    let kind = match action.as_str() {
        "start" | "unpause" => Kind::Came,
        "rename" => Kind::Renamed,
        "kill" if ends(&actor.attributes.signal) => Kind::Told,
        "pause" | "die" | "destroy" => Kind::Went,
        _ => return None,
    };
    Some(Event { container: actor.id, kind })
}

/// Whether a signal is meant to end a container. The engine says its number, and some versions its name; images choose their own:
/// nginx's is QUIT, systemd's RTMIN+3 (37), httpd's WINCH (28). Others tell a program to read its configuration, and the like.
fn ends(signal: &str) -> bool {
    const NUMBERS: [u32; 7] = [2, 3, 6, 9, 15, 28, 37];
    const NAMES: [&str; 7] = ["INT", "QUIT", "ABRT", "KILL", "TERM", "WINCH", "RTMIN+3"];
    match signal.parse() {
        Ok(number) => NUMBERS.contains(&number),
        Err(_) => NAMES.contains(&signal.trim_start_matches("SIG")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(action: &str, signal: &str) -> Option<Kind> {
        let attributes = if signal.is_empty() { "{}".to_owned() } else { format!(r#"{{"signal":"{signal}","image":"x"}}"#) };
        let line =
            format!(r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"01","Attributes":{attributes}}},"time":1}}"#);
        let event = event(line.as_bytes())?;
        assert_eq!(event.container, "01");
        Some(event.kind)
    }

    #[test]
    fn events() {
        let table = [
            ("start", "", Some(Kind::Came)),
            ("unpause", "", Some(Kind::Came)),
            ("rename", "", Some(Kind::Renamed)),
            ("kill", "15", Some(Kind::Told)),
            ("kill", "SIGTERM", Some(Kind::Told)),
            ("kill", "9", Some(Kind::Told)),
            ("kill", "1", None),
            ("kill", "SIGHUP", None),
            ("kill", "", None),
            ("die", "", Some(Kind::Went)),
            ("pause", "", Some(Kind::Went)),
            ("destroy", "", Some(Kind::Went)),
            ("exec_start: sh", "", None),
        ];
        for (action, signal, kind) in table {
            assert_eq!(of(action, signal), kind, "{action} {signal}");
        }
        assert_eq!(event(b"{}\n"), None);
        assert_eq!(event(b"\n"), None);
    }
}
