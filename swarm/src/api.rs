//! Docker's API for the whole cluster, as classic Swarm served it.
//!
//! [`handle`] finds a request's [`routes::Route`], and the route's [`routes::Call`] says what serves it: a file here for each family
//! of endpoints. What is about one container, image or the like goes to an engine that has it and comes back as a stream; what is
//! about all of them is asked of all engines at once and put together. Only bodies that have to be changed are taken in, up to
//! 16 MiB.
//!
//! Anything can be sent here: what cannot be read is refused with a 400 or 404 as an engine would, and nothing panics.

mod answer;
mod ask;
mod containers;
mod entry;
mod fan;
pub mod filters;
mod images;
mod networks;
mod progress;
pub mod query;
mod refusal;
pub mod routes;
mod stream;
mod swarm_mode;
mod system;
mod version;
mod volumes;

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use self::{ask::Ask, containers::exec, routes::Call};
pub use self::{
    filters::Filters,
    query::{Query, segment},
    refusal::Refusal,
    version::ApiVersion,
};
use crate::{
    cluster::{Cluster, Engine},
    schedule::Strategy,
    transport::Body,
    users::User,
};

/// What requests are answered from.
pub struct State {
    /// The engines.
    pub cluster: Arc<Cluster>,
    /// How a container's node is chosen among those that fit.
    pub strategy: Strategy,
    /// Whether overlay networks are encrypted unless the request says otherwise.
    pub encrypt_overlays: bool,
    /// Whether each request is told on standard error.
    pub log_requests: bool,
    placing: containers::Placing,
    execs: containers::Execs,
}

impl State {
    /// A state with nothing under way.
    pub fn new(cluster: Arc<Cluster>, strategy: Strategy, encrypt_overlays: bool) -> Self {
        Self {
            cluster,
            strategy,
            encrypt_overlays,
            log_requests: false,
            placing: containers::Placing::default(),
            execs: containers::Execs::default(),
        }
    }

    /// Whether `node` is the engine's name, its id, or `master` and it leads.
    fn is_node(&self, engine: &Engine, node: &str) -> bool {
        self.cluster.engine(node).is_some_and(|found| found.name == engine.name)
    }

    /// The version that all engines that answer speak, and the oldest one that all of them still speak. Of engines that never
    /// answered nothing is known.
    fn versions(&self) -> (ApiVersion, ApiVersion) {
        let known: Vec<_> =
            self.cluster.engines().iter().map(|engine| engine.snapshot()).filter(|own| own.info.is_some()).collect();
        let answers = known.iter().any(|snapshot| snapshot.is_healthy());
        let infos =
            known.iter().filter(|snapshot| !answers || snapshot.is_healthy()).filter_map(|snapshot| snapshot.info.as_ref());
        let newest = infos.clone().filter_map(|info| info.api_version.parse().ok()).min().unwrap_or(ApiVersion::DEFAULT);
        let oldest = infos.filter_map(|info| info.min_api_version.parse().ok()).max().unwrap_or(ApiVersion::OLDEST);
        (oldest.max(ApiVersion::OLDEST), newest.min(ApiVersion::NEWEST))
    }
}

/// Answers one request of `user`. What is refused is an answer too, in an engine's form.
pub async fn handle(state: Arc<State>, user: User, request: Request<Incoming>) -> Response<Body> {
    if !state.log_requests {
        return respond(&state, request).await;
    }
    // Neither has blanks or line breaks in it, and queries, which may hold what is secret, are left out.
    let asked = format!("{} {}", request.method(), request.uri().path());
    let client = request.headers().get(header::USER_AGENT).and_then(|client| client.to_str().ok()).unwrap_or("-").to_owned();
    let response = respond(&state, request).await;
    eprintln!("request {} {asked} {} {client}", user.name, response.status().as_u16());
    response
}

async fn respond(state: &Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let (oldest, newest) = state.versions();
    let mut response = match answer(state, request, oldest, newest).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    dress(&mut response, newest);
    response
}

