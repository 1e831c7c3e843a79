//! Archives that a real `docker save` and a real skopeo have written.

use std::{fs, io::Read, path::Path, sync::OnceLock};

use hcl_image::{error::one_line, oci::ContainerImage};

use crate::{NONE, images, run, seeded, tool};

/// What an image of the default manifest called `name` is.
fn default_image(name: &str) -> ContainerImage {
    let folder = tempfile::tempdir().unwrap();
    images("images.consul.omit = true\nimages.haproxy.omit = true\nimages.swarm.omit = true\n", folder.path(), None)
        .unwrap()
        .remove(name)
        .unwrap()
}

/// The busybox of the default manifest: a static program for the userland.
pub fn busybox() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut archive = tar::Archive::new(default_image("busybox").layers[0].open().unwrap());
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut entry = entries.find(|entry| entry.path().unwrap() == Path::new("usr/bin/busybox")).unwrap();
        let mut program = Vec::new();
        entry.read_to_end(&mut program).unwrap();
        program
    })
}

fn manifest(archive: &Path, more: &str) -> String {
    format!("{NONE}[images.mine]\nreference = \"lab/mine:9\"\narchive = {{ path = {archive:?}{more} }}\n")
}

#[test]
fn what_docker_and_skopeo_save_comes_back_with_the_same_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    fs::create_dir(path("one")).unwrap();
    let engine = seeded(&[("busybox".to_owned(), default_image("busybox"))].into(), &path("one"));
    // A second layer, a third and a configuration of the engine's own making.
    for (from, to, script) in [
        ("hcl/busybox:1.37", "lab/two:1", "echo two >/two; rm /etc/nsswitch.conf"),
        ("lab/two:1", "lab/three:1", "echo three >/three"),
    ] {
        engine.docker(&["run", "--network", "host", "--name", "work", from, "sh", "-c", script]);
        engine.docker(&["commit", "--change", "CMD [\"cat\", \"/two\"]", "work", to]);
        engine.docker(&["rm", "work"]);
    }
    engine.docker(&["save", "-o", &text("three.tar"), "lab/three:1"]);
    engine.docker(&["save", "-o", &text("both.tar"), "lab/two:1", "lab/three:1"]);
    fs::write(path("three.tar.gz"), tool("gzip", "gzip", &["--stdout", &text("three.tar")])).unwrap();
    fs::write(path("three.tar.xz"), tool("xz", "xz-utils", &["--stdout", "-0", &text("three.tar")])).unwrap();
    let id = |name: &str| engine.docker(&["image", "inspect", "--format", "{{.Id}}", name]).trim().to_owned();
    let mine = |text: &str| Ok::<_, anyhow::Error>(images(text, folder.path(), Some(path("cache")))?.remove("mine").unwrap());

    for (archive, more, name, layers) in [
        ("three.tar", "", "lab/three:1", 3),
        ("three.tar.gz", "", "lab/three:1", 3),
        ("three.tar.xz", "", "lab/three:1", 3),
        ("both.tar", ", image = \"lab/two:1\"", "lab/two:1", 2),
        ("both.tar", ", image = \"lab/three:1\"", "lab/three:1", 3),
    ] {
        let image = mine(&manifest(&path(archive), more)).unwrap();
        assert_eq!((format!("sha256:{}", image.id()), image.layers.len()), (id(name), layers), "{archive}{more}");
    }
    let error = one_line(&mine(&manifest(&path("both.tar"), "")).unwrap_err());
    let there = "lab/three:1, lab/two:1";
    assert!(error.ends_with(&format!("there are several images in it, say which in `image`: {there}")), "{error}");
    let error = one_line(&mine(&manifest(&path("both.tar"), ", image = \"x:1\"")).unwrap_err());
    assert!(error.ends_with(&format!("there is no image `x:1` in it, only: {there}")), "{error}");

    // An OCI layout, whose layers are compressed; its configuration is skopeo's.
    let layout = text("layout.tar");
    tool(
        "skopeo",
        "skopeo",
        &["copy", "--quiet", &format!("docker-archive:{}", text("three.tar")), &format!("oci-archive:{layout}:mine")],
    );
    let image = mine(&manifest(Path::new(&layout), "")).unwrap();
    let saved = mine(&manifest(&path("three.tar"), "")).unwrap();
    let ids = |image: &ContainerImage| image.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>();
    assert_eq!(ids(&image), ids(&saved));
    let listed = tool("skopeo", "skopeo", &["inspect", "--raw", &format!("oci-archive:{layout}")]);
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed["config"]["digest"], format!("sha256:{}", image.id()));

    // With something of the manifest's own over it.
    let own = "files = [{ path = \"/four\", content = \"four\\n\" }]\ncmd = [\"cat\", \"/two\", \"/three\", \"/four\"]\nuser = \"nobody\"\n";
    let changed = mine(&(manifest(&path("three.tar"), "") + own)).unwrap();
    assert_eq!(changed.layers[..3], saved.layers[..]);
    fs::create_dir(path("two")).unwrap();
    let other = seeded(
        &[
            ("saved".to_owned(), saved),
            ("changed".to_owned(), ContainerImage { reference: "lab/changed:1".to_owned(), ..changed }),
        ]
        .into(),
        &path("two"),
    );
    assert_eq!(run(&other, &["lab/mine:9"]), "two\n");
    assert_eq!(run(&other, &["lab/changed:1"]), "two\nthree\nfour\n");
    assert_eq!(run(&other, &["lab/changed:1", "id", "-un"]), "nobody\n");
    assert!(
        other.try_docker(&["run", "--rm", "--network", "host", "lab/mine:9", "ls", "/etc/nsswitch.conf"]).is_err(),
        "removed by a layer"
    );
}

