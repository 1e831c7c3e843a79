//! Which users are let in.
//!
//! A certificate by the users' authority has a name. A name that was removed is let in no longer, except for the certificates that
//! were made for it after that. The rules come from Consul ([`Users::set_rules`]) and hold until other ones come; before the first
//! ones nobody is let in, since somebody may have been removed.

mod certificate;

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Deserialize;
use tokio::sync::watch;

pub use certificate::BadUser;

/// The SHA-256 of a certificate's DER, in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Somebody whose certificate is by the users' authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// Which certificate.
    pub fingerprint: Fingerprint,
}

/// What Consul has about one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Rule {
    /// Whether it was removed.
    #[serde(default)]
    pub removed: bool,
    /// Fingerprints of the certificates that are let in all the same.
    #[serde(default)]
    pub kept: Vec<String>,
}

/// Why somebody is not let in. One line, for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The name was removed.
    #[error("user {0} was removed: ask for a new certificate (hcl user add {0})")]
    Removed(String),
    /// The rules are not known yet.
    #[error("this node does not know yet who was removed: its Consul does not answer")]
    Unknown,
}

/// The rules of one moment, by name; none before the first ones came.
type Rules = Option<Arc<BTreeMap<String, Rule>>>;

/// Who is let in.
pub struct Users {
    rules: watch::Sender<Rules>,
}

impl Users {
    /// Nobody, before [`Users::set_rules`].
    pub fn new() -> Arc<Self> {
        Arc::new(Self { rules: watch::Sender::new(None) })
    }

    /// These rules hold from now on: also for connections that stand.
    pub fn set_rules(&self, rules: BTreeMap<String, Rule>) {
        self.rules.send_replace(Some(Arc::new(rules)));
    }

    /// Whether `user` is let in now.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn admit(&self, user: &User) -> Result<(), Refused> {
        admit(&self.rules.borrow(), user)
    }

    /// Ready when `user` is no longer let in.
    pub async fn removed(&self, user: &User) {
        let mut rules = self.rules.subscribe();
        // The sender lives as long as `self`.
        let _ = rules.wait_for(|rules| admit(rules, user).is_err()).await;
    }
}

fn admit(rules: &Rules, user: &User) -> Result<(), Refused> {
    let rules = rules.as_ref().ok_or(Refused::Unknown)?;
    match rules.get(&user.name) {
        Some(rule) if rule.removed && !rule.kept.iter().any(|kept| kept == user.fingerprint.as_str()) => {
            Err(Refused::Removed(user.name.clone()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
