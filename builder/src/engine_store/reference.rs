//! Names of images, as the engine keeps them.

use std::{fmt, str::FromStr};

use anyhow::{Context, Result, ensure};

/// The registry that goes without saying.
const DEFAULT_REGISTRIES: [&str; 2] = ["docker.io/", "index.docker.io/"];
/// The part of it that does.
const DEFAULT_FOLDER: &str = "library/";

/// A repository and a tag in their short form: what `docker images` shows. `docker.io/library/busybox` is `busybox:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// `busybox`, `hcl/consul`, `registry.lan:5000/a/b`.
    pub repository: String,
    /// `latest` where none is given.
    pub tag: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || format!("`{text}` is no name of an image: write it as REPOSITORY:TAG, in lower case");
        // A colon in front of a slash is that of a port.
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (text, "latest"),
        };
        let mut short = repository;
        if let Some(rest) = DEFAULT_REGISTRIES.iter().find_map(|registry| short.strip_prefix(registry)) {
            short = rest.strip_prefix(DEFAULT_FOLDER).filter(|rest| !rest.contains('/')).unwrap_or(rest);
        }
        let (first, others) = short.split_once('/').map_or((None, short), |(first, rest)| (Some(first), rest));
        let is_registry = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let registry =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte)) && !part.is_empty();
        let folder = |part: &str| {
            let plain = part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte));
            let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            plain && ends(part.as_bytes().first()) && ends(part.as_bytes().last())
        };
        let right = first.is_none_or(|part| if is_registry(part) { registry(part) } else { folder(part) })
            && others.split('/').all(folder)
            && (1..=128).contains(&tag.len())
            && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            && !tag.starts_with(['.', '-']);
        ensure!(right, bad());
        Ok(Self { repository: short.to_owned(), tag: tag.to_owned() })
    }
}

/// `text` as a name, with what it belongs to in the error.
pub(super) fn parse(text: &str) -> Result<Reference> {
    text.parse().with_context(|| format!("image {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        for (text, short) in [
            ("hcl/consul:1.8.7", "hcl/consul:1.8.7"),
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox:1", "busybox:1"),
            ("index.docker.io/library/busybox", "busybox:latest"),
            ("docker.io/hashicorp/consul:1.20", "hashicorp/consul:1.20"),
            ("registry.lan:5000/a/b_c", "registry.lan:5000/a/b_c:latest"),
            ("localhost/x:Y.1-2_3", "localhost/x:Y.1-2_3"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), short);
        }
    }

    #[test]
    fn what_is_no_name() {
        for text in ["", "Busybox", "a//b", "a:", ":1", "a@sha256:00", "a b", "-a", "a/", "a:.1", "a/b.lan:5/c"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
