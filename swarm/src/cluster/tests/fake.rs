//! An engine that is played.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::UnixListener,
    sync::{broadcast, watch},
};

use super::super::Member;
use crate::transport::{Body, Endpoint, full};

/// One engine on a unix socket.
pub(super) struct Fake {
    name: String,
    folder: TempDir,
    state: Arc<State>,
    /// Its connections live while this says false.
    stopped: watch::Sender<bool>,
}

struct State {
    name: String,
    containers: Mutex<BTreeMap<String, (String, String)>>,
    images: Mutex<Vec<Value>>,
    answers: Mutex<BTreeMap<String, String>>,
    events: broadcast::Sender<String>,
    hangs: AtomicBool,
    questions: AtomicUsize,
    inspections: AtomicUsize,
}

impl Fake {
    pub(super) fn start(name: &str) -> Self {
        let state = State {
            name: name.to_owned(),
            containers: Mutex::default(),
            images: Mutex::new(vec![image("sha256:1", "busybox:latest")]),
            answers: Mutex::default(),
            events: broadcast::channel(64).0,
            hangs: AtomicBool::new(false),
            questions: AtomicUsize::new(0),
            inspections: AtomicUsize::new(0),
        };
        let folder = tempfile::tempdir().unwrap();
        let mut fake = Self { name: name.to_owned(), folder, state: Arc::new(state), stopped: watch::Sender::new(true) };
        fake.restart();
        fake
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("engine")
    }

    pub(super) fn member(&self) -> Member {
        Member { name: self.name.clone(), endpoint: Endpoint::Unix(self.socket()), trouble: None }
    }

    /// As if it were killed: its socket is gone and all connections are closed.
    pub(super) fn stop(&mut self) {
        std::fs::remove_file(self.socket()).unwrap();
        self.stopped.send_replace(true);
    }

    pub(super) fn restart(&mut self) {
        self.stopped = watch::Sender::new(false);
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (state, stopped) = (Arc::clone(&self.state), self.stopped.subscribe());
        tokio::spawn(async move {
            let mut until = stopped.clone();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = until.wait_for(|stopped| *stopped) => return,
                };
                let (state, mut until) = (Arc::clone(&state), stopped.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(Arc::clone(&state), request));
                    tokio::select! {
                        _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
                        _ = until.wait_for(|stopped| *stopped) => {}
                    }
                });
            }
        });
    }

    /// Says nothing to any request from now on, while its connections stand.
    pub(super) fn hang(&self, hangs: bool) {
        self.state.hangs.store(hangs, Ordering::SeqCst);
    }

    pub(super) fn add_container(&self, id: &str, name: &str, state: &str) {
        self.state.containers.lock().unwrap().insert(id.to_owned(), (name.to_owned(), state.to_owned()));
    }

    pub(super) fn rename(&self, id: &str, name: &str) {
        self.state.containers.lock().unwrap().get_mut(id).unwrap().0 = name.to_owned();
    }

    pub(super) fn remove_container(&self, id: &str) {
        self.state.containers.lock().unwrap().remove(id);
    }

    pub(super) fn add_image(&self, id: &str, tag: &str) {
        self.state.images.lock().unwrap().push(image(id, tag));
    }

    /// Its answer to `path` from now on.
    pub(super) fn answer(&self, path: &str, text: &str) {
        self.state.answers.lock().unwrap().insert(path.to_owned(), text.to_owned());
    }

    pub(super) fn tell(&self, kind: &str, action: &str, id: &str) {
        let event = json!({ "Type": kind, "Action": action, "Actor": { "ID": id, "Attributes": { "name": "x" } }, "time": 1 });
        self.state.events.send(format!("{event}\n")).unwrap();
    }

    /// How many containers were asked for, alone or all.
    pub(super) fn questions(&self) -> usize {
        self.state.questions.load(Ordering::SeqCst)
    }

    pub(super) fn inspections(&self) -> usize {
        self.state.inspections.load(Ordering::SeqCst)
    }
}

