//! `GET /events`: what happens on all nodes, as it comes.
//!
//! Each engine is asked with the filters of the request, so that it tells what it would tell alone. Engines that come, or come back,
//! are asked from where they were left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};

use crate::{
    api::{
        State, answer,
        ask::Ask,
        fan,
        query::Query,
        refusal::Refusal,
        stream::{self, Lines, Pieces},
    },
    cluster::{Cluster, Engine},
    transport::{self, Body},
};

/// How often it is looked for engines that are new or back.
const LOOK: Duration = Duration::from_secs(1);
/// How long the engines have to tell of the past.
const PAST: Duration = Duration::from_millis(300);
/// How many events wait for a reader that is slow.
const PIECES: usize = 16;

/// Tells what happens.
///
/// # Errors
///
/// The request is wrong, or no engine answers.
pub async fn events(state: &State, ask: Ask) -> Result<Response<Body>, Refusal> {
    let path = ask.versioned("/events");
    let target = ask.query.on(&path);
    let opened = fan::all(fan::some_healthy(&state.cluster)?, |engine| {
        let target = target.clone();
        async move { open(&engine, &target).await }
    })
    .await;
    let mut streams = Vec::new();
    for (engine, response) in opened {
        match response {
            Ok(response) if response.status().is_success() => streams.push((engine, response.into_body())),
            Ok(response) => return Ok(response.map(transport::from_incoming)),
            // It has just stopped to answer: it is asked again when it is back.
            Err(_) => {}
        }
    }
    let (pieces, body) = stream::body();
    let merge = Merge { cluster: Arc::clone(&state.cluster), path, query: ask.query, pieces: pieces.clone() };
    tokio::spawn(async move {
        tokio::select! {
            () = merge.run(streams) => {}
            // Nobody reads any more; what runs for it ends with it.
            () = pieces.closed() => {}
        }
    });
    Ok(answer::typed(StatusCode::OK, "application/json", body))
}

async fn open(engine: &Engine, target: &str) -> Result<Response<Incoming>, Refusal> {
    let mut request = Request::new(transport::empty());
    *request.uri_mut() = target.parse().map_err(|_| Refusal::bad_request("the filters have characters that no path has"))?;
    Ok(engine.client().send(request).await?)
}

/// What an engine's reader says.
enum Told {
    /// An event: when it was, and how it goes out.
    Event(u64, Bytes),
    /// The engine's name, and just after which moment its last event was, where it told one.
    Ended(String, Option<String>),
}

struct Merge {
    cluster: Arc<Cluster>,
    path: String,
    query: Query,
    pieces: Pieces,
}

impl Merge {
    async fn run(self, streams: Vec<(Arc<Engine>, Incoming)>) {
        let (sender, mut told) = mpsc::channel(PIECES);
        let given = |key| self.query.get(key).filter(|value| !value.is_empty());
        let (ends, begun) = (given("until").is_some(), given("since").map_or_else(now, str::to_owned));
        // Where each engine was left; one that is being read has none.
        let mut left: BTreeMap<String, Option<String>> = BTreeMap::new();
        let mut readers = JoinSet::new();
        for (engine, stream) in streams {
            left.insert(engine.name.clone(), None);
            readers.spawn(read(Arc::clone(&self.cluster), engine, stream, sender.clone()));
        }
        let mut past = Past::new(given("since").is_some(), given("until"));
        let mut look = interval(LOOK);
        loop {
            if ends && left.values().all(Option::is_some) {
                past.release(&self.pieces).await;
                return;
            }
            tokio::select! {
                Some(next) = told.recv() => match next {
                    Told::Event(time, line) => past.take(time, line, &self.pieces).await,
                    Told::Ended(name, last) => drop(left.insert(name, Some(last.unwrap_or_else(|| begun.clone())))),
                },
                () = past.over() => past.release(&self.pieces).await,
                _ = look.tick(), if !ends => {
                    while readers.try_join_next().is_some() {}
                    for engine in fan::healthy(&self.cluster) {
                        let since = match left.get(&engine.name) {
                            Some(None) => continue,
                            Some(Some(since)) => since.clone(),
                            None => begun.clone(),
                        };
                        left.insert(engine.name.clone(), None);
                        let mut query = self.query.clone();
                        query.set("since", since.clone());
                        readers.spawn(again(Arc::clone(&self.cluster), engine, query.on(&self.path), sender.clone(), since));
                    }
                }
            }
        }
    }
}

/// Events from before the question, which each engine tells at once: put in the order in which they happened.
struct Past {
    held: Option<Vec<(u64, Bytes)>>,
    /// Until when they are waited for; none: until the engines are through.
    until: Option<Instant>,
}

