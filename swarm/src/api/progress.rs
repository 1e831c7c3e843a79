//! Streams of progress (`pull`, `load`, `build`) of several engines, put together into one.
//!
//! A client stops at the first error of such a stream, while other nodes may still be at work. So a node's error is a line like any
//! other at first, and is told as an error when all are done. If no node even begins, that is an engine's own refusal.

use std::{
    collections::{BTreeSet, VecDeque},
    future::Future,
    sync::Arc,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    answer,
    containers::taken_in,
    refusal::Refusal,
    stream::{self, Lines, Pieces},
};
use crate::{
    cluster::Engine,
    transport::{self, Body},
};

/// What a node said.
enum Said {
    /// It has begun.
    Begun,
    /// A message.
    Message(Arc<Engine>, Value),
    /// It is done.
    Done(Arc<Engine>),
    /// It failed, before it began or after.
    Failed(Arc<Engine>, Refusal),
}

/// How messages of nodes are shown in the one stream.
pub trait Shown: Send + Sync + 'static {
    /// A message of a node; none for one that is not shown.
    fn message(&mut self, node: &str, message: Value) -> Option<Value>;
    /// What is said when a node is done.
    fn done(&mut self, node: &str) -> Option<Value>;
}

/// Opens a stream on each engine and puts them together.
///
/// # Errors
///
/// No engine begins: what the first one said.
pub async fn gather<F>(
    engines: Vec<Arc<Engine>>,
    shown: impl Shown,
    open: impl Fn(Arc<Engine>) -> F,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = Result<Response<Incoming>, Refusal>> + Send + 'static,
{
    let (sender, mut said) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    for engine in &engines {
        let (engine, opening, sender) = (Arc::clone(engine), open(Arc::clone(engine)), sender.clone());
        tasks.spawn(async move {
            let ended = match follow(&engine, opening, &sender).await {
                Ok(()) => Said::Done(engine),
                Err(refusal) => Said::Failed(engine, refusal),
            };
            // Nobody listens any more: then nobody wants to know.
            let _ = sender.send(ended).await;
        });
    }
    drop(sender);
    let mut failed = Vec::new();
    while let Some(first) = said.recv().await {
        match first {
            Said::Failed(engine, refusal) => failed.push((engine, refusal)),
            // It has begun, so there is an answer.
            _ => {
                let (pieces, body) = stream::body();
                let merge = Merge { count: engines.len(), shown, failed, pieces: pieces.clone() };
                tokio::spawn(async move {
                    tokio::select! {
                        () = merge.run(said) => {}
                        () = pieces.closed() => {}
                    }
                    // Whoever is still at work has nobody to work for.
                    drop(tasks);
                });
                return Ok(answer::typed(StatusCode::OK, "application/json", body));
            }
        }
    }
    Err(failed.into_iter().next().map_or_else(|| Refusal::unavailable("no node of the cluster answers"), |(_, refusal)| refusal))
}

async fn follow(
    engine: &Arc<Engine>,
    opening: impl Future<Output = Result<Response<Incoming>, Refusal>>,
    sender: &mpsc::Sender<Said>,
) -> Result<(), Refusal> {
    let response = opening.await?;
    if !response.status().is_success() {
        let (status, answer) = taken_in(engine, response.map(transport::from_incoming)).await?;
        return Err(Refusal::of_engine(status, &answer));
    }
    let closed = || Refusal::failed("nobody listens any more");
    sender.send(Said::Begun).await.map_err(|_| closed())?;
    let mut error = None;
    let mut messages = Messages::of(response.into_body());
    while let Some(message) = messages.next().await? {
        match failure(&message) {
            Some(text) => error = Some(text),
            None => sender.send(Said::Message(Arc::clone(engine), message)).await.map_err(|_| closed())?,
        }
    }
    error.map_or(Ok(()), |text| Err(Refusal::failed(text)))
}

/// The messages of a stream. What is no JSON is left out.
pub struct Messages {
    body: Incoming,
    lines: Lines,
    ready: VecDeque<Bytes>,
}

impl Messages {
    /// Those of `body`.
    pub fn of(body: Incoming) -> Self {
        Self { body, lines: Lines::default(), ready: VecDeque::new() }
    }

    /// The next one; none at the end.
    ///
    /// # Errors
    ///
    /// The stream is cut.
    pub async fn next(&mut self) -> Result<Option<Value>, Refusal> {
        loop {
            while let Some(line) = self.ready.pop_front() {
                if let Ok(message) = serde_json::from_slice(&line) {
                    return Ok(Some(message));
                }
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(self.lines.rest().and_then(|line| serde_json::from_slice(&line).ok()));
            };
            let frame = frame.map_err(|error| Refusal::failed(format!("the engine stopped in the middle: {error}")))?;
            if let Some(bytes) = frame.data_ref() {
                self.ready.extend(self.lines.push(bytes).map_err(|error| Refusal::failed(error.to_string()))?);
            }
        }
    }
}

/// What a message says went wrong.
pub fn failure(message: &Value) -> Option<String> {
    let detail = message.pointer("/errorDetail/message").or_else(|| message.get("error"))?;
    Some(detail.as_str().unwrap_or("it failed without saying why").to_owned())
}

/// The message that says so.
pub fn failure_message(text: &str) -> Value {
    json!({ "errorDetail": { "message": text }, "error": text })
}

/// A message as a line of a stream.
pub fn line(message: &Value) -> Bytes {
    Bytes::from(format!("{message}\r\n"))
}

struct Merge<S> {
    count: usize,
    shown: S,
    failed: Vec<(Arc<Engine>, Refusal)>,
    pieces: Pieces,
}

impl<S: Shown> Merge<S> {
    async fn run(mut self, mut said: mpsc::Receiver<Said>) {
        for (engine, refusal) in std::mem::take(&mut self.failed) {
            self.failed(engine, refusal).await;
        }
        while let Some(next) = said.recv().await {
            let message = match next {
                Said::Begun => None,
                Said::Message(engine, message) => self.shown.message(&engine.name, message),
                Said::Done(engine) => self.shown.done(&engine.name),
                Said::Failed(engine, refusal) => {
                    self.failed(engine, refusal).await;
                    None
                }
            };
            if let Some(message) = message {
                self.send(&message).await;
            }
        }
        if let Some(text) =
            summary(self.count, self.failed.iter().map(|(engine, refusal)| (engine.name.as_str(), refusal.message())))
        {
            self.send(&failure_message(&text)).await;
        }
    }

    async fn failed(&mut self, engine: Arc<Engine>, refusal: Refusal) {
        self.send(&json!({ "id": engine.name, "status": refusal.message() })).await;
        self.failed.push((engine, refusal));
    }

    async fn send(&self, message: &Value) {
        // A reader that is gone ends all of it from outside.
        let _ = self.pieces.send(Ok(line(message))).await;
    }
}

/// What failed on how many of `count` nodes. Where all of them say the same, it is said once, as one engine would.
fn summary<'a>(count: usize, failed: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let failed: Vec<_> = failed.collect();
    let texts: BTreeSet<_> = failed.iter().map(|(_, text)| *text).collect();
    match failed.as_slice() {
        [] => None,
        [(_, text), ..] if failed.len() == count && texts.len() == 1 => Some((*text).to_owned()),
        _ => Some(failed.iter().map(|(node, text)| format!("{node}: {text}")).collect::<Vec<_>>().join("; ")),
    }
}

