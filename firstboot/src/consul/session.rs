//! Sessions: what a lock is held with.
//!
//! A session ends when its node is found to have failed (gossip: about 5 s), when it is not renewed for twice its time to live
//! (Consul promises the single time), when it is destroyed, and with its node's entry in the catalog.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Client, Error, client::escaped};

/// The shortest time to live that Consul takes (`session_ttl_min`); the longest is a day.
pub const TTL: Duration = Duration::from_secs(10);
/// How long nobody gets a lock whose session was ended by Consul. Consul takes 0 to 60 s, 15 s where nothing is said. Whoever gets
/// the lock has to wait until what was granted before is over; this one keeps it from going to and fro, and lets what the last holder
/// still sent arrive.
pub const LOCK_DELAY: Duration = Duration::from_secs(3);

/// A session that is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it is for.
    pub name: String,
    /// The node that it lives and dies with.
    pub node: String,
}

impl Client {
    /// A new session of this node, which ends with it. Its id.
    ///
    /// # Errors
    ///
    /// Consul did not make one, or did not say.
    pub fn create_session(&self, name: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "ID")]
            id: String,
        }
        // Nothing about checks: then it is the node's own, which newer versions call by another name.
        let wanted = json!({
            "Name": name,
            "TTL": format!("{}s", TTL.as_secs()),
            "LockDelay": format!("{}ms", LOCK_DELAY.as_millis()),
            "Behavior": "release",
        });
        Ok(self.done("PUT", "/v1/session/create", Some(&wanted))?.json::<Created>()?.id)
    }

    /// Renews a session; `false` where it is no more.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn renew_session(&self, id: &str) -> Result<bool, Error> {
        Ok(self.ask("PUT", &format!("/v1/session/renew/{}", escaped(id)), None)?.is_some())
    }

    /// Ends a session, and lets go of its locks. It may be no more.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn destroy_session(&self, id: &str) -> Result<(), Error> {
        self.done("PUT", &format!("/v1/session/destroy/{}", escaped(id)), None).map(|_| ())
    }

    /// The session of this id.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn session(&self, id: &str) -> Result<Option<Session>, Error> {
        let found: Option<Vec<Session>> = self.read(&format!("/v1/session/info/{}", escaped(id)))?;
        Ok(found.and_then(|mut found| found.pop()))
    }

    /// Locks `key` with a session, and writes `value` into it; whether it is locked by that session now.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn acquire(&self, key: &str, session: &str, value: &[u8]) -> Result<bool, Error> {
        self.write("PUT", key, &format!("?acquire={}", escaped(session)), Some(value))
    }

    /// Lets go of `key`, whose value stays.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn release(&self, key: &str, session: &str, value: &[u8]) -> Result<bool, Error> {
        self.write("PUT", key, &format!("?release={}", escaped(session)), Some(value))
    }
}
