//! Keys and their values.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{Client, Error, Seen, answer::Answer};

/// What RFC 3986 section 2.3 leaves unescaped, and the slash.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

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
}

/// How much an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// What the leader has; one that is no longer leader and does not know it yet answers as well.
    Default,
    /// The leader asks a majority whether it still is before it answers: nothing older than the question.
    Consistent,
    /// What any server has, also where there is no leader.
    Stale,
}

impl Freshness {
    fn query(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Consistent => "consistent&",
            Self::Stale => "stale&",
        }
    }
}

/// When a value is to be written, or a key deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum If {
    /// The key is not there.
    Absent,
    /// It was not changed since: [`Entry::modified`].
    Unchanged(u64),
}

impl If {
    fn query(self) -> String {
        let index = match self {
            Self::Absent => 0,
            Self::Unchanged(modified) => modified,
        };
        format!("?cas={index}")
    }
}

impl Client {
    /// What is in `key`.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub async fn value(&self, key: &str, freshness: Freshness) -> Result<Option<Entry>, Error> {
        let path = format!("{}?{}", path(key), freshness.query());
        let Some(answer) = self.find(&path).await? else { return Ok(None) };
        Ok(entries(&answer)?.pop())
    }

    /// All keys that begin with `prefix`, in order, with their values.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub async fn entries(&self, prefix: &str, freshness: Freshness) -> Result<Vec<Entry>, Error> {
        let path = format!("{}?{}recurse", path(prefix), freshness.query());
        let answer = self.find(&path).await?;
        answer.map_or(Ok(Vec::new()), |answer| entries(&answer))
    }

    /// All keys that begin with `prefix`, once that is another answer than what was `seen`, or after `wait`.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub async fn watch_entries(&self, prefix: &str, seen: Seen, wait: Duration) -> Result<(Vec<Entry>, Seen), Error> {
        let (answer, there, seen) = self.watch(&format!("{}?recurse", path(prefix)), seen, wait).await?;
        Ok((if there { entries(&answer)? } else { Vec::new() }, seen))
    }

    /// What is in `key`, once that is another answer than what was `seen`, or after `wait`.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub async fn watch_value(&self, key: &str, seen: Seen, wait: Duration) -> Result<(Option<Entry>, Seen), Error> {
        let (answer, there, seen) = self.watch(&format!("{}?", path(key)), seen, wait).await?;
        Ok((if there { entries(&answer)?.pop() } else { None }, seen))
    }

    /// Writes `value` into `key`, whatever was in it.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<(), Error> {
        self.write(Method::PUT, &path(key), value.into()).await.map(|_| ())
    }

    /// Writes `value` into `key` if the condition holds; whether it did.
    ///
    /// # Errors
    ///
    /// Consul did not say. It may have been done all the same.
    pub async fn put_if(&self, key: &str, value: impl Into<Bytes>, condition: If) -> Result<bool, Error> {
        self.write(Method::PUT, &(path(key) + &condition.query()), value.into()).await?.json()
    }

    /// Deletes `key`. It may not be there.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.write(Method::DELETE, &path(key), Bytes::new()).await.map(|_| ())
    }

    /// Deletes `key` if it was not changed since `modified`; whether it did.
    ///
    /// # Errors
    ///
    /// Consul did not say. It may have been done all the same.
    pub async fn delete_if(&self, key: &str, modified: u64) -> Result<bool, Error> {
        self.write(Method::DELETE, &(path(key) + &If::Unchanged(modified).query()), Bytes::new()).await?.json()
    }
}

fn path(key: &str) -> String {
    format!("/v1/kv/{}", utf8_percent_encode(key, ESCAPED))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    key: String,
    value: Option<String>,
    session: Option<String>,
    modify_index: u64,
}

fn entries(answer: &Answer) -> Result<Vec<Entry>, Error> {
    let entry = |raw: Raw| {
        let value = BASE64.decode(raw.value.unwrap_or_default().as_bytes());
        let value = value.map_err(|error| answer.unexpected(&format!("the value of {}: {error}", raw.key)))?;
        Ok(Entry { key: raw.key, value, session: raw.session, modified: raw.modify_index })
    };
    answer.json::<Vec<Raw>>()?.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(path("hcl/users/anna.b-c_d~"), "/v1/kv/hcl/users/anna.b-c_d~");
        assert_eq!(path("a b?c=d&e%\u{e9}\r\n#"), "/v1/kv/a%20b%3Fc%3Dd%26e%25%C3%A9%0D%0A%23");
    }
}
