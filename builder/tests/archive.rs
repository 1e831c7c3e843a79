//! `hcl-image plan` and `build` against archives that are not signed, not whole or not there.

#[path = "common/archive.rs"]
mod archive;
#[path = "common/web.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod web;

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output},
};

use archive::{Fault, Key, manifest, serve, suite};
use tempfile::TempDir;
use web::Web;

/// Everything that a run needs, with both keys.
struct Desk {
    // Before the folder, which holds their homes.
    key: Key,
    other: Key,
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        // Short: gpg's agent listens on a socket in there.
        let folder = tempfile::Builder::new().prefix("hcl-").tempdir().expect("a folder");
        fs::write(folder.path().join("node"), b"a node program").expect("room");
        Self { key: Key::new(folder.path().join("key")), other: Key::new(folder.path().join("other")), folder }
    }

    fn web(&self, suites: &[(&str, Fault)]) -> Web {
        let files: BTreeMap<_, _> = suites.iter().flat_map(|(name, fault)| suite(name, *fault, &self.key, &self.other)).collect();
        Web::start(serve(files))
    }

    fn run(&self, command: &str, mirror: &str, suites: &[&str]) -> Output {
        manifest(&self.folder.path().join("small.toml"), &self.key.keyring(), suites);
        self.again(command, mirror, &[])
    }

    /// Runs with the manifest that is there.
    fn again(&self, command: &str, mirror: &str, more: &[&str]) -> Output {
        let path = |name: &str| self.folder.path().join(name);
        let mut run = Command::new(env!("CARGO_BIN_EXE_hcl-image"));
        run.arg(command).arg(path("small.toml")).args(["--mirror", mirror]).args(more);
        run.arg("--cache").arg(path("cache")).arg("--keys").arg(path("keys")).arg("--node-program").arg(path("node"));
        if command == "build" {
            run.arg("-o").arg(path("out/small.img"));
        }
        for name in ["SOURCE_DATE_EPOCH", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            run.env_remove(name);
        }
        run.current_dir(self.folder.path()).output().expect("it starts")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_suite_that_cannot_be_used_is_skipped_with_its_reason() {
    let desk = Desk::new();
    for (name, fault, why) in [
        ("forged", Fault::Forged, "NO_PUBKEY"),
        ("altered", Fault::Altered, "BADSIG"),
        ("unsigned", Fault::Unsigned, "is not signed"),
        ("late", Fault::OutOfStep, "unexpected size"),
        ("cut", Fault::Cut, "Packages"),
        ("gone", Fault::Gone, "does not have a Release file"),
    ] {
        let web = desk.web(&[(name, fault), ("good", Fault::None)]);
        let mirror = web.url("/debian");
        let output = desk.run("plan", &mirror, &[name, "good"]);
        let notes = text(&output.stderr);
        assert!(output.status.success(), "{name}: {notes}");
        let skipped = notes.lines().find(|line| line.contains(&format!("suite {name} is not usable: ")));
        assert!(skipped.is_some_and(|line| line.contains(why)), "{name}: {notes}");
        assert!(text(&output.stdout).contains("Debian 13.9 (trixie, suite good)"), "{}", text(&output.stdout));

        // And where there is no other: one line, and nothing is made.
        let output = desk.run("build", &mirror, &[name]);
        let notes = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {notes}");
        let said: Vec<&str> = notes.lines().filter(|line| line.starts_with("hcl-image: ")).collect();
        assert!(said.len() == 1 && said[0].contains("nothing was built") && said[0].contains(why), "{name}: {notes}");
        assert_eq!(fs::read_dir(desk.folder.path().join("out")).expect("a folder").count(), 0);
    }
}

#[test]
fn a_mirror_that_is_not_there() {
    let desk = Desk::new();
    let output = desk.run("build", "http://127.0.0.1:1/debian", &["good"]);
    let notes = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{notes}");
    assert!(notes.contains("nothing was built") && notes.contains("Connection refused"), "{notes}");

    // There for the index, gone for the packages: every package is named, in one line.
    let web = desk.web(&[("good", Fault::None)]);
    let output = desk.run("build", &web.url("/debian"), &["good"]);
    let notes = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{notes}");
    let last = notes.lines().last().expect("a line");
    assert!(last.starts_with("hcl-image: 4 of 4 packages cannot be had"), "{notes}");
    for name in ["apt", "base-files", "hello", "linux-image-arm64"] {
        assert!(last.contains(&format!("{name} 1 (")), "{name}: {last}");
    }
    assert_eq!(fs::read_dir(desk.folder.path().join("out")).expect("a folder").count(), 0);
}

#[test]
fn a_container_image_has_its_own_suite_and_only_what_it_needs() {
    let desk = Desk::new();
    let web = desk.web(&[("good", Fault::None), ("other", Fault::None)]);
    let mirror = web.url("/debian");
    let small = desk.folder.path().join("small.toml");
    let with = |suite: &str| {
        manifest(&small, &desk.key.keyring(), &["good"]);
        let text = fs::read_to_string(&small).expect("just written").replace("\"none\"", "\"docker\"\npackages = []");
        let image = format!(
            "[images.lab]\nreference = \"lab/served:1\"\ndebian = {{ suites = [\"{suite}\"], packages = [\"served\"] }}\n"
        );
        fs::write(&small, text + &image).expect("room");
    };

    with("other");
    let output = desk.again("plan", &mirror, &[]);
    let plan = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // No essential package, and none that only installs.
    let wanted = "store   lab/served:1 as lab from Debian 13.9 (trixie), 11 B to download at most\nlayer   hello 1, served 1\n";
    assert!(plan.contains(wanted), "{plan}");
    assert!(plan.contains("/etc/hcl/images.json"), "{plan}");

    // What is locked needs no index.
    let lock = desk.folder.path().join("locked");
    fs::write(&lock, desk.again("plan", &mirror, &["--lock"]).stdout).expect("room");
    let locked = desk.again("plan", "http://127.0.0.1:1/debian", &["--locked", lock.to_str().expect("text")]);
    assert_eq!((text(&locked.stdout), locked.status.success()), (plan, true), "{}", text(&locked.stderr));

    // A suite that has left the mirror: one line, with the ways out.
    with("bygone");
    let output = desk.again("build", &mirror, &[]);
    let notes = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{notes}");
    let said: Vec<&str> = notes.lines().filter(|line| line.starts_with("hcl-image: ")).collect();
    let [line] = said.as_slice() else { panic!("{notes}") };
    assert!(line.starts_with("hcl-image: container image lab from Debian bygone: no suite of the mirror "), "{line}");
    for part in ["does not have a Release file", "so nothing was built", "images.lab.archive", "images.lab.debian.mirror"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(fs::read_dir(desk.folder.path().join("out")).expect("a folder").count(), 0);
}
