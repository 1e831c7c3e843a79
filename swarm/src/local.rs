//! HTTP on unix sockets of this node: Consul's, and the engine's where nobody stands between.
//!
//! One exchange a connection: to connect to a unix socket costs nothing, and no connection can have gone stale. An exchange that
//! is dropped closes its connection, so that the other side hears of it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Deserializer};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout_at},
};

/// The longest body that is read as a whole, in bytes: more than any list of a cluster of this size.
const LONGEST_BODY: usize = 16 << 20;
/// How long a connection may take. The kernel does it at once, unless the queue of the listener is full.
const CONNECT: Duration = Duration::from_secs(2);

/// A socket that speaks HTTP. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Socket {
    path: Arc<Path>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Response {
    /// The body as text for messages: one line, cut where it is long.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(300).collect()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("nobody answers on {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("{what} on {}: {source}", path.display())]
    Exchange {
        /// What was asked.
        what: String,
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("{what} on {}: no answer within {} s", path.display(), limit.as_secs_f32())]
    Late {
        /// What was asked.
        what: String,
        /// The socket.
        path: PathBuf,
        /// How long it might have taken.
        limit: Duration,
    },
    /// More than is ever needed.
    #[error("{what} on {}: an answer of more than {LONGEST_BODY} bytes", path.display())]
    TooLong {
        /// What was asked.
        what: String,
        /// The socket.
        path: PathBuf,
    },
}

impl Socket {
    /// The socket at `path`, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Arc::from(path.into()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// Nobody listens, or for two seconds too many wait there.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let until = Instant::now() + CONNECT;
        loop {
            match UnixStream::connect(&*self.path).await {
                // A full queue: a unix socket that does not block says so at once (unix(7)).
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                    sleep(Duration::from_millis(10)).await;
                }
                result => return result,
            }
        }
    }

    /// Asks, and gives the answer as soon as its head is there; the body streams.
    ///
    /// # Errors
    ///
    /// There is no head of an answer within `limit`.
    pub async fn open(&self, request: Request<Full<Bytes>>, limit: Duration) -> Result<http::Response<Incoming>, Error> {
        let what = described(&request);
        self.begin(&what, request, Instant::now() + limit, limit).await
    }

    /// Asks, and gives the whole answer. A refusal is an answer.
    ///
    /// # Errors
    ///
    /// There is none within `limit`.
    pub async fn exchange(&self, request: Request<Full<Bytes>>, limit: Duration) -> Result<Response, Error> {
        let until = Instant::now() + limit;
        let what = described(&request);
        let (head, body) = self.begin(&what, request, until, limit).await?.into_parts();
        let whole = timeout_at(until, Limited::new(body, LONGEST_BODY).collect()).await.map_err(|_| self.late(&what, limit))?;
        let body = whole.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(source) => self.broken(&what, *source),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>());
                Error::TooLong { what: what.clone(), path: self.path.to_path_buf() }
            }
        })?;
        Ok(Response { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    async fn begin(
        &self,
        what: &str,
        mut request: Request<Full<Bytes>>,
        until: Instant,
        limit: Duration,
    ) -> Result<http::Response<Incoming>, Error> {
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("localhost"));
        let stream = self.connect().await.map_err(|source| Error::Connect { path: self.path.to_path_buf(), source })?;
        let answer = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Ends with the exchange: when its body was read, or both ends of it were dropped.
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        let answer = timeout_at(until, answer).await.map_err(|_| self.late(what, limit))?;
        answer.map_err(|source| self.broken(what, source))
    }

    fn late(&self, what: &str, limit: Duration) -> Error {
        Error::Late { what: what.to_owned(), path: self.path.to_path_buf(), limit }
    }

    fn broken(&self, what: &str, source: hyper::Error) -> Error {
        Error::Exchange { what: what.to_owned(), path: self.path.to_path_buf(), source }
    }
}

/// Method and path: what stands behind the question mark is long and says little.
fn described(request: &Request<Full<Bytes>>) -> String {
    format!("{} {}", request.method(), request.uri().path())
}

/// Null stands for nothing, as programs in Go write it.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
