//! What of Consul is seen on :8500: the part of `/v1` that reads who is there and how they are, and its own interface.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::http::{Client, Response};

/// How long Consul has for an answer.
const LIMIT: Duration = Duration::from_secs(3);
/// So many requests at a time may wait for Consul: one that hangs must not take the page away as well.
const AT_ONCE: usize = 4;
/// Parameters that only choose what is shown. Not `index` and `wait`, which would hold a thread for minutes; not `token`; and no
/// `consistent`, which would make work for the leader.
const PARAMETERS: [&str; 7] = ["dc", "filter", "node-meta", "passing", "pretty", "stale", "tag"];
/// Consul's own page needs more than ours. It can read no more than we show.
const INTERFACE_POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

/// The way to this node's Consul.
#[derive(Debug)]
pub struct Proxy {
    client: Client,
    busy: AtomicUsize,
}

/// A place among those that wait, until it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Proxy {
    pub fn new(client: Client) -> Self {
        Self { client, busy: AtomicUsize::new(0) }
    }

    /// Answers a path of `/v1`.
    pub fn api(&self, path: &str, query: Option<&str>) -> Response {
        if !is_open(path) {
            return Response::refusal(403, "only catalog, health, status and agent/members of Consul's API are open here");
        }
        let query = query.unwrap_or_default();
        if let Some(other) = query.split('&').map(name).find(|name| !name.is_empty() && !PARAMETERS.contains(name)) {
            let known = PARAMETERS.join(", ");
            return Response::refusal(400, &format!("the parameter {other} is not open here, only {known}"));
        }
        // Whichever server answers, with what it has in memory: also where nobody leads.
        let stale = if query.split('&').map(name).any(|name| name == "stale") { "" } else { "&stale" };
        let response = match self.ask(&format!("{path}?{query}{stale}")) {
            Ok(response) => response,
            Err(refusal) => return refusal,
        };
        let kept = ["content-type", "x-consul-index", "x-consul-knownleader", "x-consul-lastcontact"];
        keep(response, &kept).with("Cache-Control", "no-store")
    }

    /// Consul's own interface; nothing where the image has none.
    pub fn interface(&self, path: &str) -> Option<Response> {
        if !path.split('/').skip(2).all(|segment| segment.is_empty() || is_plain(segment)) {
            return None;
        }
        let response = self.ask(path).ok().filter(Response::is_success)?;
        Some(
            keep(response, &["content-type", "cache-control", "etag", "last-modified"])
                .with("Content-Security-Policy", INTERFACE_POLICY),
        )
    }

    fn ask(&self, target: &str) -> Result<Response, Response> {
        let before = self.busy.fetch_add(1, Ordering::AcqRel);
        let _place = Place(&self.busy);
        if before >= AT_ONCE {
            return Err(Response::refusal(503, "others are asking Consul already: try again").with("Retry-After", "1"));
        }
        // No field of the browser's goes along: no token, no cookie.
        let answer = self.client.request("GET", target, &[], None, LIMIT);
        answer.map_err(|_| Response::refusal(502, "Consul does not answer on this node: `docker logs hcl-consul` there says why"))
    }
}

fn name(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

/// The fields of these names and no others.
fn keep(mut response: Response, names: &[&str]) -> Response {
    response.fields.retain(|(name, _)| names.contains(&name.to_ascii_lowercase().as_str()));
    response
}

/// Whether everybody on the home network may read this.
fn is_open(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/v1/") else { return false };
    match rest.split('/').collect::<Vec<_>>()[..] {
        ["catalog", "datacenters" | "nodes" | "services"]
        | ["status", "leader" | "peers"]
        | ["agent", "members"]
        // What Consul's own interface asks.
        | ["internal", "ui", "nodes" | "services"] => true,
        ["catalog", "node" | "node-services" | "service", name]
        | ["health", "checks" | "node" | "service" | "state", name]
        | ["internal", "ui", "node", name] => is_plain(name),
        _ => false,
    }
}

/// A segment that means itself: nothing encoded, nothing that leads elsewhere.
fn is_plain(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    !segment.is_empty() && segment.bytes().all(plain) && !segment.bytes().all(|byte| byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open() {
        let open = [
            "/v1/catalog/datacenters",
            "/v1/catalog/nodes",
            "/v1/catalog/services",
            "/v1/catalog/service/web",
            "/v1/catalog/node/node-1a2b3c",
            "/v1/catalog/node-services/a",
            "/v1/health/node/a",
            "/v1/health/checks/web",
            "/v1/health/service/web-1.x_y~z",
            "/v1/health/state/any",
            "/v1/status/leader",
            "/v1/status/peers",
            "/v1/agent/members",
            "/v1/internal/ui/nodes",
            "/v1/internal/ui/node/a",
        ];
        for path in open {
            assert!(is_open(path), "{path}");
        }
        let closed = [
            "/v1/",
            "/v1/kv/",
            "/v1/kv/hcl/leader",
            "/v1/acl/tokens",
            "/v1/acl/bootstrap",
            "/v1/agent/self",
            "/v1/agent/metrics",
            "/v1/agent/monitor",
            "/v1/agent/services",
            "/v1/snapshot",
            "/v1/event/list",
            "/v1/session/list",
            "/v1/operator/raft/configuration",
            "/v1/coordinate/nodes",
            "/v1/query",
            "/v1/txn",
            "/v1/config/service-defaults",
            "/v1/connect/ca/roots",
            "/v1/internal/acl/authorize",
            "/v1/internal/ui/metrics-proxy/x",
            "/v1/catalog",
            "/v1/catalog/register",
            "/v1/catalog/nodes/",
            "/v1/catalog//nodes",
            "/v1/catalog/service/",
            "/v1/catalog/service/..",
            "/v1/catalog/service/../../kv/hcl",
            "/v1/catalog/service/%2e%2e",
            "/v1/health/state/a/b",
            "/v1/health/node/a%2f..",
            "/v1/health/connect/web",
            "/V1/catalog/nodes",
            "/v1/Catalog/nodes",
            "/v1/catalog/nodes;x",
            "/v1/../v1/kv",
        ];
        for path in closed {
            assert!(!is_open(path), "{path}");
        }
    }
}
