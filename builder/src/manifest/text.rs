//! Names and other short texts that are right from construction on.

/// Declares a text type: what it is, the pattern for editors (JSON Schema), and the check with its
/// message. The message says what is wrong with the text; the place is added by the decoder.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::manifest::text::BadText;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text).map_err($crate::manifest::text::BadText)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        $crate::manifest::text::through_text!($name);
        $crate::manifest::text::schema!($name, $pattern);
    };
}

/// The JSON Schema of a type that is written as a text: its pattern, for editors.
macro_rules! schema {
    ($name:ident, $pattern:literal) => {
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

/// Reads and writes a type through its `FromStr` and `Display`.
macro_rules! through_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {schema, text_type, through_text};

/// Why a text is not what it should be: a sentence without the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadText(pub String);

text_type! {
    /// The name of an image: lower-case letters, digits and dashes. The output is `hcl-NAME.img`.
    ImageName, "^[a-z0-9][a-z0-9-]{0,62}$", |text| label(text, "an image name", 63)
}

text_type! {
    /// A suite of the Debian archive, by suite or code name, such as `trixie`, `stable` or `trixie-backports`.
    Suite, "^[a-z][a-z0-9./-]*$", |text| {
        let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'/');
        if text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(rest) && !text.contains("..") {
            Ok(())
        } else {
            Err(format!("`{text}` is no suite of the Debian archive: write `trixie`, `stable`, …"))
        }
    }
}

text_type! {
    /// A component of the Debian archive, such as `main` or `non-free-firmware`.
    Component, "^[a-z][a-z0-9-]*$", |text| {
        if text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(label_byte) {
            Ok(())
        } else {
            Err(format!("`{text}` is no component of the Debian archive: write `main`, `non-free-firmware`, …"))
        }
    }
}

text_type! {
    /// A web address, `http://` or `https://`. What comes from it is verified by digest or signature, so plain HTTP is no risk.
    Url, "^https?://[^\\s/@]+(/\\S*)?$", |text| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let Some(rest) = rest else {
            return Err(format!("`{text}` is no web address: it starts with `http://` or `https://`"));
        };
        let host = rest.split('/').next().unwrap_or_default();
        if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            Err(format!("`{}` is no web address: it has a space in it", text.escape_debug()))
        } else if host.contains('@') {
            // Not repeated: it would put the password into a log.
            Err("a web address must not carry a user name or password".to_owned())
        } else if host.is_empty() {
            Err(format!("`{text}` is no web address: the host is missing"))
        } else {
            Ok(())
        }
    }
}

text_type! {
    /// A login name as Debian's `adduser` takes it; not one that the system has already.
    UserName, "^[a-z][a-z0-9_-]{0,31}$", |text| {
        let rest = |byte: u8| label_byte(byte) || byte == b'_';
        if text == "root" {
            Err("`root` cannot be the user: name another, it gets `sudo`".to_owned())
        } else if SYSTEM_USERS.contains(&text) {
            Err(format!("`{text}` is a system user already: choose another name"))
        } else if !text.starts_with(|first: char| first.is_ascii_lowercase()) || !text.bytes().all(rest) {
            Err(format!("`{text}` is no login name: lower-case letters, digits, `-` and `_`, a letter first"))
        } else if text.len() > 32 {
            Err(format!("`{text}` is too long for a login name: 32 characters at most"))
        } else {
            Ok(())
        }
    }
}

/// Users and groups of a fresh Debian system: base-passwd's table, and what our own packages add.
const SYSTEM_USERS: &[&str] = &[
    "adm",
    "audio",
    "backup",
    "bin",
    "cdrom",
    "consul",
    "daemon",
    "dialout",
    "dip",
    "disk",
    "docker",
    "fax",
    "floppy",
    "games",
    "haproxy",
    "input",
    "irc",
    "kmem",
    "kvm",
    "list",
    "lp",
    "mail",
    "man",
    "messagebus",
    "news",
    "nobody",
    "nogroup",
    "operator",
    "plugdev",
    "polkitd",
    "proxy",
    "render",
    "sasl",
    "shadow",
    "sgx",
    "src",
    "sshd",
    "staff",
    "sudo",
    "sync",
    "sys",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "tape",
    "tty",
    "users",
    "utmp",
    "uucp",
    "video",
    "voice",
    "www-data",
];

fn label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

pub(super) fn label(text: &str, what: &str, most: usize) -> Result<(), String> {
    if text.is_empty() {
        Err(format!("{what} must not be empty"))
    } else if text.len() > most {
        Err(format!("`{text}` is too long for {what}: {most} characters at most"))
    } else if text.starts_with('-') || !text.bytes().all(label_byte) {
        Err(format!("`{text}` cannot be {what}: only lower-case letters, digits and `-`, no `-` in front"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused<T: std::str::FromStr<Err = BadText> + std::fmt::Debug>(text: &str, message: &str) {
        assert_eq!(text.parse::<T>().unwrap_err().to_string(), message, "{text}");
    }

    #[test]
    fn names() {
        for good in ["a", "debian-trixie-armhf", "7"] {
            assert_eq!(good.parse::<ImageName>().unwrap().as_str(), good);
        }
        refused::<ImageName>("", "an image name must not be empty");
        refused::<ImageName>("Pi_2", "`Pi_2` cannot be an image name: only lower-case letters, digits and `-`, no `-` in front");
        refused::<Suite>("trixie main", "`trixie main` is no suite of the Debian archive: write `trixie`, `stable`, …");
        refused::<Suite>("../x", "`../x` is no suite of the Debian archive: write `trixie`, `stable`, …");
        refused::<UserName>("root", "`root` cannot be the user: name another, it gets `sudo`");
        refused::<UserName>("docker", "`docker` is a system user already: choose another name");
        refused::<UserName>("Pi", "`Pi` is no login name: lower-case letters, digits, `-` and `_`, a letter first");
    }

    #[test]
    fn addresses() {
        for good in ["http://127.0.0.1:8080/base.img.xz", "https://example.org/debian"] {
            assert!(good.parse::<Url>().is_ok(), "{good}");
        }
        refused::<Url>("example.org/x", "`example.org/x` is no web address: it starts with `http://` or `https://`");
        refused::<Url>("http:///x", "`http:///x` is no web address: the host is missing");
        refused::<Url>("http://a b/", "`http://a b/` is no web address: it has a space in it");
        refused::<Url>("http://me:secret@host/", "a web address must not carry a user name or password");
    }
}
