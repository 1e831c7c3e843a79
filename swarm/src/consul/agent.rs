//! What the agent of this node is told of what runs here. It tells the cluster's catalog, and keeps it on its disk.

use std::{collections::BTreeMap, net::SocketAddrV4, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, Error};
use crate::local::null_is_default;

/// A service, as the agent is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its id, unique on the node.
    pub id: String,
    /// Its name; one that is no DNS label cannot be asked for by DNS.
    pub name: String,
    /// Where it is.
    pub at: SocketAddrV4,
    /// Its tags.
    pub tags: Vec<String>,
    /// What else there is to say: at most 64 pairs, each key at most 128 and each value at most 512 bytes long.
    pub meta: BTreeMap<String, String>,
    /// How the agent sees whether it works; without one it does as long as its node does.
    pub check: Option<TcpCheck>,
}

/// A check that passes while somebody takes connections. What it says is the same each time, so that it costs no writes while
/// nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpCheck {
    /// Between two looks.
    pub interval: Duration,
    /// How long a connection may take.
    pub timeout: Duration,
    /// Whether it passes before the first look.
    pub passes: bool,
}

/// A service that the agent knows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registered {
    /// Its id, unique on the node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    #[serde(rename = "Service")]
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Its tags.
    #[serde(default, deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
    /// What else was told of it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub meta: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Raw<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    address: String,
    port: u16,
    tags: &'a [String],
    meta: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<serde_json::Value>,
}

impl Client {
    /// Tells the agent of a service, in place of what it knows under the same id. It keeps the token that this is asked with.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub async fn register(&self, service: &Service) -> Result<(), Error> {
        let check = service.check.map(|check| {
            json!({
                "Name": format!("{} takes connections", service.at),
                "TCP": service.at.to_string(),
                "Interval": format!("{}ms", check.interval.as_millis()),
                "Timeout": format!("{}ms", check.timeout.as_millis()),
                "Status": if check.passes { "passing" } else { "critical" },
            })
        });
        let raw = Raw {
            id: &service.id,
            name: &service.name,
            address: service.at.ip().to_string(),
            port: service.at.port(),
            tags: &service.tags,
            meta: &service.meta,
            check,
        };
        self.tell("/v1/agent/service/register?replace-existing-checks=true", &raw).await.map(|_| ())
    }

    /// Makes the agent forget a service. It may not know it.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub async fn deregister(&self, id: &str) -> Result<(), Error> {
        let path = format!("/v1/agent/service/deregister/{}", utf8_percent_encode(id, NON_ALPHANUMERIC));
        match self.write(Method::PUT, &path, Bytes::new()).await {
            Ok(_) | Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(()),
            // As versions before 1.10 say it.
            Err(Error::Refused { text, .. }) if text.contains("Unknown service") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The services that the agent knows, by id. Works without a leader.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub async fn services(&self) -> Result<BTreeMap<String, Registered>, Error> {
        self.read("/v1/agent/services").await
    }

    /// The checks that the agent does, by id. Works without a leader.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub async fn checks(&self) -> Result<BTreeMap<String, super::Check>, Error> {
        self.read("/v1/agent/checks").await
    }
}
