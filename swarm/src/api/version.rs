//! Versions of Docker's API, and the prefix of paths that carries them.

use std::{fmt, str::FromStr};

use super::refusal::Refusal;

/// A version such as 1.41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// The newest version that is known here. Newer engines still serve it.
    pub const NEWEST: Self = Self::new(1, 47);
    /// What is answered while no engine has said anything: all of them since 20.10 serve it.
    pub const DEFAULT: Self = Self::new(1, 41);
    /// The oldest one that today's engines serve.
    pub const OLDEST: Self = Self::new(1, 24);

    /// The version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Splits `/v1.41/containers/json` into the version and the rest. A path without a version stays whole.
    pub fn split(path: &str) -> (Option<Self>, &str) {
        let Some((first, _)) = path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) else { return (None, path) };
        match first.parse() {
            Ok(version) => (Some(version), &path["/v".len() + first.len()..]),
            Err(_) => (None, path),
        }
    }

    /// Whether an engine that serves `lowest` to `highest` would serve this version.
    ///
    /// # Errors
    ///
    /// An engine's 400 where it would not.
    pub fn check(self, lowest: Self, highest: Self) -> Result<(), Refusal> {
        if self > highest {
            return Err(Refusal::bad_request(format!(
                "client version {self} is too new. Maximum supported API version is {highest}"
            )));
        }
        if self < lowest {
            return Err(Refusal::bad_request(format!(
                "client version {self} is too old. Minimum supported API version is {lowest}, please upgrade your client to a newer \
                 version"
            )));
        }
        Ok(())
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text is no version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no API version such as 1.41")]
pub struct NoVersion;

impl FromStr for ApiVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse().map_err(|_| NoVersion),
            false => Err(NoVersion),
        };
        let (major, minor) = text.split_once('.').ok_or(NoVersion)?;
        Ok(Self::new(number(major)?, number(minor)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (path, version, rest) in [
            ("/v1.41/info", Some(ApiVersion::new(1, 41)), "/info"),
            ("/v1.24/containers/a/b/json", Some(ApiVersion::new(1, 24)), "/containers/a/b/json"),
            ("/info", None, "/info"),
            ("/version", None, "/version"),
            ("/volumes/x", None, "/volumes/x"),
            ("/v1.41", None, "/v1.41"),
            ("/v1/info", None, "/v1/info"),
            ("/v1.+4/info", None, "/v1.+4/info"),
            ("/v1./info", None, "/v1./info"),
            ("/v1.99999999/info", None, "/v1.99999999/info"),
            ("/v1.2.3/info", None, "/v1.2.3/info"),
            ("", None, ""),
        ] {
            assert_eq!(ApiVersion::split(path), (version, rest), "{path}");
        }
    }

    #[test]
    fn refused_as_an_engine_does() {
        let check = |version: &str| {
            let version: ApiVersion = version.parse().expect("a version");
            version.check(ApiVersion::OLDEST, ApiVersion::new(1, 41)).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(check("1.41"), Ok(()));
        assert_eq!(check("1.24"), Ok(()));
        assert_eq!(check("1.42"), Err("client version 1.42 is too new. Maximum supported API version is 1.41".to_owned()));
        assert!(check("1.12").expect_err("too old").contains("Minimum supported API version is 1.24"));
        assert!(check("2.0").is_err());
    }
}