/// Each message with its node before its id, so that a terminal has a line for each layer on each node.
pub struct ByNode;

impl Shown for ByNode {
    fn message(&mut self, node: &str, mut message: Value) -> Option<Value> {
        let object = message.as_object_mut()?;
        let id = match object.get("id").and_then(Value::as_str) {
            Some(id) if !id.is_empty() => format!("{node} {id}"),
            _ => node.to_owned(),
        };
        object.insert("id".to_owned(), Value::String(id));
        Some(message)
    }

    fn done(&mut self, _: &str) -> Option<Value> {
        None
    }
}

/// Progress as [`ByNode`]; what it comes to (`Loaded image: …`) once, as programs read it, and when each node is done.
pub struct Outcome {
    seen: BTreeSet<String>,
    quiet: bool,
}

impl Outcome {
    /// `quiet`: only the outcome is wanted.
    pub fn new(quiet: bool) -> Self {
        Self { seen: BTreeSet::new(), quiet }
    }
}

impl Shown for Outcome {
    fn message(&mut self, node: &str, message: Value) -> Option<Value> {
        match message.get("stream").and_then(Value::as_str) {
            Some(text) => self.seen.insert(text.to_owned()).then_some(message),
            None if self.quiet => None,
            None => ByNode.message(node, message),
        }
    }

    fn done(&mut self, node: &str) -> Option<Value> {
        (!self.quiet).then(|| json!({ "id": node, "status": "Loaded" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_pull() {
        for (message, expected) in [
            (json!({"status": "Pull complete", "id": "abc"}), json!({"status": "Pull complete", "id": "n1 abc"})),
            (json!({"status": "Digest: sha256:0"}), json!({"status": "Digest: sha256:0", "id": "n1"})),
            (json!({"status": "x", "id": 1}), json!({"status": "x", "id": "n1"})),
        ] {
            assert_eq!(ByNode.message("n1", message), Some(expected));
        }
        assert_eq!(ByNode.message("n1", json!(1)), None);
    }

    #[test]
    fn lines_of_a_load() {
        let mut outcome = Outcome::new(false);
        let loaded = json!({"stream": "Loaded image: x:1\n"});
        assert_eq!(outcome.message("n1", loaded.clone()), Some(loaded.clone()));
        assert_eq!(outcome.message("n2", loaded), None);
        assert_eq!(outcome.done("n1"), Some(json!({"id": "n1", "status": "Loaded"})));
        let mut quiet = Outcome::new(true);
        assert_eq!(quiet.message("n1", json!({"status": "Loading layer", "id": "abc"})), None);
        assert_eq!(quiet.done("n1"), None);
    }

    #[test]
    fn what_failed() {
        assert_eq!(summary(3, [].into_iter()), None);
        assert_eq!(summary(2, [("n1", "no"), ("n2", "no")].into_iter()).as_deref(), Some("no"));
        assert_eq!(summary(3, [("n1", "no"), ("n2", "no")].into_iter()).as_deref(), Some("n1: no; n2: no"));
        assert_eq!(summary(2, [("n1", "a"), ("n2", "b")].into_iter()).as_deref(), Some("n1: a; n2: b"));
        assert_eq!(failure(&json!({"errorDetail": {"message": "a"}, "error": "b"})).as_deref(), Some("a"));
        assert_eq!(failure(&json!({"error": "b"})).as_deref(), Some("b"));
        assert_eq!(failure(&json!({"status": "b"})), None);
    }
}
