//! What Consul keeps secret, all of it derived from the cluster key.
//!
//! | secret | label | form |
//! | --- | --- | --- |
//! | gossip key | `hcl 1 consul gossip` | 32 bytes, base64 |
//! | management token | `hcl 1 consul management` | first 16 bytes, as a UUID |
//! | token of the agents | `hcl 1 consul agent` | the same |
//! | token of `hcl-swarm` | `hcl 1 consul swarm` | the same |
//! | token of whoever gives none | `hcl 1 consul read` | the same; Consul tells it to everyone |

use std::fmt;

use data_encoding::BASE64;

use super::uuid;
use crate::key::ClusterKey;

/// Everything secret.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Encrypts what agents gossip. Whoever has it may be in the list of members, and needs a certificate for anything else.
    pub gossip: Secret,
    /// May do everything.
    pub management: Secret,
    /// May write nodes and services: what agents use to tell about themselves.
    pub agent: Secret,
    /// May read nodes, who leads and which users are let in, and write services: what `hcl-swarm` uses.
    pub swarm: Secret,
    /// May read nodes and services: what a request without a token gets.
    pub read: Secret,
}

impl Secrets {
    /// Those of the cluster that has `key`.
    pub fn of(key: &ClusterKey) -> Self {
        let token = |label| {
            let secret = key.secret(label);
            let mut half = [0; 16];
            half.copy_from_slice(&secret[..16]);
            Secret(uuid(half))
        };
        Self {
            gossip: Secret(BASE64.encode(&key.secret("hcl 1 consul gossip"))),
            management: token("hcl 1 consul management"),
            agent: token("hcl 1 consul agent"),
            swarm: token("hcl 1 consul swarm"),
            read: token("hcl 1 consul read"),
        }
    }
}

/// A text that does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for a file that only root reads or for a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets::of(&ClusterKey::new(std::array::from_fn(|place| place as u8)))
    }

    #[test]
    fn derived_values_stay_what_they_are() {
        // Nodes of older versions have them on their cards. The values are those of another implementation (Python's hmac, RFC 5869
        // by hand).
        let Secrets { gossip, management, agent, swarm, read } = secrets();
        let all = [gossip, management, agent, read, swarm];
        assert_eq!(all.each_ref().map(Secret::reveal), GOLDEN);
    }

    const GOLDEN: [&str; 5] = [
        "Xg9c42fuIiWCr28ccnhspVYwyNyrfU2xkttDbYb7W9c=",
        "ef8ce6b9-aec3-cecb-0b3c-8443ae0bbc87",
        "85d8af38-2bda-0b94-2744-783862e6c96b",
        "4e17839b-d37c-f980-e664-35dcbfc84249",
        "cf15b739-973b-2087-9645-3c7c827ff388",
    ];

    #[test]
    fn nothing_shows_them() {
        let shown = format!("{:?} {:#?}", secrets(), secrets());
        for secret in GOLDEN {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
