//! dpkg's database of packages (deb-control(5), `/var/lib/dpkg/status`).

use std::collections::BTreeMap;

/// One package of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// The last word of `Status`: `installed`, `unpacked`, `config-files`, …
    pub state: String,
}

impl Package {
    /// Whether its files are there, configured or not yet.
    pub fn is_present(&self) -> bool {
        !matches!(self.state.as_str(), "config-files" | "not-installed")
    }
}

/// Reads `/var/lib/dpkg/status`. A paragraph without a package name is left out.
pub fn parse_status(text: &str) -> Vec<Package> {
    text.split("\n\n")
        .filter_map(|paragraph| {
            let field = |name: &str| {
                paragraph
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                    .map(|value| value.trim().to_owned())
                    .unwrap_or_default()
            };
            let name = field("Package");
            (!name.is_empty()).then(|| Package {
                name,
                version: field("Version"),
                architecture: field("Architecture"),
                state: field("Status").rsplit(' ').next().unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

/// Reads `KEY=value` lines with optional quotes, as in os-release(5) and `/etc/default/`.
pub fn parse_assignments(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_matches(|quote| quote == '"' || quote == '\'').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status() {
        let text = "Package: docker.io\nStatus: install ok installed\nArchitecture: armhf\nVersion: 26.1.5\nDescription: x\n Version: no\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n\nnonsense\n";
        let packages = parse_status(text);
        assert_eq!(packages.len(), 2);
        assert_eq!((packages[0].version.as_str(), packages[0].is_present()), ("26.1.5", true));
        assert!(!packages[1].is_present());
        assert_eq!(parse_assignments("# c\nID=debian\nNAME=\"Debian GNU/Linux\"\n")["NAME"], "Debian GNU/Linux");
    }
}
