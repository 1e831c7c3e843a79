//! A card that is a copy of another node's becomes a node of its own.
//!
//! The network finds out: the old identity answers from another board, and the record gets a new node id. What the services kept is
//! then another node's, and so is what the system has made for itself alone. All of that is forgotten, and the board boots anew as
//! it did with a fresh card.

use std::{fs, io, path::Path};

use super::systemctl::systemctl;
use crate::{IMAGE_HOST_NAME, durable};

/// Removes what no two systems may share, under `root`: SSH host keys, the host name, and the machine id. The next boot makes
/// new ones. An empty machine-id(5) does that; `uninitialized` would make it a first boot, with questions on the console.
///
/// # Errors
///
/// Which file stays, and why.
pub(super) fn forget_system(root: &Path) -> Result<(), String> {
    let wrong = |path: &Path, error: &io::Error| format!("{}: {error}", path.display());
    let ssh = root.join("etc/ssh");
    let keys = fs::read_dir(&ssh).map_err(|error| wrong(&ssh, &error))?.flatten().map(|entry| entry.path());
    let keys = keys.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_")));
    // The engine's id is what tools outside the swarm know it by.
    let others = ["var/lib/systemd/random-seed", "var/lib/docker/engine-id"].map(|path| root.join(path));
    for path in keys.chain(others) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(&path, &error)),
            _ => {}
        }
    }
    let name = root.join("etc/hostname");
    durable::replace(&name, format!("{IMAGE_HOST_NAME}\n").as_bytes(), 0o644).map_err(|error| wrong(&name, &error))?;
    let id = root.join("etc/machine-id");
    durable::replace(&id, b"", 0o444).map_err(|error| wrong(&id, &error))
}

/// Boots anew. It takes a moment: the caller goes on meanwhile.
///
/// # Errors
///
/// systemd refuses.
pub(super) fn boot_anew() -> Result<(), String> {
    systemctl(&["reboot"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_original_is_left() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "0123\n").unwrap();
        };
        for path in ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "ssh_host_ed25519_key-cert.pub", "sshd_config"] {
            put(&format!("etc/ssh/{path}"));
        }
        put("etc/machine-id");
        put("etc/hostname");
        put("var/lib/docker/engine-id");
        for _ in 0..2 {
            forget_system(root.path()).unwrap();
            let left: Vec<_> =
                fs::read_dir(root.path().join("etc/ssh")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, ["sshd_config"]);
            assert_eq!(fs::read_to_string(root.path().join("etc/machine-id")).unwrap(), "");
            assert_eq!(fs::read_to_string(root.path().join("etc/hostname")).unwrap().trim(), IMAGE_HOST_NAME);
            assert!(!root.path().join("var/lib/docker/engine-id").exists());
        }
        fs::remove_dir_all(root.path().join("etc")).unwrap();
        assert!(forget_system(root.path()).unwrap_err().contains("etc/ssh"));
    }
}
