//! Engines that are nothing but what a real one once said: as many as one likes, for the cost of a socket each.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::UnixListener, runtime::Runtime};

use super::Machine;

/// What a real engine answers, with which others are made.
struct Recorded {
    info: Value,
    version: Value,
    images: Value,
    networks: Value,
    volumes: Value,
    container: Value,
    inspected: Value,
}

/// A number of engines, each with some containers.
pub struct Simulated {
    /// Their sockets, by name.
    pub engines: Vec<(String, PathBuf)>,
    /// They end with it.
    _runtime: Runtime,
}

impl Simulated {
    /// `count` engines with `each` containers that run, all like the container `model` on the engine of `machine`; sockets in `folder`.
    pub fn like(machine: &Machine, model: &str, count: usize, each: usize, folder: &Path) -> Self {
        let get = |path: &str| machine.ask("GET", path, None).1;
        let listed = get(&format!("/containers/json?all=1&filters={{\"name\":[\"{model}\"]}}"));
        let recorded = Arc::new(Recorded {
            info: get("/info"),
            version: get("/version"),
            images: get("/images/json"),
            networks: get("/networks"),
            volumes: get("/volumes"),
            container: listed[0].clone(),
            inspected: get(&format!("/containers/{model}/json")),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        fs::create_dir_all(folder).unwrap();
        let engines: Vec<_> =
            (1..=count).map(|number| (format!("sim-{number}"), folder.join(format!("{number}.sock")))).collect();
        for (number, (_, socket)) in engines.iter().enumerate() {
            let _entered = runtime.enter();
            let listener = UnixListener::bind(socket).unwrap();
            runtime.spawn(serve(listener, recorded.clone(), number, each));
        }
        Self { engines, _runtime: runtime }
    }
}

async fn serve(listener: UnixListener, recorded: Arc<Recorded>, number: usize, each: usize) {
    while let Ok((stream, _)) = listener.accept().await {
        let recorded = recorded.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&recorded, number, each, request.uri().path(), request.uri().query().unwrap_or_default());
            async { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn id(engine: usize, container: usize) -> String {
    format!("{engine:04x}{container:04x}").repeat(8)
}

fn answer(recorded: &Recorded, number: usize, each: usize, path: &str, query: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let path = path.strip_prefix("/v").map_or(path, |rest| rest.find('/').map_or(path, |at| &rest[at..]));
    let name = |container: usize| format!("/one-{number}-{container}");
    let value = match path {
        "/_ping" => return text("OK"),
        // Nothing ever happens.
        "/events" => return Response::new(Pending.boxed()),
        "/info" => {
            let mut info = recorded.info.clone();
            info["ID"] = json!(format!("SIM{number}"));
            info["Name"] = json!(format!("sim-{}", number + 1));
            info["Containers"] = json!(each);
            info
        }
        "/version" => recorded.version.clone(),
        "/images/json" => recorded.images.clone(),
        "/networks" => recorded.networks.clone(),
        "/volumes" => recorded.volumes.clone(),
        "/containers/json" => (0..each)
            .filter(|container| !query.contains("filters=") || query.contains(&id(number, *container)))
            .map(|container| {
                let mut listed = recorded.container.clone();
                listed["Id"] = json!(id(number, container));
                listed["Names"] = json!([name(container)]);
                listed
            })
            .collect(),
        _ => {
            let wanted = path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")).unwrap_or_default();
            let Some(container) = (0..each).find(|container| id(number, *container) == wanted) else {
                let mut none = text("{\"message\":\"a simulated engine has no such thing\"}");
                *none.status_mut() = http::StatusCode::NOT_FOUND;
                return none;
            };
            let mut inspected = recorded.inspected.clone();
            inspected["Id"] = json!(wanted);
            inspected["Name"] = json!(name(container));
            inspected
        }
    };
    text(&value.to_string())
}

fn text(body: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())).boxed());
    response.headers_mut().insert("Content-Type", "application/json".parse().unwrap());
    response
}

/// A body that never comes and never ends.
struct Pending;

impl hyper::body::Body for Pending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}
