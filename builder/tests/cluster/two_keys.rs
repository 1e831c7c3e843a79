//! Two labs with different keys on one switch.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use hcl_image::lab::node::Clock;

use crate::lab::{Cluster, SETTLED, image};

/// A copy of the image with a key of another cluster.
fn other_key(folder: &Path) -> PathBuf {
    let copy = folder.join("other.img");
    let copied = Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(image()).arg(&copy).status().unwrap();
    assert!(copied.success());
    hcl_image(folder, &["key", "--cluster", "other", copy.to_str().unwrap()]);
    copy
}

/// The same image once more, for another VLAN.
fn other_vlan(folder: &Path) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/debian-trixie-armhf.toml");
    let program = std::env::var("HCL_NODE_PROGRAM").expect("HCL_NODE_PROGRAM names the node program");
    let (image, manifest) = (folder.join("vlan.img"), manifest.canonicalize().unwrap());
    let settings = ["--set", "node.vlan=201", "--set", "node.subnet=192.168.201.0/24", "--set", "node.cluster=other"];
    let files = ["--node-program", &program, "--output", image.to_str().unwrap(), manifest.to_str().unwrap()];
    hcl_image(folder, &[&["build"], &settings[..], &files[..]].concat());
    image
}

/// Runs the program with keys of its own in `folder`.
fn hcl_image(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hcl-image"));
    let output = command.args(arguments).arg("--keys").arg(folder.join("keys")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs a built image and fifteen minutes: make proof"]
fn on_one_vlan_one_lab_runs_and_the_other_explains() {
    let folder = tempfile::tempdir().unwrap();
    let copy = other_key(folder.path());
    let mut cluster = Cluster::start("one-vlan", &image(), 2, 1, &[]);
    // It has another cluster's key now, and whose login it was.
    cluster.other_card(2, &copy, None);
    cluster.settled(&[0, 1]);
    cluster.power_on(2, Clock::Host);
    // It stays out, says so in one line with the fix, and disturbs nobody.
    let deadline = Instant::now() + SETTLED;
    loop {
        let health = cluster.try_ask(2, "hcl health; true").unwrap_or_else(|why| why);
        if health.lines().any(|line| line.contains("--set node.vlan=")) {
            println!("{health}");
            break;
        }
        assert!(Instant::now() < deadline, "the other lab's node explains nothing: {health}");
        cluster.look(Duration::from_secs(5));
    }
    assert!(!cluster.ask(2, "ip -4 -o addr").contains("192.168.200.1/"), "two have the leader's address");
    cluster.settled(&[0, 1]);
    cluster.healthy(&[0, 1]);
}

#[test]
#[ignore = "needs a built image and twenty minutes: make proof"]
fn on_two_vlans_both_labs_run() {
    let folder = tempfile::tempdir().unwrap();
    let copy = other_vlan(folder.path());
    let mut cluster = Cluster::start("two-vlans", &image(), 2, 2, &[]);
    for node in [2, 3] {
        cluster.other_card(node, &copy, Some(&folder.path().join("keys")));
    }
    cluster.settled(&[0, 1]);
    for node in [2, 3] {
        cluster.power_on(node, Clock::Host);
    }
    cluster.settled(&[2, 3]);
    cluster.settled(&[0, 1]);
}
