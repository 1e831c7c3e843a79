//! The page on :8500: the cluster at a glance for any browser of the home network, and what of Consul's API only reads.
//!
//! [`Page::answer`] handles all requests of an [`http::Server`](crate::http::Server); [`Page::show`] is how the supervisor keeps it
//! fresh. It shows and changes nothing: GET and HEAD, no cookie, no form, no token in any request that it sends on.
//!
//! - **Browsers ask again every second** while somebody looks. That survives tabs that sleep, phones that leave the room and servers
//!   that start again, and binds no thread to a viewer, as a stream of events would.
//! - **Names are checked** (`Host`): a page of somebody else whose name suddenly resolves to this node (DNS rebinding) would be of our
//!   origin and could read everything.
//! - **Same-origin files only**, nothing inline, no HTML made from data, nothing in a frame.

mod consul;
mod hosts;

#[cfg(target_os = "linux")]
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};
use std::{
    sync::{PoisonError, RwLock},
    time::Instant,
};

use sha2::{Digest, Sha256};

#[cfg(target_os = "linux")]
use crate::http::{Limits, Server};
use crate::{
    http::{Client, Request, Response},
    key::hex,
    view::View,
};

/// The port that people know from Consul.
pub const PORT: u16 = 8500;

/// What the page may do. Only its own files, and no way from data to HTML or script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Path, type and content of what is served as it is.
const FILES: [(&str, &str, &str); 4] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

const HTML: &str = "text/html; charset=utf-8";

/// The page of one node.
#[derive(Debug)]
pub struct Page {
    consul: consul::Proxy,
    /// What is shown, and since when it is so.
    shown: RwLock<(View, Instant)>,
}

impl Page {
    /// The page of the node `name` in the cluster `cluster`, which shows nothing yet. `consul` leads to its Consul, where requests
    /// without a token may only read.
    pub fn new(cluster: &str, name: &str, consul: Client) -> Self {
        let view = View { cluster: cluster.to_owned(), served_by: name.to_owned(), ..View::default() };
        Self { consul: consul::Proxy::new(consul), shown: RwLock::new((view, Instant::now())) }
    }

    /// Shows `view` from now on.
    pub fn show(&self, view: View) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = (view, Instant::now());
    }

    /// Serves the page at [`PORT`] on every network that the node has, until what this returns is dropped.
    ///
    /// # Errors
    ///
    /// Somebody else has the port.
    #[cfg(target_os = "linux")]
    pub fn serve(self: Arc<Self>) -> io::Result<Server> {
        let bind = |address: IpAddr| {
            let page = Arc::clone(&self);
            Server::bind((address, PORT).into(), Limits::default(), move |request| page.answer(request))
        };
        // Both families by one socket; a kernel without IPv6 has the other.
        match bind(Ipv6Addr::UNSPECIFIED.into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => bind(Ipv4Addr::UNSPECIFIED.into()),
            bound => bound,
        }
    }

    /// Answers one request.
    pub fn answer(&self, request: &Request) -> Response {
        self.route(request)
            .with("X-Content-Type-Options", "nosniff")
            .with("X-Frame-Options", "DENY")
            .with("Referrer-Policy", "no-referrer")
            .with("Cross-Origin-Resource-Policy", "same-origin")
    }

    fn route(&self, request: &Request) -> Response {
        let host = request.host.as_deref().unwrap_or_default();
        if !self.knows(host) {
            let why = "no node of this cluster is called that: use a node's name or address, such as http://master.local:8500";
            return ours(Response::refusal(421, why));
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return ours(Response::refusal(405, "this page shows, and changes nothing").with("Allow", "GET, HEAD"));
        }
        let path = request.path.as_str();
        match path {
            "/api/cluster" => ours(self.cluster()),
            "/ui" => ours(Response::refusal(301, "/ui/").with("Location", "/ui/")),
            _ if path.starts_with("/ui/") => self.consul.interface(path).unwrap_or_else(|| {
                let text = "This image's Consul comes without a web interface of its own. What it knows is on the cluster's page, and \
                            as JSON under <code>/v1/</code>.";
                missing("No Consul interface here", text)
            }),
            _ if path.starts_with("/v1/") => ours(self.consul.api(path, request.query.as_deref())),
            _ => match FILES.iter().find(|(there, ..)| *there == path) {
                Some((_, kind, content)) => ours(file(kind, content, request.field("if-none-match"))),
                None => missing("Nothing here", "There is no such page on this node."),
            },
        }
    }

    /// Whether this is a name or address of the cluster.
    fn knows(&self, host: &str) -> bool {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let names = shown.0.nodes.iter().map(|node| node.name.as_str());
        hosts::is_ours(host, names.chain([shown.0.served_by.as_str()]))
    }

    fn cluster(&self) -> Response {
        let (mut view, since) = self.shown.read().unwrap_or_else(PoisonError::into_inner).clone();
        view.age_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        match serde_json::to_vec(&view) {
            Ok(body) => Response::new(200, "application/json", body).with("Cache-Control", "no-store"),
            Err(error) => Response::refusal(500, &error.to_string()),
        }
    }
}

/// What is ours, not Consul's, may do only what our page must.
fn ours(response: Response) -> Response {
    response.with("Content-Security-Policy", POLICY)
}

/// A file; the browser keeps it and asks each time whether it is still this one.
fn file(kind: &str, content: &str, known: Option<&str>) -> Response {
    let tag = format!("\"{}\"", hex(&Sha256::digest(content)[..12]));
    let is_known = known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let response = match is_known {
        true => Response { status: 304, fields: Vec::new(), body: Vec::new() },
        false => Response::new(200, kind, content),
    };
    response.with("Cache-Control", "no-cache").with("ETag", &tag)
}

/// A page that says that there is none. Title and text are HTML of our own.
fn missing(title: &str, text: &str) -> Response {
    let body = include_str!("page/missing.html").replace("{title}", title).replace("{text}", text);
    ours(Response::new(404, HTML, body).with("Cache-Control", "no-store"))
}

#[cfg(test)]
mod tests;