async fn answer(
    state: &Arc<State>,
    request: Request<Incoming>,
    oldest: ApiVersion,
    newest: ApiVersion,
) -> Result<Response<Body>, Refusal> {
    let page_not_found = || Refusal::not_found("page not found");
    let path = percent_decode_str(request.uri().path()).decode_utf8().map_err(|_| page_not_found())?;
    let (version, path) = ApiVersion::split(&path);
    if request.method() == Method::OPTIONS {
        return Ok(answer::status(StatusCode::OK));
    }
    let found = routes::find(request.method(), path).ok_or_else(page_not_found)?;
    if let Some(version) = version {
        version.check(oldest, newest)?;
    }
    let call = found.0.call;
    let ask = Ask::new(found, version.unwrap_or(newest), request);
    serve(state, call, ask, (oldest, newest)).await
}

async fn serve(
    state: &Arc<State>,
    call: Call,
    ask: Ask,
    (oldest, newest): (ApiVersion, ApiVersion),
) -> Result<Response<Body>, Refusal> {
    match call {
        Call::Ping => Ok(system::ping(state)),
        Call::Version => Ok(system::version(state, oldest, newest)),
        Call::Info => system::info(state, ask).await,
        Call::DiskUsage => system::disk_usage(state, ask).await,
        Call::Events => system::events(state, ask).await,
        Call::AnyEngine => system::any_engine(state, ask).await,
        Call::Manager => swarm_mode::pass(state, ask).await,
        Call::BuildKit => images::buildkit(state, ask).await,
        Call::Refused => Err(Refusal::not_here("Not supported in clustering mode.")),
        Call::ClusterOwn => Err(Refusal::not_here("The cluster forms its swarm by itself: nothing is to be done by hand.")),

        Call::ContainerList => containers::list(state, ask).await,
        Call::ContainerCreate => containers::create(state, ask).await,
        Call::ContainerInspect => containers::inspect(state, ask).await,
        Call::ContainerStart => containers::start(state, ask).await,
        Call::ContainerChange | Call::ContainerRemove => containers::change(state, ask).await,
        Call::ContainerPass | Call::ContainerAttach => containers::pass(state, ask).await,
        Call::ContainerRename => containers::rename(state, ask).await,
        Call::Commit => containers::commit(state, ask).await,
        Call::ContainerPrune => containers::prune(state, ask).await,
        Call::ExecCreate => exec::create(state, ask).await,
        Call::ExecStart | Call::ExecPass => exec::pass(state, ask).await,

        Call::ImageList => images::list(state, ask).await,
        Call::ImagePass => images::pass(state, ask).await,
        Call::ImageSave => images::save(state, ask).await,
        Call::ImageCreate => images::pull(state, ask).await,
        Call::ImageLoad => images::load(state, ask).await,
        Call::ImagePush => images::push(state, ask).await,
        Call::ImageTag => images::tag(state, ask).await,
        Call::ImageRemove => images::remove(state, ask).await,
        Call::ImagePrune => images::prune(state, ask).await,
        Call::Build => images::build(state, ask).await,
        Call::BuildCancel => images::build_cancel(state, ask).await,
        Call::BuildPrune => images::build_prune(state, ask).await,

        Call::VolumeList => volumes::list(state, ask).await,
        Call::VolumeCreate => volumes::create(state, ask).await,
        Call::VolumeInspect => volumes::inspect(state, ask).await,
        Call::VolumeRemove => volumes::remove(state, ask).await,
        Call::VolumePrune => volumes::prune(state, ask).await,

        Call::NetworkList => networks::list(state, ask).await,
        Call::NetworkCreate => networks::create(state, ask).await,
        Call::NetworkInspect => networks::inspect(state, ask).await,
        Call::NetworkRemove => networks::remove(state, ask).await,
        Call::NetworkConnect => networks::connect(state, ask).await,
        Call::NetworkDisconnect => networks::disconnect(state, ask).await,
        Call::NetworkPrune => networks::prune(state, ask).await,
    }
}

/// The headers that an engine puts on every answer; clients choose their version by them.
fn dress(response: &mut Response<Body>, newest: ApiVersion) {
    let headers = response.headers_mut();
    if let Ok(version) = HeaderValue::from_str(&newest.to_string()) {
        headers.insert("api-version", version);
    }
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(header::SERVER, HeaderValue::from_static(concat!("hcl-swarm/", env!("CARGO_PKG_VERSION"), " (linux)")));
}
