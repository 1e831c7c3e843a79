//! Which Consul it is: settings have other names in other versions.

use std::{fmt, str::FromStr};

/// A version, such as `1.8.7`. What stands behind the numbers (`+ent`, `-dev`) says nothing about settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

impl Version {
    /// The oldest that a node can run: older ones lack settings that keep strangers out.
    pub const OLDEST: Self = Self::new(1, 8, 0);

    /// A version by its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The version in an image's reference, such as `hcl/consul:1.8.7`.
    ///
    /// # Errors
    ///
    /// The tag is no version, or of one too old.
    pub fn of_image(reference: &str) -> Result<Self, String> {
        let tag = reference.rsplit_once(':').map_or("", |(_, tag)| tag);
        tag.parse().map_err(|why| format!("the image {reference}: {why}: tag it with Consul's version, such as consul:1.8.7"))
    }
}

impl FromStr for Version {
    type Err = String;

    /// Reads `1.8.7` and `v1.8.7`, with or without an addition.
    fn from_str(text: &str) -> Result<Self, String> {
        let no = || format!("{text:?} is no version of Consul");
        let numbers = text.strip_prefix('v').unwrap_or(text);
        let numbers = numbers.split(['+', '-', '~']).next().unwrap_or_default();
        let parts: Vec<u32> = numbers.split('.').map(|part| part.parse().map_err(|_| no())).collect::<Result<_, _>>()?;
        let [major, minor, patch] = parts[..] else { return Err(no()) };
        let version = Self { major, minor, patch };
        if version < Self::OLDEST {
            return Err(format!("Consul {version} is too old: {} or later is needed", Self::OLDEST));
        }
        Ok(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one() {
        for text in ["1.8.7", "v1.8.7", "1.8.7+dfsg1", "1.8.7-dev"] {
            assert_eq!(text.parse(), Ok(Version::new(1, 8, 7)), "{text}");
        }
        assert!(Version::new(1, 22, 0) > Version::new(1, 8, 7));
        for text in ["", "latest", "1.8", "1.8.x", "1.8.7.6", "-1.8.7"] {
            assert_eq!(text.parse::<Version>(), Err(format!("{text:?} is no version of Consul")));
        }
        assert_eq!("1.4.0".parse::<Version>(), Err("Consul 1.4.0 is too old: 1.8.0 or later is needed".to_owned()));
    }

    #[test]
    fn an_images() {
        assert_eq!(Version::of_image("hcl/consul:1.8.7"), Ok(Version::new(1, 8, 7)));
        assert_eq!(Version::of_image("registry:5000/consul:1.22.1"), Ok(Version::new(1, 22, 1)));
        assert!(Version::of_image("registry:5000/consul").unwrap_err().contains("tag it with"));
    }
}
