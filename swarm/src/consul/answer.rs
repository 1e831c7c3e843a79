//! Answers, and the index that says how old they are.

use http::StatusCode;
use serde::de::DeserializeOwned;

use super::Error;
use crate::local::Response;

/// An answer that is no refusal.
pub(super) struct Answer {
    what: String,
    response: Response,
}

impl Answer {
    pub fn new(what: String, response: Response) -> Result<Self, Error> {
        if response.status.is_success() {
            return Ok(Self { what, response });
        }
        Err(Error::Refused { what, status: response.status, text: response.text() })
    }

    /// An answer, or that there is no such thing.
    pub fn or_absent(what: String, response: Response) -> Result<(Self, bool), Error> {
        match response.status {
            StatusCode::NOT_FOUND => Ok((Self { what, response }, false)),
            _ => Ok((Self::new(what, response)?, true)),
        }
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.response.body).map_err(|error| self.unexpected(&error.to_string()))
    }

    /// The index for the next question, after one that was asked with `asked`.
    pub fn seen(&self, asked: Seen) -> Result<Seen, Error> {
        let field = self.response.headers.get("X-Consul-Index");
        let index = field.and_then(|index| index.to_str().ok()).and_then(|index| index.parse().ok());
        index.map(|index| asked.after(index)).ok_or_else(|| self.unexpected("no index"))
    }

    pub fn unexpected(&self, why: &str) -> Error {
        Error::Unexpected { what: self.what.clone(), why: why.to_owned() }
    }
}

/// What was seen of something: a question that is asked with it is answered once there is something else to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u64);

impl Seen {
    /// Nothing: the answer comes at once.
    pub const NOTHING: Self = Self(0);

    pub(super) fn index(self) -> u64 {
        self.0
    }

    /// As Consul's documentation of blocking queries says: an index that went back says that the data are others, so begin anew; and
    /// zero, which some versions give, would not wait.
    fn after(self, index: u64) -> Self {
        if index < self.0 { Self::NOTHING } else { Self(index.max(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes() {
        // (asked with, got, next)
        let table = [(0, 0, 1), (0, 7, 7), (7, 7, 7), (7, 9, 9), (7, 6, 0), (7, 0, 0), (1, 0, 0), (0, u64::MAX, u64::MAX)];
        for (asked, got, next) in table {
            assert_eq!(Seen(asked).after(got), Seen(next), "{asked} {got}");
        }
    }
}
