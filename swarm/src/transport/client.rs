//! HTTP/1.1 with one engine.
//!
//! Each exchange has a connection of its own for as long as it lasts; those that are through wait a while for the next one. So a
//! stream of hours needs nothing special, and short requests need no new connection.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    Body, Error, body,
    connect::{Connection, Endpoint},
    error::Kind,
};

/// How long a connection waits for its next request.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// How many do so at most: with a hundred engines what they hold is felt.
const IDLE_COUNT: usize = 2;
/// How long [`Client::read`] and [`Client::json`] wait.
const SHORT_LIMIT: Duration = Duration::from_secs(30);
/// How much they take.
const SHORT_BYTES: usize = 32 << 20;
/// More than any header of an engine has.
const HEADER_BYTES: usize = 64 << 10;

/// Speaks with one engine. Clones share their connections.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    name: String,
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<Vec<(SendRequest<Body>, Instant)>>,
}

impl Client {
    /// A client of the engine of node `name`. `tls` is what this node shows and believes; needed for [`Endpoint::Tls`].
    pub fn new(name: &str, endpoint: Endpoint, tls: Option<Arc<ClientConfig>>) -> Self {
        Self(Arc::new(Shared { name: name.to_owned(), endpoint, tls, idle: Mutex::default() }))
    }

    /// Where the engine is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Sends `request`, whose path and query go to the engine as they are, and gives the answer once its head is here. Bodies stream
    /// both ways. Dropping the future or the answer's body closes the connection, so that the engine knows that nobody listens.
    ///
    /// A request that may be upgraded keeps its `Connection` and `Upgrade`; `hyper::upgrade::on` gives the connection of a 101.
    ///
    /// # Errors
    ///
    /// The engine is not reached, or its answer does not come. What it refuses is an answer like any other.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let what = format!("{} {}", request.method(), request.uri().path());
        self.exchange(request).await.map_err(|kind| match kind {
            Failed::Before(kind) => self.error(kind),
            Failed::Within(error) => self.error(Kind::Exchange(what, error)),
        })
    }

    /// Asks for `path` and takes its answer as JSON, within 30 s and 32 MiB.
    ///
    /// # Errors
    ///
    /// As [`Client::send`]; the engine refused; or its answer is another one than was expected.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let (status, bytes) = self.collect(Method::GET, path, None).await?;
        let what = || format!("GET {path}");
        if !status.is_success() {
            return Err(self.error(Kind::Refused { what: what(), status, message: message(&bytes) }));
        }
        serde_json::from_slice(&bytes).map_err(|error| self.error(Kind::Answer(what(), error.to_string())))
    }

    /// Sends a short request and takes its whole answer, within 30 s and 32 MiB: the status, whatever it is, and the JSON; null for
    /// no body.
    ///
    /// # Errors
    ///
    /// As [`Client::send`], or the answer is no JSON.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), Error> {
        let what = format!("{method} {path}");
        let (status, bytes) = self.collect(method, path, body).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok((status, Value::Null));
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok((status, value)),
            // Text is how a proxy, or an engine that is on its way out, says no.
            Err(_) if !status.is_success() => Ok((status, serde_json::json!({ "message": message(&bytes) }))),
            Err(error) => Err(self.error(Kind::Answer(what, error.to_string()))),
        }
    }

    /// The answer to a question for `path` is another one than was expected.
    pub fn odd(&self, path: &str, why: impl fmt::Display) -> Error {
        self.error(Kind::Answer(format!("GET {path}"), why.to_string()))
    }

    async fn collect(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Bytes), Error> {
        let what = format!("{method} {path}");
        let answer = |why: String| self.error(Kind::Answer(what.clone(), why));
        let uri: Uri = path.parse().map_err(|_| answer("this is no path".to_owned()))?;
        let mut request = Request::new(body.map_or_else(body::empty, |value| body::full(value.to_string())));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        if body.is_some() {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let whole = async {
            let response = self.send(request).await?;
            let status = response.status();
            let bytes =
                Limited::new(response.into_body(), SHORT_BYTES).collect().await.map_err(|error| answer(error.to_string()))?;
            Ok((status, bytes.to_bytes()))
        };
        match timeout(SHORT_LIMIT, whole).await {
            Ok(done) => done,
            Err(_) => Err(self.error(Kind::Late(what.clone(), SHORT_LIMIT))),
        }
    }

    async fn exchange(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Failed> {
        prepare(&mut request);
        // A connection that waited may be gone, and nobody has noticed yet: hyper gives the request back if nothing of it was sent.
        while let Some(mut connection) = self.take_idle() {
            match connection.try_send_request(request).await {
                Ok(response) => return Ok(self.answered(connection, response)),
                Err(mut failed) => match failed.take_message() {
                    Some(back) => request = back,
                    None => return Err(Failed::Within(failed.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let response = connection.send_request(request).await.map_err(Failed::Within)?;
        Ok(self.answered(connection, response))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Failed> {
        let stream = Connection::open(&self.0.endpoint, self.0.tls.as_ref()).await.map_err(Failed::Before)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEADER_BYTES);
        let (connection, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(Failed::Within)?;
        // Its error is also that of the exchange that it carries.
        tokio::spawn(driver.with_upgrades());
        Ok(connection)
    }

    /// Has the connection wait for the next request once this answer is read; one that was upgraded or broke is never ready again.
    fn answered(&self, mut connection: SendRequest<Body>, mut response: Response<Incoming>) -> Response<Incoming> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // Between this program and the engine only; hyper says how the body goes on to the user.
            for name in ["connection", "keep-alive", "transfer-encoding", "trailer", "upgrade"] {
                response.headers_mut().remove(name);
            }
            let shared = Arc::downgrade(&self.0);
            tokio::spawn(async move {
                let ready = connection.ready().await;
                if let (Ok(()), Some(shared)) = (ready, shared.upgrade()) {
                    shared.keep(connection);
                }
            });
        }
        response
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.0.idle();
        idle.retain(|(connection, since)| !connection.is_closed() && since.elapsed() < IDLE_LIMIT);
        // The youngest: so the others come of age when there is less to do.
        idle.pop().map(|(connection, _)| connection)
    }

    fn error(&self, kind: Kind) -> Error {
        Error { engine: self.to_string(), kind }
    }
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(SendRequest<Body>, Instant)>> {
        // Nothing in it can be half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, connection: SendRequest<Body>) {
        let mut idle = self.idle();
        if idle.len() < IDLE_COUNT {
            idle.push((connection, Instant::now()));
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.name, self.0.endpoint)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client of {self}")
    }
}

enum Failed {
    Before(Kind),
    Within(hyper::Error),
}

/// Makes a request that came from a user one to an engine: what is between two ends of a connection is not passed on.
fn prepare(request: &mut Request<Body>) {
    *request.version_mut() = Version::HTTP_11;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    let upgrade = super::wants_upgrade(request.headers());
    let headers = request.headers_mut();
    for name in ["keep-alive", "proxy-connection", "te", "trailer", "expect"] {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    } else {
        headers.remove(header::UPGRADE);
    }
    // The length says it; hyper sets this one by the body.
    headers.remove(header::TRANSFER_ENCODING);
    headers.insert(header::HOST, HeaderValue::from_static("docker"));
}

/// The message of an engine's refusal: that of its JSON, or its text on one line.
fn message(bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    match serde_json::from_slice::<Refusal>(bytes) {
        Ok(refusal) => refusal.message,
        Err(_) => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]);
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    }
}
