//! Where a file comes from: a URL or a path.

use std::{fmt, path::PathBuf};

use anyhow::Result;

use crate::error::UsageError;

/// Where a file is. Printed without any password that stands in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An `http` or `https` URL.
    Url(String),
    /// A file of this machine.
    File(PathBuf),
}

impl Origin {
    /// Reads `https://…`, `http://…`, `file:///…` or a path.
    ///
    /// # Errors
    ///
    /// It is another kind of URL, or a broken one.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text {
                "" => Err(UsageError::new("the origin of a file is empty: write a URL or a path")),
                path => Ok(Self::File(path.into())),
            };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" if !host(rest).is_empty() && !text.contains(char::is_whitespace) => Ok(Self::Url(text.to_owned())),
            "http" | "https" => Err(UsageError::new(format!("`{text}` is no URL: it has the form https://HOST/PATH"))),
            "file" => match rest.strip_prefix("localhost").unwrap_or(rest) {
                path if path.starts_with('/') => Ok(Self::File(percent_decoded(path)?)),
                _ => Err(UsageError::new(format!("`{text}` is no file of this machine: it has the form file:///PATH"))),
            },
            _ => Err(UsageError::new(format!("`{scheme}:` is not supported in `{text}`: use https:, http:, file: or a path"))),
        }
    }

    /// The last part of it, for people.
    pub fn name(&self) -> String {
        let text = match self {
            Self::Url(url) => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
            Self::File(path) => path.display().to_string(),
        };
        text.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(&without_password(url)),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Host and port of what stands after `://`.
pub(super) fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            format!("{scheme}://{}{}", host(rest), &rest[authority.len()..])
        }
        None => url.to_owned(),
    }
}

fn percent_decoded(path: &str) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => bytes.push(byte),
            None => return Err(UsageError::new(format!("`file://{path}` has a `%` without two hexadecimal digits after it"))),
        }
        rest = &tail[2..];
    }
    Ok(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let url = |text: &str| Some(Origin::Url(text.to_owned()));
        let file = |path: &str| Some(Origin::File(path.into()));
        for (text, origin) in [
            ("https://a.example/x.img.xz", url("https://a.example/x.img.xz")),
            ("HTTP://a.example", url("HTTP://a.example")),
            ("file:///tmp/a%20b.img", file("/tmp/a b.img")),
            ("file://localhost/tmp/a", file("/tmp/a")),
            ("base.img", file("base.img")),
            ("../a%20b", file("../a%20b")),
            ("", None),
            ("https://", None),
            ("https:///x", None),
            ("https://a b/", None),
            ("ftp://a/b", None),
            ("file://a/b", None),
            ("file:///a%2", None),
        ] {
            assert_eq!(Origin::parse(text).ok(), origin, "{text}");
        }
        let secret = Origin::parse("https://me:pass@a.example:8/b/c.img?x#y").expect("a URL");
        assert_eq!((secret.to_string().as_str(), secret.name().as_str()), ("https://a.example:8/b/c.img?x#y", "c.img"));
    }
}
