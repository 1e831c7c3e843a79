//! Container images from every source, and what a real engine makes of them. Needs root, as an engine does, and the Debian mirror
//! or what `make image` has got from it.

#[path = "containers/debs.rs"]
mod debs;
#[path = "engine_store/engine.rs"]
mod engine;
#[path = "engine_store/folder.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod folder;
#[path = "containers/registry.rs"]
mod registry;
#[path = "containers/saved.rs"]
mod saved;
#[path = "common/web.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod web;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use engine::Engine;
use folder::Folder;
use hcl_image::{
    build::{self, Options},
    engine_store,
    manifest::Manifest,
    oci::ContainerImage,
    progress::{Mode, Reporter},
};

const EPOCH: u64 = 1_790_000_000;

/// Images of a manifest over the default one, by name; `cache` is the one that `make image` fills where it is none.
fn images(text: &str, folder: &Path, cache: Option<PathBuf>) -> anyhow::Result<BTreeMap<String, ContainerImage>> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/debian-trixie-armhf.toml").canonicalize()?;
    let path = folder.join("lab.toml");
    fs::write(&path, format!("include = {default:?}\n{text}"))?;
    let manifest = Manifest::load(&path, &[])?;
    let cache = cache.or_else(|| std::env::var_os("HCL_CACHE").map(Into::into));
    let options = Options { cache, node_program: Some(node_program()), ..Options::default() };
    let images = build::images(&manifest, &options, EPOCH, &Reporter::new(Mode::Quiet))?;
    Ok(images.into_iter().map(|(name, image)| (name.to_string(), image)).collect())
}

/// Where `make node` puts the node program, and hcl-swarm beside it.
fn node_program() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let target = || named("CARGO_TARGET_DIR").unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    named("HCL_NODE_PROGRAM").unwrap_or_else(|| target().join("hcl-firstboot-armhf"))
}

/// A manifest without the images of the default one.
const NONE: &str =
    "images.consul.omit = true\nimages.haproxy.omit = true\nimages.busybox.omit = true\nimages.swarm.omit = true\n";

/// An engine whose store holds `images` and nothing else.
fn seeded(images: &BTreeMap<String, ContainerImage>, folder: &Path) -> Engine {
    let all: Vec<ContainerImage> = images.values().cloned().collect();
    engine_store::write(&all, &mut Folder(folder.join("root")), EPOCH as i64).unwrap();
    Engine::start(&folder.join("engine"), &folder.join("root/var/lib/docker")).unwrap()
}

/// What `docker run --rm` of it prints.
fn run(engine: &Engine, arguments: &[&str]) -> String {
    engine.docker(&[&["run", "--rm", "--network", "host"], arguments].concat())
}

/// What a tool that judges prints.
fn tool(name: &str, package: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{name} is missing ({error}): apt-get install {package}"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_default_images_run() {
    let folder = tempfile::tempdir().unwrap();
    let images = images("", folder.path(), None).unwrap();
    assert_eq!(images.keys().collect::<Vec<_>>(), ["busybox", "consul", "haproxy", "swarm"]);
    let engine = seeded(&images, folder.path());
    let shell = |image: &str, script: &str| run(&engine, &["--entrypoint", "/bin/busybox", image, "sh", "-c", script]);

    // As its users call it.
    assert_eq!(run(&engine, &["hcl/busybox:1.37", "sh", "-c", "uname -m >/dev/null && echo $((6 * 7))"]), "42\n");
    let listed = run(&engine, &["hcl/busybox:1.37", "busybox", "--list"]);
    let laid = shell("hcl/busybox:1.37", "cd /usr/bin; for name in *; do [ -L $name ] && echo $name; done; :");
    let sorted = |text: &str| {
        let mut names: Vec<String> = text.lines().filter(|name| *name != "busybox").map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&laid), sorted(&listed), "a link for every program that it says it is");
    assert_eq!(shell("hcl/busybox:1.37", "id -un; stat -c %a /tmp"), "root\n1777\n");

    let consul = run(&engine, &["hcl/consul:1.8.7", "version"]);
    assert!(consul.starts_with("Consul v1.8.7"), "{consul}");
    let haproxy = run(&engine, &["hcl/haproxy:3.0", "-vv"]);
    assert!(haproxy.starts_with("HAProxy version 3.0."), "{haproxy}");
    // Its own configuration: user, folders and libraries are there.
    run(&engine, &["hcl/haproxy:3.0", "-c", "-f", "/etc/haproxy/haproxy.cfg"]);
    // Nothing but a program, where hcl-cluster calls it.
    let swarm = run(&engine, &["--read-only", "--cap-drop", "ALL", "--entrypoint", "/hcl-swarm", "hcl/swarm:0.1.0", "--version"]);
    assert!(swarm.contains(env!("CARGO_PKG_VERSION")), "{swarm}");
}

#[test]
fn a_static_program_is_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, saved::busybox()).unwrap();
    let text = format!(
        "{NONE}[images.hello]\nreference = \"lab/hello:1\"\nbinary = {{ path = {program:?}, install = \"/bin/tools/busybox\" }}\ncmd = [\"echo\", \"hello\"]\n"
    );
    let images = images(&text, folder.path(), Some(folder.path().join("cache"))).unwrap();
    let engine = seeded(&images, folder.path());
    assert_eq!(run(&engine, &["lab/hello:1"]), "hello\n");
    assert_eq!(run(&engine, &["lab/hello:1", "ls", "/bin"]), "tools\n");

    // What would not start is refused.
    let refused = |program: &str| {
        let text =
            format!("{NONE}[images.hello]\nreference = \"lab/hello:1\"\nbinary = {{ path = {program:?}, install = \"/x\" }}\n");
        let error = self::images(&text, folder.path(), Some(folder.path().join("cache"))).unwrap_err();
        hcl_image::error::one_line(&error)
    };
    let own = std::env::current_exe().unwrap();
    let message = refused(own.to_str().unwrap());
    assert!(message.starts_with("container image hello (lab/hello:1): it is a program for "), "{message}");
    assert_eq!(refused("/etc/passwd"), "container image hello (lab/hello:1): it is no program (ELF)");
}
