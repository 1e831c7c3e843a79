//! The node's host name: the kernel's, `/etc/hostname`, and the line in `/etc/hosts` that lets `sudo` find it.

use std::{fs, io, path::Path};

use crate::{IMAGE_HOST_NAME, config::HostName, durable};

/// The name that the system has already, if it is no image's default: the one of an earlier boot, perhaps in another board, or one
/// that a person has set.
pub(super) fn kept(etc: &Path) -> Option<HostName> {
    let name = current(&etc.join("hostname")).ok().flatten().filter(|name| name != IMAGE_HOST_NAME)?;
    name.parse().ok()
}

/// The name in a hostname(5) file.
fn current(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives the node `name`. Unless it was `chosen` in the configuration, only an image's default name is replaced: one that a
/// person has set stays. Whether anything has changed.
///
/// # Errors
///
/// The files cannot be written or the kernel refuses.
pub(super) fn set(etc: &Path, name: &str, chosen: bool) -> io::Result<bool> {
    let file = etc.join("hostname");
    let current = current(&file)?;
    let ours = current.as_deref().is_none_or(|current| current == IMAGE_HOST_NAME);
    if current.as_deref() == Some(name) || !(chosen || ours) {
        return Ok(false);
    }
    // First the name for this boot: it needs no card.
    rustix::system::sethostname(name.as_bytes())?;
    let hosts = etc.join("hosts");
    let text = match fs::read_to_string(&hosts) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned(),
        Err(error) => return Err(error),
    };
    durable::replace(&hosts, with_own_name(&text, name).as_bytes(), 0o644)?;
    // Last, so that a power cut before it makes the next boot do all of it again.
    durable::replace(&file, format!("{name}\n").as_bytes(), 0o644)?;
    Ok(true)
}

/// `hosts` with `name` at 127.0.1.1, Debian's address for a host's own name.
fn with_own_name(hosts: &str, name: &str) -> String {
    let own = format!("127.0.1.1\t{name}");
    let mut lines: Vec<&str> = hosts.lines().collect();
    match lines.iter().position(|line| line.split_whitespace().next() == Some("127.0.1.1")) {
        Some(place) => lines[place] = &own,
        None => {
            let after = lines.iter().position(|line| line.starts_with("127.0.0.1")).map_or(0, |place| place + 1);
            lines.insert(after, &own);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let table = [
            ("127.0.0.1\tlocalhost\n127.0.1.1\thcl-node\n", "127.0.0.1\tlocalhost\n127.0.1.1\tnode-1\n"),
            ("127.0.0.1 localhost\n::1 localhost\n", "127.0.0.1 localhost\n127.0.1.1\tnode-1\n::1 localhost\n"),
            ("", "127.0.1.1\tnode-1\n"),
        ];
        for (before, after) in table {
            assert_eq!(with_own_name(before, "node-1"), after);
            assert_eq!(with_own_name(after, "node-1"), after);
        }
    }

    #[test]
    fn a_name_that_somebody_set_stays() {
        let etc = tempfile::tempdir().unwrap();
        for (text, name) in [("# none\n", None), ("hcl-node\n", None), ("a.b\n", None), ("attic\n", Some("attic"))] {
            fs::write(etc.path().join("hostname"), text).unwrap();
            assert_eq!(kept(etc.path()), name.map(|name| HostName::Named(name.to_owned())), "{text}");
        }
        assert!(!set(etc.path(), "node-1", false).unwrap());
        assert_eq!(fs::read_to_string(etc.path().join("hostname")).unwrap(), "attic\n");
    }
}
