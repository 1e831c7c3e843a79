//! Weaknesses that are known to be open in packages which get no more updates.
//!
//! Not a scanner: a list, looked through by a person, of what is in the container images of the manifests in this project and
//! will not be mended any more. A package that is not listed has not been looked through.

/// What is known of one version of a package.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Name of the package.
    pub package: &'static str,
    /// Its version in Debian, without the number of a rebuild (`+b3`).
    pub version: &'static str,
    /// When the list was made.
    pub checked: &'static str,
    /// The weaknesses.
    pub open: &'static [Weakness],
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Weakness {
    /// Its number.
    pub cve: &'static str,
    /// The advisory that says which versions have it.
    pub advisory: &'static str,
    /// The first versions without it, as upstream counts.
    pub fixed: &'static str,
    /// What it is, and for whom.
    pub what: &'static str,
}

/// Ranges as the GitHub Advisory Database gives them for `github.com/hashicorp/consul`, those that hold 1.8.7 and concern the
/// open edition. CVE-2020-25864 is mended in 1.8.7+dfsg1-2 (Debian bug 987351); CVE-2021-36213, CVE-2024-10005 and
/// CVE-2024-10006 are of intentions on HTTP requests, which came with 1.9.0.
const KNOWN: [Known; 1] = [Known {
    package: "consul",
    version: "1.8.7+dfsg1-2",
    checked: "2026-11-24",
    open: &[
        Weakness {
            cve: "CVE-2021-32574",
            advisory: "GHSA-25gf-8qrr-g78r",
            fixed: "1.8.14, 1.9.8, 1.10.1",
            what: "service mesh: a proxy does not check whom an upstream's certificate names",
        },
        Weakness {
            cve: "CVE-2021-37219",
            advisory: "GHSA-ccw8-7688-vqx4",
            fixed: "1.8.15, 1.9.9, 1.10.2",
            what: "a certificate of the cluster's authority is enough to speak raft: an agent can do what a server can",
        },
        Weakness {
            cve: "CVE-2021-38698",
            advisory: "GHSA-6hw5-6gcx-phmw",
            fixed: "1.8.15, 1.9.9, 1.10.2",
            what: "service mesh: a transaction registers a proxy for a foreign service",
        },
        Weakness {
            cve: "CVE-2021-41803",
            advisory: "GHSA-hr3v-8cp3-68rf",
            fixed: "1.11.9, 1.12.5, 1.13.2",
            what: "auto-config: names of nodes go unchecked into the claims of a token",
        },
        Weakness {
            cve: "CVE-2022-24687",
            advisory: "GHSA-hj93-5fg3-3chr",
            fixed: "1.9.15, 1.10.8, 1.11.3",
            what: "service mesh: with an ingress gateway, a service makes the servers panic",
        },
        Weakness {
            cve: "CVE-2022-29153",
            advisory: "GHSA-q6h7-4qgw-2j9p",
            fixed: "1.9.17, 1.10.10, 1.11.5",
            what: "an HTTP health check follows redirects to where the agent can reach",
        },
        Weakness {
            cve: "CVE-2022-40716",
            advisory: "GHSA-m69r-9g56-7mv8",
            fixed: "1.11.9, 1.12.5, 1.13.2",
            what: "service mesh: a request for a certificate may name several services",
        },
        Weakness {
            cve: "CVE-2024-10086",
            advisory: "GHSA-99wr-c2px-grmh",
            fixed: "1.20.0",
            what: "HTTP API: answers without a content type, which a browser may take for a page",
        },
        Weakness {
            cve: "CVE-2025-11374",
            advisory: "GHSA-7g3r-8c6v-hfmr",
            fixed: "1.22.0",
            what: "HTTP API: too large a value for a key exhausts memory",
        },
        Weakness {
            cve: "CVE-2025-11375",
            advisory: "GHSA-qh7p-pfq3-677h",
            fixed: "1.22.0",
            what: "HTTP API: too large an event exhausts memory",
        },
    ],
}];

/// What is known of a package's version.
pub fn known(package: &str, version: &str) -> Option<&'static Known> {
    let rebuilt = version.rsplit_once("+b").filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    let version = rebuilt.map_or(version, |(version, _)| version);
    KNOWN.iter().find(|known| known.package == package && known.version == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_that_was_looked_through_is_spoken_of() {
        assert_eq!(known("consul", "1.8.7+dfsg1-2+b3").unwrap().open.len(), 10);
        assert_eq!(known("consul", "1.8.7+dfsg1-2").unwrap().open.len(), 10);
        for (package, version) in
            [("consul", "1.8.7+dfsg1-3"), ("consul", "1.9.0"), ("consul", "1.8.7+dfsg1-2+bx"), ("libc6", "1")]
        {
            assert!(known(package, version).is_none(), "{package} {version}");
        }
    }

    #[test]
    fn entries_are_sorted_and_whole() {
        for known in &KNOWN {
            assert!(known.open.windows(2).all(|pair| pair[0].cve < pair[1].cve), "{}", known.package);
            for weakness in known.open {
                assert!(weakness.cve.starts_with("CVE-") && weakness.advisory.starts_with("GHSA-"), "{weakness:?}");
            }
        }
    }
}
