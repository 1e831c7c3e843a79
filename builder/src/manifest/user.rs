//! Who may log in.

use std::fmt;

use serde::Serialize;

use crate::manifest::text::{BadText, UserName, schema, through_text};

/// The one user of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Login name.
    pub name: UserName,
    /// Public keys that may log in by SSH. Empty: the build makes a key pair and keeps it for the user.
    pub ssh_keys: Vec<PublicKey>,
    /// For the console; `None` = no password login anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<PasswordHash>,
    /// Whether the user may become root without a password.
    pub sudo: bool,
}

/// One line of `authorized_keys`: type, key, comment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PublicKey(String);

impl PublicKey {
    /// The line, without a newline.
    pub fn line(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for PublicKey {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let text = text.trim();
        if text.contains("PRIVATE KEY") {
            return Err(BadText("this is a private key: name the public one, the file that ends in `.pub`".to_owned()));
        }
        let key = ssh_key::PublicKey::from_openssh(text).map_err(|_| {
            let start: String = text.chars().take(24).collect();
            BadText(format!("`{start}` is no SSH public key: it is the line in a `.pub` file, such as `ssh-ed25519 AAAA… name`"))
        })?;
        let line = key.to_openssh().map_err(|error| BadText(format!("SSH public key: {error}")))?;
        Ok(Self(line.trim_end().to_owned()))
    }
}

/// A password as crypt(5) hashes it. Its `Debug` and its serialised form show nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// The hash, for the password field of `/etc/shadow`.
    pub fn for_shadow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(hidden)")
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl std::str::FromStr for PasswordHash {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        // The text is never repeated: it may be a password.
        let advice = "run `mkpasswd` (package whois) and write what it prints";
        let fields: Vec<&str> = text.split('$').collect();
        let [_, method, rest @ ..] = fields.as_slice() else {
            return Err(BadText(format!("this is no crypt(5) hash, and a password in plain text is never taken: {advice}")));
        };
        // Characters: crypt(5) "printable ASCII characters other than : ; * ! \\", no white space.
        let clean = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b':' | b';' | b'*' | b'!' | b'\\'));
        let (at_least, hash_length) = match *method {
            "y" | "gy" | "7" => (if *method == "7" { 2 } else { 3 }, 43),
            "6" => (2, 86),
            "5" => (2, 43),
            "2b" | "2y" => (2, 53),
            "1" | "md5" | "sha1" | "3" | "2" | "2a" | "2x" => {
                return Err(BadText(format!("this crypt(5) hash is of an old, weak kind: {advice}")));
            }
            _ => return Err(BadText(format!("this is no crypt(5) hash that Debian knows: {advice}"))),
        };
        let whole = rest.last().is_some_and(|hash| hash.len() == hash_length);
        if !fields[0].is_empty() || !clean || rest.len() < at_least || rest.iter().any(|field| field.is_empty()) || !whole {
            return Err(BadText(format!("this crypt(5) hash is cut off or garbled: {advice}, in single quotes")));
        }
        Ok(Self(text.to_owned()))
    }
}

through_text!(PasswordHash);
schema!(PasswordHash, "^\\$(y|gy|7|6|5|2b|2y)\\$");