fn image(id: &str, tag: &str) -> Value {
    json!({ "Id": id, "RepoTags": [tag], "RepoDigests": null, "Labels": null, "Created": 1, "Size": 4_000_000 })
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if state.hangs.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let path = request.uri().path();
    if path == "/events" {
        return Ok(Response::new(events(&state)));
    }
    let said = state.answers.lock().unwrap().get(path).cloned();
    let answer = said.or_else(|| state.answer(path, request.uri().query().unwrap_or_default()));
    let mut response = Response::new(full(answer.clone().unwrap_or_else(|| "{\"message\":\"none\"}".to_owned())));
    if answer.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

impl State {
    fn answer(&self, path: &str, query: &str) -> Option<String> {
        let answer = match path {
            "/_ping" => return Some("OK".to_owned()),
            "/info" => json!({
                "ID": format!("ID-{}", self.name), "Name": self.name, "NCPU": 4, "MemTotal": 1 << 30, "OSType": "linux", "Driver": "overlay2",
                "Labels": ["hypriot.arch=armv7l"], "Swarm": { "NodeID": "n", "LocalNodeState": "active", "ControlAvailable": true }
            }),
            "/version" => json!({ "ApiVersion": "1.45", "MinAPIVersion": "1.24", "Version": "26.1.5" }),
            "/containers/json" => {
                self.questions.fetch_add(1, Ordering::SeqCst);
                let query = percent_decode_str(query).decode_utf8().unwrap();
                let containers = self.containers.lock().unwrap();
                let asked = |id: &str| !query.contains("filters=") || query.contains(&id[..3]);
                containers.iter().filter(|(id, _)| asked(id)).map(|(id, (name, state))| listed(id, name, state)).collect()
            }
            "/images/json" => json!(*self.images.lock().unwrap()),
            "/networks" => json!([{ "Name": "bridge", "Id": "b", "Driver": "bridge", "Scope": "local" }]),
            "/volumes" => json!({ "Volumes": [{ "Name": "data", "Driver": "local" }], "Warnings": null }),
            path => {
                let id = path.strip_prefix("/containers/")?.strip_suffix("/json")?;
                self.questions.fetch_add(1, Ordering::SeqCst);
                self.inspections.fetch_add(1, Ordering::SeqCst);
                self.containers.lock().unwrap().get(id).map(|_| inspected(id))?
            }
        };
        Some(answer.to_string())
    }
}

fn listed(id: &str, name: &str, state: &str) -> Value {
    json!({
        "Id": id, "Names": [format!("/{name}")], "Image": "busybox", "ImageID": "sha256:1", "Created": 1_700_000_000, "State": state,
        "Status": "Up 3 minutes", "Labels": { "app": "web" }, "HostConfig": { "NetworkMode": "bridge" },
        "Ports": [{ "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 32768, "Type": "tcp" }, { "PrivatePort": 81, "Type": "tcp" }]
    })
}

fn inspected(id: &str) -> Value {
    json!({
        "Id": id,
        "State": { "StartedAt": "2026-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z", "ExitCode": 0 },
        "HostConfig": {
            "Memory": 1 << 20, "NanoCpus": 500_000_000, "CpuShares": 0, "VolumesFrom": null, "Links": null,
            "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "8080" }], "81/tcp": null }
        },
        "Config": { "ExposedPorts": { "80/tcp": {} } }
    })
}

/// A stream without end.
fn events(state: &State) -> Body {
    let receiver = state.events.subscribe();
    Stream(Box::pin(next(receiver))).boxed_unsync()
}

type Next = std::pin::Pin<Box<dyn Future<Output = Option<(String, broadcast::Receiver<String>)>> + Send>>;

async fn next(mut receiver: broadcast::Receiver<String>) -> Option<(String, broadcast::Receiver<String>)> {
    receiver.recv().await.ok().map(|event| (event, receiver))
}

struct Stream(Next);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = crate::transport::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0.as_mut().poll(cx).map(|happened| {
            let (event, receiver) = happened?;
            self.0 = Box::pin(next(receiver));
            Some(Ok(hyper::body::Frame::data(event.into())))
        })
    }
}
