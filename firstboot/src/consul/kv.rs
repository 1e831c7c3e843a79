//! Keys and their values.

use std::time::Duration;

use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::json;

use super::{
    Client, Error,
    client::{Answer, LIMIT, escaped},
    keys::{OURS, USERS},
};

/// The longest that one question may wait for a change; Consul's own limit is ten minutes.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A key and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The session that holds it as a lock.
    pub session: Option<String>,
    /// Counts changes of the whole cluster's data; at the last one of this key. Never goes back, also where the key is made anew.
    pub modified: u64,
    /// How often it was locked, since it was made.
    pub locked: u64,
}

/// What was seen of a key, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// What is in it; none where there is no such key.
    pub entry: Option<Entry>,
    /// To be given with the next question, which is then answered once something changes.
    pub index: u64,
}

/// How much an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// What the leader has; one that is no longer leader and does not know it yet answers as well.
    Default,
    /// The leader asks a majority whether it still is before it answers: nothing older than the question.
    Consistent,
}

/// When a value is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum If {
    /// The key is not there.
    Absent,
    /// It was not changed since: [`Entry::modified`].
    Unchanged(u64),
}

impl If {
    fn index(self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Unchanged(modified) => modified,
        }
    }
}

impl Client {
    /// What is in `key`.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn value(&self, key: &str, freshness: Freshness) -> Result<Option<Entry>, Error> {
        let query = if freshness == Freshness::Consistent { "?consistent" } else { "" };
        let answer = self.ask("GET", &format!("/v1/kv/{}{query}", escaped(key)), None)?;
        answer.map_or(Ok(None), |answer| entries(&answer).map(|mut all| all.pop()))
    }

    /// What is in `key` once it is not what it was at `index`, or after `wait`. The answer of [`Watched::index`] zero comes at once.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn watch(&self, key: &str, index: u64, wait: Duration) -> Result<Watched, Error> {
        let wait = wait.min(LONGEST_WAIT);
        // Consul itself adds up to a sixteenth, so that not all ask anew at once.
        let patient = self.within(wait + wait / 16 + LIMIT);
        let path = format!("/v1/kv/{}?index={index}&wait={}ms", escaped(key), wait.as_millis());
        let response = patient.raw("GET", &path, None)?;
        let what = format!("GET /v1/kv/{key}");
        if response.status != 404 && !response.is_success() {
            return Err(Error::Refused { what, status: response.status, text: response.text() });
        }
        let there = response.status != 404;
        let answer = Answer::new(what, response);
        let entry = if there { entries(&answer)?.pop() } else { None };
        // An index that went back says that the data are others: begin anew (Consul's documentation of blocking queries).
        let new = answer.index()?;
        Ok(Watched { entry, index: if new < index { 0 } else { new } })
    }

    /// Writes `value` into `key`, whatever was in it.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.write("PUT", key, "", Some(value)).map(|_| ())
    }

    /// Writes `value` into `key` if the condition holds; whether it did.
    ///
    /// # Errors
    ///
    /// Consul did not say.
    pub fn put_if(&self, key: &str, value: &[u8], condition: If) -> Result<bool, Error> {
        self.write("PUT", key, &format!("?cas={}", condition.index()), Some(value))
    }

    /// Writes `value` into `key` if the condition holds and `session` holds the lock `lock`, in one transaction; whether it did.
    ///
    /// # Errors
    ///
    /// Consul did not say. It may have been done all the same.
    pub fn put_as_holder(&self, key: &str, value: &[u8], condition: If, lock: &str, session: &str) -> Result<bool, Error> {
        let operations = json!([
            { "KV": { "Verb": "check-session", "Key": lock, "Session": session } },
            { "KV": { "Verb": "cas", "Key": key, "Value": BASE64.encode(value), "Index": condition.index() } },
        ]);
        match self.ask("PUT", "/v1/txn", Some(operations.to_string().as_bytes())) {
            Ok(_) => Ok(true),
            // What was checked is not so.
            Err(Error::Refused { status: 409, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes `key`. It may not be there.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.write("DELETE", key, "", None).map(|_| ())
    }

    /// All keys that begin with `prefix`, in order.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let answer = self.ask("GET", &format!("/v1/kv/{}?keys", escaped(prefix)), None)?;
        answer.map_or(Ok(Vec::new()), |answer| answer.json())
    }

    /// Whether there is a key that is not ours, or one of a user: then the cluster holds something that would be missed. That somebody was
    /// removed is not to be forgotten.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn has_user_keys(&self) -> Result<bool, Error> {
        // Up to the first slash, each only once.
        let answer = self.ask("GET", "/v1/kv/?keys&separator=/", None)?;
        let names: Vec<String> = answer.map_or(Ok(Vec::new()), |answer| answer.json())?;
        Ok(names.iter().any(|name| name != OURS) || !self.keys(USERS)?.is_empty())
    }

    /// Whether Consul did it.
    pub(super) fn write(&self, method: &str, key: &str, query: &str, value: Option<&[u8]>) -> Result<bool, Error> {
        let path = format!("/v1/kv/{}{query}", escaped(key));
        match self.ask(method, &path, value)? {
            Some(answer) => answer.json(),
            None => Err(Error::Refused { what: format!("{method} /v1/kv/{key}"), status: 404, text: "no such thing".into() }),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    key: String,
    value: Option<String>,
    session: Option<String>,
    modify_index: u64,
    lock_index: u64,
}

fn entries(answer: &Answer) -> Result<Vec<Entry>, Error> {
    let entry = |raw: Raw| {
        let value = BASE64.decode(raw.value.unwrap_or_default().as_bytes());
        let value = value.map_err(|error| answer.unexpected(&format!("the value of {}: {error}", raw.key)))?;
        Ok(Entry { key: raw.key, value, session: raw.session, modified: raw.modify_index, locked: raw.lock_index })
    };
    answer.json::<Vec<Raw>>()?.into_iter().map(entry).collect()
}
