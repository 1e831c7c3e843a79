//! What an engine tells while it happens (`GET /events`).

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;

use super::snapshot::or_default;

/// Longer lines are no events.
const LINE_BYTES: usize = 1 << 20;

/// One event. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Event {
    /// The node's name.
    pub engine: Arc<str>,
    /// What it says.
    pub fields: Arc<EventFields>,
    /// As the engine wrote it, without the newline.
    pub raw: Arc<str>,
}

/// What an event says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventFields {
    /// `container`, `image`, `network`, `volume`, `daemon`, `node`, `service`, …
    #[serde(rename = "Type", default)]
    pub kind: String,
    /// What happened, such as `start` or `exec_create: sh`.
    #[serde(default)]
    pub action: String,
    /// To whom.
    #[serde(default, deserialize_with = "or_default")]
    pub actor: Actor,
}

/// To whom something happened.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Actor {
    /// Its id or name.
    #[serde(rename = "ID")]
    pub id: String,
    /// More about it: labels and names.
    #[serde(deserialize_with = "or_default")]
    pub attributes: BTreeMap<String, String>,
}

/// What has to be asked for again after an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stale {
    /// A container, and whether it has to be inspected.
    Container(String, bool),
    Images,
    Networks,
    Volumes,
    Info,
}

impl EventFields {
    pub(super) fn stale(&self) -> Vec<Stale> {
        let id = || self.actor.id.clone();
        // Some have more after a colon: `exec_start: sh -c …`, `health_status: healthy`.
        let action = self.action.split(':').next().unwrap_or_default();
        match (self.kind.as_str(), action) {
            ("container", "create" | "start" | "restart" | "die" | "update" | "rename" | "health_status") => {
                vec![Stale::Container(id(), true)]
            }
            ("container", "destroy" | "pause" | "unpause" | "stop" | "kill" | "oom") => vec![Stale::Container(id(), false)],
            ("container", "prune") => vec![],
            ("network", "connect" | "disconnect") => {
                self.actor.attributes.get("container").map(|id| Stale::Container(id.clone(), false)).into_iter().collect()
            }
            ("network", _) => vec![Stale::Networks],
            ("image", "push" | "save") => vec![],
            ("image", _) => vec![Stale::Images],
            ("volume", "create" | "destroy" | "prune") => vec![Stale::Volumes],
            ("daemon" | "node", _) => vec![Stale::Info],
            _ => vec![],
        }
    }
}

/// Cuts a stream into lines.
#[derive(Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// The lines that `bytes` complete. An error for one that has no end.
    pub(super) fn push(&mut self, bytes: &Bytes) -> Result<Vec<String>, &'static str> {
        let mut lines = Vec::new();
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.0.extend_from_slice(&rest[..end]);
            let line = String::from_utf8_lossy(&self.0).trim().to_owned();
            self.0.clear();
            rest = &rest[end + 1..];
            if !line.is_empty() {
                lines.push(line);
            }
        }
        self.0.extend_from_slice(rest);
        if self.0.len() > LINE_BYTES { Err("an event of more than 1 MiB") } else { Ok(lines) }
    }
}
