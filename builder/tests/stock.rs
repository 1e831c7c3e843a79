//! A finished image as the base: our own, compressed, from a web server that cuts the line; then edited in place like any other.
//! Run by `scripts/stages` once the image is there: `HCL_IMAGE` names it, `HCL_NODE_PROGRAM` the node program.

use std::{
    cell::RefCell,
    fs::File,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use hcl_image::{
    image::disk::{Disk, Tree},
    progress::{Mode, Reporter},
    units::Digest,
};

#[path = "common/judges.rs"]
mod judges;
#[path = "common/web.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod web;

fn named(variable: &str) -> PathBuf {
    let path =
        PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names a file that make image built")));
    assert!(path.is_file(), "{} is no file: run make image", path.display());
    path
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn a_downloaded_base_is_resumed_edited_and_whole() {
    let image = named("HCL_IMAGE");
    let folder = tempfile::tempdir().unwrap();
    let packed = Arc::new(zstd::encode_all(File::open(image).unwrap(), 1).unwrap());
    let half = packed.len() / 2;
    let body = Arc::clone(&packed);
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let asked_for = Arc::clone(&ranges);
    let server = web::Web::start(move |asked| {
        asked_for.lock().unwrap().push(asked.from);
        // The first answer breaks off in the middle.
        web::Reply { cut_after: (asked.number == 0).then_some(half), ..web::Reply::good(&body) }
    });
    let manifest = folder.path().join("stock.toml");
    let project = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    std::fs::write(
        &manifest,
        format!(
            "include = \"{}/manifests/debian-trixie-armhf.toml\"\n[base.download]\nurl = \"{}\"\nsha256 = \"{}\"\n\
             [node]\nvlan = 201\n[[files]]\npath = \"/opt/mine\"\ncontent = \"mine\"\nmode = \"0640\"\nuid = 7\n",
            project.display(),
            server.url("/stock.img.zst"),
            Digest::of(&packed),
        ),
    )
    .unwrap();
    let said = RefCell::new(String::new());
    let build = |name: &str| {
        let out = folder.path().join(name);
        let output = Command::new(env!("CARGO_BIN_EXE_hcl-image"))
            .arg("--json")
            .arg("build")
            .arg(&manifest)
            .arg("-o")
            .arg(&out)
            .arg("--cache")
            .arg(folder.path().join("cache"))
            .arg("--keys")
            .arg(folder.path().join("keys"))
            .arg("--node-program")
            .arg(named("HCL_NODE_PROGRAM"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        said.borrow_mut().push_str(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
        out
    };
    let first = build("first.img");
    let ranges = ranges.lock().unwrap().clone();
    assert_eq!(ranges.len(), 2, "one cut, one resumption: {ranges:?}");
    assert!(ranges[1].is_some_and(|from| from > 0 && from <= half), "the second request asked for the rest: {ranges:?}");

    judges::all(&first).unwrap();
    let mine = judges::debugfs(&first, 2, "/opt/mine").unwrap();
    assert_eq!((mine.mode, mine.owner), (0o640, (7, 0)));
    let disk = Disk::open(&first, &Reporter::new(Mode::Quiet)).unwrap();
    let node = String::from_utf8(disk.root().unwrap().unwrap().read("/etc/hcl/node.toml").unwrap()).unwrap();
    assert!(node.contains("vlan = 201"), "{node}");

    // The cluster key: whole in the image for root only, and nowhere else.
    let key = std::fs::read_to_string(folder.path().join("keys/lab/cluster.key")).unwrap();
    let laid = judges::debugfs(&first, 2, "/etc/hcl/cluster.key").unwrap();
    assert_eq!((laid.mode, laid.owner), (0o600, (0, 0)));
    let root = disk.root().unwrap().unwrap();
    assert_eq!(root.read("/etc/hcl/cluster.key").unwrap(), key.as_bytes());
    assert_eq!(std::fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600, "the image holds the key");
    let lock = std::fs::read_to_string(first.with_extension("lock")).unwrap();
    assert!(lock.contains("cluster-id = "), "{lock}");
    let told = root.read("/usr/share/hcl/image.json").unwrap();
    for text in [&lock, &String::from_utf8(told).unwrap(), &said.borrow().clone()] {
        assert!(!text.contains(key.trim_end()), "the key is told");
    }

    let second = build("second.img");
    let digest = |path: &PathBuf| Digest::of_reader(&mut File::open(path).unwrap()).unwrap();
    assert_eq!(digest(&first), digest(&second), "same inputs, other bytes");
    assert_eq!(server.seen().len(), 2, "the second build asked for nothing");
}
