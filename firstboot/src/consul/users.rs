//! Who may use the cluster's Docker endpoint: a key for each user who was added or removed.
//!
//! A user without a key is let in, with any certificate of the users' authority in that name: whoever has the cluster key makes such ones
//! without asking anybody. One who was removed is let in with those certificates only that were made for the name since.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Client, Error,
    client::escaped,
    keys::USERS,
    kv::{Freshness, If},
};
use crate::trust::UserName;

/// How often a change is tried that others come before.
const TRIES: usize = 5;

/// What is kept of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Whether the user was removed, ever.
    pub removed: bool,
    /// The certificates that are good although: those made for the name since, by their fingerprints.
    pub kept: Vec<String>,
    /// The certificates that were made on nodes.
    pub added: Vec<Added>,
}

/// A certificate that was made on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// SHA-256 of it in DER, hexadecimal.
    pub fingerprint: String,
}

impl Rule {
    /// Lets the user in with this certificate.
    pub fn add(&mut self, fingerprint: &str) {
        if self.removed && !self.kept.iter().any(|kept| kept == fingerprint) {
            self.kept.push(fingerprint.to_owned());
        }
        if !self.added.iter().any(|added| added.fingerprint == fingerprint) {
            self.added.push(Added { fingerprint: fingerprint.to_owned() });
        }
    }

    /// Refuses the user with every certificate that there is.
    pub fn remove(&mut self) {
        self.removed = true;
        self.kept.clear();
    }

    /// Whether no certificate of today is good.
    pub fn is_out(&self) -> bool {
        self.removed && self.kept.is_empty()
    }
}

impl Client {
    /// All users of whom something is kept, as a majority of the servers has it.
    ///
    /// # Errors
    ///
    /// Consul does not say, or has something else there.
    pub fn users(&self) -> Result<BTreeMap<UserName, Rule>, Error> {
        let mut users = BTreeMap::new();
        for key in self.keys(USERS)? {
            let Some(name) = key.strip_prefix(USERS).and_then(|name| name.parse::<UserName>().ok()) else { continue };
            if let Some((rule, _)) = self.user(&name)? {
                users.insert(name, rule);
            }
        }
        Ok(users)
    }

    /// Changes what is kept of a user; what it is then, and whether it was another before.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub fn change_user(&self, name: &UserName, change: impl Fn(&mut Rule)) -> Result<(Rule, bool), Error> {
        for _ in 0..TRIES {
            let found = self.user(name)?;
            let condition = found.as_ref().map_or(If::Absent, |(_, modified)| If::Unchanged(*modified));
            let before = found.map(|(rule, _)| rule);
            let mut rule = before.clone().unwrap_or_default();
            change(&mut rule);
            if before.as_ref() == Some(&rule) {
                return Ok((rule, false));
            }
            // Strings: nothing in it can fail.
            let value = serde_json::to_vec(&rule).unwrap_or_default();
            if self.put_if(&key(name), &value, condition)? {
                return Ok((rule, true));
            }
        }
        Err(Error::Unexpected { what: format!("PUT /v1/kv/{}", key(name)), why: "others change it all the time".to_owned() })
    }

    fn user(&self, name: &UserName) -> Result<Option<(Rule, u64)>, Error> {
        let Some(entry) = self.value(&key(name), Freshness::Consistent)? else { return Ok(None) };
        let rule = serde_json::from_slice(&entry.value);
        let wrong = |error: serde_json::Error| Error::Unexpected {
            what: format!("GET /v1/kv/{}", escaped(&key(name))),
            why: error.to_string(),
        };
        Ok(Some((rule.map_err(wrong)?, entry.modified)))
    }
}

fn key(name: &UserName) -> String {
    format!("{USERS}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_endpoint_reads_it() {
        let mut rule = Rule::default();
        rule.add("aa");
        let text = |rule: &Rule| serde_json::to_string(rule).unwrap();
        assert_eq!(text(&rule), r#"{"removed":false,"kept":[],"added":[{"fingerprint":"aa"}]}"#);
        rule.remove();
        assert!(rule.is_out());
        rule.add("bb");
        rule.add("bb");
        assert_eq!(text(&rule), r#"{"removed":true,"kept":["bb"],"added":[{"fingerprint":"aa"},{"fingerprint":"bb"}]}"#);
        assert!(!rule.is_out());
        rule.remove();
        assert_eq!((rule.is_out(), rule.added.len()), (true, 2));
        // The node's own, which is always the same.
        rule.add("aa");
        assert_eq!((rule.kept.clone(), rule.added.len()), (vec!["aa".to_owned()], 2));
        let older: Rule = serde_json::from_str(r#"{"removed":true}"#).unwrap();
        assert!(older.is_out());
    }
}
