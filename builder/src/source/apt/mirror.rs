//! The Debian mirrors that the host itself uses.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The first Debian mirror in the host's own sources.
///
/// # Errors
///
/// There is none: the host is no Debian, or uses another archive.
pub fn host_mirror(etc_apt: &Path) -> Result<String> {
    find_mirror(etc_apt, "/debian").with_context(|| {
        format!("{}: no Debian mirror is configured on this machine: name one with --mirror URL", etc_apt.display())
    })
}

/// Where the host gets Debian's security updates from, if it does.
pub fn host_security_mirror(etc_apt: &Path) -> Option<String> {
    find_mirror(etc_apt, "/debian-security")
}

fn find_mirror(etc_apt: &Path, ending: &str) -> Option<String> {
    let mut files = vec![etc_apt.join("sources.list")];
    let mut parts: Vec<PathBuf> = fs::read_dir(etc_apt.join("sources.list.d"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    files.extend(parts);
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => deb822_mirror(&text, ending),
            Some("list") => one_line_mirror(&text, ending),
            _ => None,
        };
        found.map(|mirror| mirror.trim_end_matches('/').to_owned())
    })
}

/// Other archives (Ubuntu's, vendors') do not count.
fn ends_in(url: &str, ending: &str) -> bool {
    url.trim_end_matches('/').ends_with(ending) && !url.starts_with("cdrom:")
}

fn deb822_mirror(text: &str, ending: &str) -> Option<String> {
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if field("Enabled").is_some_and(|value| value == "no")
            || !field("Types").is_some_and(|types| types.split(' ').any(|t| t == "deb"))
        {
            continue;
        }
        if let Some(url) =
            field("URIs").and_then(|urls| urls.split_whitespace().find(|url| ends_in(url, ending)).map(str::to_owned))
        {
            return Some(url);
        }
    }
    None
}

fn one_line_mirror(text: &str, ending: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let url = rest.split_whitespace().next()?;
        ends_in(url, ending).then(|| url.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_found_in_both_formats() {
        let deb822 = "Types: deb\n# a comment\nURIs: http://m.invalid/debian-security\nSuites: x\n\nTypes: deb deb-src\nURIs: http://m.invalid/debian/\nSuites: x\n";
        assert_eq!(deb822_mirror(deb822, "/debian").as_deref(), Some("http://m.invalid/debian/"));
        assert_eq!(deb822_mirror("Types: deb-src\nURIs: http://m.invalid/debian\n", "/debian"), None);
        assert_eq!(deb822_mirror("Enabled: no\nTypes: deb\nURIs: http://m.invalid/debian\n", "/debian"), None);
        assert_eq!(
            one_line_mirror("# deb x\ndeb [arch=amd64] http://m.invalid/debian x main\n", "/debian").as_deref(),
            Some("http://m.invalid/debian")
        );
        assert_eq!(one_line_mirror("deb http://m.invalid/ubuntu x main\n", "/debian"), None);
    }

    #[test]
    fn a_machine_without_debian_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let message = host_mirror(folder.path()).unwrap_err().to_string();
        assert!(message.ends_with("name one with --mirror URL"), "{message}");
    }
}