impl Past {
    fn new(since: bool, until: Option<&str>) -> Self {
        // A second that is over: the engines tell what there is and end.
        let over = until.and_then(|until| until.split('.').next()?.parse::<u64>().ok()).is_some_and(|until| until <= seconds());
        Self { held: (since || over).then(Vec::new), until: (!over).then(|| Instant::now() + PAST) }
    }

    async fn take(&mut self, time: u64, line: Bytes, pieces: &Pieces) {
        match &mut self.held {
            Some(held) => held.push((time, line)),
            // A reader that is gone ends all of it from outside.
            None => drop(pieces.send(Ok(line)).await),
        }
    }

    /// Ready when no more are waited for.
    async fn over(&self) {
        match (&self.held, self.until) {
            (Some(_), Some(until)) => sleep_until(until).await,
            _ => std::future::pending().await,
        }
    }

    async fn release(&mut self, pieces: &Pieces) {
        let mut held = self.held.take().unwrap_or_default();
        held.sort_by_key(|(time, _)| *time);
        for (_, line) in held {
            let _ = pieces.send(Ok(line)).await;
        }
    }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The same as the query has them.
fn now() -> String {
    seconds().to_string()
}

async fn again(cluster: Arc<Cluster>, engine: Arc<Engine>, target: String, told: mpsc::Sender<Told>, since: String) {
    match open(&engine, &target).await {
        Ok(response) if response.status().is_success() => read(cluster, engine, response.into_body(), told).await,
        _ => drop(told.send(Told::Ended(engine.name.clone(), Some(since))).await),
    }
}

/// Reads one engine's events until they end.
async fn read(cluster: Arc<Cluster>, engine: Arc<Engine>, mut stream: Incoming, told: mpsc::Sender<Told>) {
    let mut lines = Lines::default();
    let mut last = None;
    'stream: while let Some(Ok(frame)) = stream.frame().await {
        let Some(bytes) = frame.data_ref() else { continue };
        let Ok(complete) = lines.push(bytes) else { break };
        for line in complete {
            let Ok(mut event) = serde_json::from_slice::<Value>(&line) else { continue };
            last = after(&event).or(last);
            // Each manager tells of the swarm, and one is enough.
            let swarm = event.get("scope").and_then(Value::as_str) == Some("swarm");
            if swarm && cluster.manager().is_some_and(|manager| manager.name != engine.name) {
                continue;
            }
            name_node(&mut event, &engine);
            let time = event.get("timeNano").and_then(Value::as_u64).unwrap_or_default();
            if told.send(Told::Event(time, Bytes::from(format!("{event}\n")))).await.is_err() {
                break 'stream;
            }
        }
    }
    let _ = told.send(Told::Ended(engine.name.clone(), last)).await;
}

/// The moment after an event, in seconds with nine digits behind the point.
fn after(event: &Value) -> Option<String> {
    let nano = event.get("timeNano")?.as_u64()?.saturating_add(1);
    Some(format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000))
}

/// Says where it happened, where clients of classic Swarm look for it.
fn name_node(event: &mut Value, engine: &Engine) {
    let snapshot = engine.snapshot();
    let id = snapshot.id().unwrap_or_default();
    let (address, ip) = (engine.client().endpoint().to_string(), engine.address.to_string());
    add(event, [("node.name", &engine.name), ("node.id", id), ("node.addr", &address), ("node.ip", &ip)]);
}

fn add(event: &mut Value, node: [(&str, &str); 4]) {
    if let Some(Value::Object(attributes)) = event.pointer_mut("/Actor/Attributes") {
        attributes.extend(node.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
    }
    let [name, id, address, ip] = node.map(|(_, value)| value);
    if let Some(event) = event.as_object_mut() {
        event.insert("node".to_owned(), json!({ "Name": name, "Id": id, "Addr": address, "Ip": ip }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_named() {
        let mut event = json!({"Type": "container", "Actor": {"ID": "1", "Attributes": {"name": "web"}}, "timeNano": 1_700_000_000_000_000_009_u64});
        add(&mut event, [("node.name", "n1"), ("node.id", "AB"), ("node.addr", "10.0.0.1:2376"), ("node.ip", "10.0.0.1")]);
        assert_eq!(event.pointer("/Actor/Attributes/node.name"), Some(&json!("n1")));
        assert_eq!(event.pointer("/Actor/Attributes/name"), Some(&json!("web")));
        assert_eq!(event.pointer("/node/Ip"), Some(&json!("10.0.0.1")));
        assert_eq!(after(&event).as_deref(), Some("1700000000.000000010"));
        for mut odd in [json!(null), json!([]), json!({"Actor": 1}), json!({"Actor": {"Attributes": null}})] {
            add(&mut odd, [("a", ""); 4]);
            assert_eq!(after(&odd), None);
        }
    }
}