#[test]
fn archives_that_are_not_whole_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, members: &[(&str, &[u8])]| {
        let path = folder.path().join(name);
        let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, *content).unwrap();
        }
        archive.finish().unwrap();
        let error = images(&manifest(&path, ""), folder.path(), Some(folder.path().join("cache"))).unwrap_err();
        one_line(&error).strip_prefix("container image mine (lab/mine:9): ").unwrap().to_owned()
    };
    let layer = [0; 1024];
    let config = |architecture: &str, layer: &[u8]| {
        let diff_id = hcl_image::units::Digest::of(layer);
        format!(
            "{{\"os\":\"linux\",\"architecture\":\"{architecture}\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{diff_id}\"]}}}}"
        )
    };
    let named = |config: &str| format!("{}.json", hcl_image::units::Digest::of(config.as_bytes()));
    let index = |config: &str| format!("[{{\"Config\":\"{config}\",\"RepoTags\":[\"a:1\"],\"Layers\":[\"l\"]}}]");
    let arm = config("arm", &layer);
    let amd64 = config("amd64", &layer);

    assert_eq!(refused("a", &[("x", b"y")]), "it has neither manifest.json nor index.json: it is no saved image");
    assert_eq!(refused("b", &[("manifest.json", b"[]")]), "there is no image in it");
    let message = refused("c", &[("manifest.json", index("c.json").as_bytes())]);
    assert_eq!(message, "the archive has no c.json: it is not whole");
    let message = refused("d", &[("manifest.json", index(&named("other")).as_bytes()), (&named("other"), arm.as_bytes())]);
    assert!(message.contains(" is damaged: its SHA-256 is "), "{message}");
    let message =
        refused("e", &[("manifest.json", index(&named(&amd64)).as_bytes()), (&named(&amd64), amd64.as_bytes()), ("l", &layer)]);
    assert_eq!(message, "it is for linux/amd64, and the userland is linux/arm/v7");
    let message =
        refused("f", &[("manifest.json", index(&named(&arm)).as_bytes()), (&named(&arm), arm.as_bytes()), ("l", b"changed")]);
    assert!(message.starts_with("l: a layer is damaged: "), "{message}");
    let message = refused("g", &[("manifest.json", index(&named(&arm)).as_bytes()), (&named(&arm), arm.as_bytes())]);
    assert_eq!(message, "the archive has no l: it is not whole");
}
