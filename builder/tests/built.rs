//! Judges on the image that `make image` built, run by `scripts/stages` once it is there: `HCL_IMAGE` names it.
//!
//! Foreign readers look at every byte, and at each kind of owner, mode, link and device that the plan asked for.

use std::path::PathBuf;

#[path = "common/judges.rs"]
mod judges;

fn image() -> PathBuf {
    let path = PathBuf::from(std::env::var_os("HCL_IMAGE").expect("HCL_IMAGE names the built image"));
    assert!(path.is_file(), "{} is no file: run make image", path.display());
    path
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn every_judge_accepts_the_built_image() {
    judges::all(&image()).unwrap();
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn owners_modes_and_links_are_as_planned() {
    for (path, kind, mode, owner) in [
        ("/usr/sbin/hcl-firstboot", "regular", 0o755, (0, 0)),
        ("/usr/bin/hcl", "symlink", 0o777, (0, 0)),
        ("/etc/hcl/node.toml", "regular", 0o644, (0, 0)),
        ("/etc/hcl/cluster.key", "regular", 0o600, (0, 0)),
        ("/etc/machine-id", "regular", 0o444, (0, 0)),
        ("/etc/sudoers.d/010-hcl", "regular", 0o440, (0, 0)),
        ("/etc/shadow", "regular", 0o640, (0, 42)),
        ("/home/hcl", "directory", 0o750, (1000, 1000)),
        ("/home/hcl/.ssh", "directory", 0o700, (1000, 1000)),
        ("/home/hcl/.ssh/authorized_keys", "regular", 0o600, (1000, 1000)),
        // What the base has stays what it was.
        ("/usr/bin/sudo", "regular", 0o4755, (0, 0)),
        ("/dev/null", "character special", 0o666, (0, 0)),
    ] {
        let inode = judges::debugfs(&image(), 2, path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!((inode.kind.as_str(), inode.mode, inode.owner), (kind, mode, owner), "{path}");
    }
}
