//! One request on its way through: what was asked for, and how to ask an engine for it.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{
    query::{Query, segment},
    refusal::Refusal,
    routes::{Names, Route},
    stream::{NotWhole, whole},
    version::ApiVersion,
};
use crate::{
    cluster::Engine,
    transport::{self, Body, Lease, from_incoming},
};

/// How much of a body is taken in where it has to be changed.
const BODY_BYTES: usize = 16 << 20;

/// A request that fits a route.
pub struct Ask {
    /// The route.
    pub route: &'static Route,
    /// What stands for its placeholders.
    pub names: Names,
    /// The version to speak with engines.
    pub version: ApiVersion,
    /// The query.
    pub query: Query,
    request: Request<Incoming>,
}

impl Ask {
    /// Puts it together.
    pub fn new(found: super::routes::Found, version: ApiVersion, request: Request<Incoming>) -> Self {
        let (route, names) = found;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        Self { route, names, version, query, request }
    }

    /// What the path names.
    pub fn name(&self) -> &str {
        self.names.first()
    }

    /// A path with this request's version.
    pub fn versioned(&self, path: &str) -> String {
        format!("/v{}{path}", self.version)
    }

    /// This request's path and query for an engine, with `name` in place of what the path names.
    pub fn target(&self, name: &str) -> String {
        let path = match self.route.pattern.contains("{name}") {
            true => self.route.pattern.replacen("{name}", &segment(name), 1).replacen("{id}", &segment(self.names.second()), 1),
            false => self.route.pattern.replacen("{id}", &segment(name), 1),
        };
        self.query.on(&self.versioned(&path))
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    ///
    /// 400 where it is none, 413 where it is larger than 16 MiB.
    pub async fn json<T: DeserializeOwned>(self) -> Result<(T, Rest), Refusal> {
        let (rest, bytes) = self.bytes().await?;
        let body = serde_json::from_slice(&bytes).map_err(|error| Refusal::bad_request(format!("invalid JSON: {error}")))?;
        Ok((body, rest))
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// 413 where it is larger than 16 MiB; 400 where it does not come whole.
    pub async fn bytes(self) -> Result<(Rest, Bytes), Refusal> {
        let (parts, body) = self.request.into_parts();
        let bytes = whole(body, BODY_BYTES).await.map_err(|error| match error {
            NotWhole::Long(_) => Refusal::new(http::StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 16 MiB"),
            NotWhole::Cut(_) => Refusal::bad_request(format!("the body: {error}")),
        })?;
        let rest = Rest { version: self.version, names: self.names, query: self.query, headers: parts.headers };
        Ok((rest, bytes))
    }

    /// Sends the request to an engine as it is, but for the path; answers and bodies are streams, and a connection that is upgraded
    /// is joined.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub async fn pass(mut self, engine: &Engine, target: &str) -> Result<Response<Body>, Refusal> {
        *self.request.uri_mut() = uri(target)?;
        Ok(transport::hijack(engine.client(), self.request).await?)
    }

    /// Puts another lease in place of the user's, which may hold that one.
    pub fn hold(&mut self, lease: impl FnOnce(Option<Lease>) -> Lease) {
        let own = self.request.extensions_mut().remove::<Lease>();
        self.request.extensions_mut().insert(lease(own));
    }

    /// The body as a stream, with what else there is.
    pub fn into_stream(self) -> (Rest, Incoming) {
        let (parts, body) = self.request.into_parts();
        (Rest { version: self.version, names: self.names, query: self.query, headers: parts.headers }, body)
    }
}

/// What is left of a request when its body has been taken.
#[derive(Clone)]
pub struct Rest {
    /// The version to speak with engines.
    pub version: ApiVersion,
    /// What stands for the placeholders of the path.
    pub names: Names,
    /// The query.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
}

impl Rest {
    /// A path with this request's version and query.
    pub fn target(&self, path: &str) -> String {
        self.query.on(&format!("/v{}{path}", self.version))
    }

    /// A POST to an engine with this body, and the headers that an engine looks at.
    ///
    /// # Errors
    ///
    /// `target` is no path.
    pub fn post(&self, target: &str, body: Body) -> Result<Request<Body>, Refusal> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri(target)?;
        for name in ["content-type", "x-registry-auth", "x-registry-config", "user-agent"] {
            if let Some(value) = self.headers.get(name) {
                request.headers_mut().insert(http::HeaderName::from_static(name), value.clone());
            }
        }
        Ok(request)
    }

    /// Sends a POST with this body, and passes the answer on as a stream.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub async fn send(&self, engine: &Engine, target: &str, body: Body) -> Result<Response<Body>, Refusal> {
        Ok(engine.client().send(self.post(target, body)?).await?.map(from_incoming))
    }
}

fn uri(target: &str) -> Result<http::Uri, Refusal> {
    target.parse().map_err(|_| Refusal::bad_request("the path is too long or has characters that no path has"))
}
