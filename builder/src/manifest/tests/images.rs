use super::{Folder, GOOD};
use crate::manifest::{OciSettings, OciSource};

const DIGEST: &str = "1111111111111111111111111111111111111111111111111111111111111111";

/// [`GOOD`] and more.
fn with(more: &str) -> String {
    format!("{GOOD}\n{more}")
}

fn error_of(more: &str) -> String {
    Folder::new(&[("a.toml", &with(more)), ("a.tar", "")]).error("a.toml", &[])
}

const CONSUL: &str =
    "[images.consul]\nreference = \"hcl/consul:1\"\nentrypoint = [\"/consul\"]\ndebian = { packages = [\"consul\"] }";

#[test]
fn what_is_not_said_is_as_for_the_base() {
    let manifest = Folder::new(&[("a.toml", &with(CONSUL))]).load("a.toml", &[]).unwrap();
    let image = manifest.images.values().next().unwrap();
    let OciSource::Debian(debian) = &image.source else { panic!("{image:?}") };
    assert_eq!(format!("{:?}", debian.suites), "[\"trixie\", \"stable\"]");
    assert_eq!(format!("{:?}", debian.components), "[\"main\"]");
    assert_eq!(image.settings.entrypoint, Some(vec!["/consul".to_owned()]));
}

#[test]
fn another_source_replaces_the_whole_table() {
    let upper = format!(
        "include = \"base.toml\"\n[images.consul]\nreference = \"hcl/consul:2\"\narchive = {{ path = \"a.tar\", sha256 = \"{DIGEST}\" }}"
    );
    let folder = Folder::new(&[
        ("base.toml", &with(CONSUL)),
        ("a.toml", &upper),
        ("same.toml", "include = \"base.toml\"\n[images.consul]\ncmd = [\"agent\"]"),
        ("omit.toml", "include = \"base.toml\"\n[images.consul]\nomit = true"),
        ("alone.toml", "include = \"base.toml\"\n[images.consul]\narchive = { path = \"a.tar\" }"),
        ("a.tar", ""),
    ]);
    let consul = |name: &str| folder.load(name, &[]).unwrap().images.into_values().next();
    let replaced = consul("a.toml").unwrap();
    assert!(matches!(replaced.source, OciSource::Archive(_)), "{replaced:?}");
    assert_eq!((replaced.reference.as_str(), replaced.settings), ("hcl/consul:2", OciSettings::default()));
    let merged = consul("same.toml").unwrap();
    assert!(matches!(merged.source, OciSource::Debian(_)), "{merged:?}");
    assert_eq!(merged.settings.entrypoint.as_deref(), Some(&["/consul".to_owned()][..]));
    assert_eq!(consul("omit.toml"), None);
    let alone = folder.error("alone.toml", &[]);
    assert!(
        alone.ends_with("`images.consul`: `reference` is missing: name and tag in the engine, such as `hcl/consul:1.8.7`"),
        "{alone}"
    );
    // And so from the command line.
    let set = "images.consul={reference=\"hcl/consul:3\",archive={path=\"/dev/null\"}}";
    let error = folder.error("base.toml", &[set]);
    assert!(error.ends_with("`images.consul.archive.path`: /dev/null is no file"), "{error}");
}

#[test]
fn what_is_wrong_with_an_image() {
    for (more, message) in [
        (
            "[images.x]\nreference = \"a:1\"",
            "`images.x`: its source is missing: one of `debian`, `binary`, `archive` and `registry`",
        ),
        (
            "[images.x]\nreference = \"a:1\"\ndebian = { packages = [\"aa\"] }\narchive = { path = \"a.tar\" }",
            "`images.x`: it comes from one source only: one of `debian`, `binary`, `archive` and `registry`",
        ),
        ("[images.x]\nreference = \"a:1\"\ndebian = {}", "`images.x.debian.packages`: name at least one package"),
        (
            "[images.x]\nreference = \"a:1\"\ndebian = { packages = [\"aa:arm64\"] }",
            "`images.x.debian`: aa:arm64: a container image has one architecture, that of the userland",
        ),
        (
            "[images.x]\nreference = \"a:1\"\nbinary = { path = \"a.tar\" }",
            "`images.x.binary`: `install` is missing: where the program lies in the image, such as `/hello`",
        ),
        (
            "[images.x]\nreference = \"a:1\"\nbinary = { program = \"hcl-swarm\", path = \"a.tar\", install = \"/a\" }",
            "`images.x.binary`: `program` names hcl-swarm, so that no other file is named: leave out one of the two",
        ),
        (
            "[images.x]\nreference = \"a:1\"\narchive = { url = \"http://a/b\" }",
            "`images.x.archive`: `sha256` is missing: what comes from the web is only taken when its digest is known",
        ),
        (
            "[images.x]\nreference = \"a:1\"\nregistry = { image = \"a.example/b:1\" }",
            "`images.x.registry.image`: `a.example/b:1` is no image in a registry: name it by its digest, `HOST/NAME@sha256:…`: a tag can change",
        ),
        (
            "[images.x]\nreference = \"a:1\"\narchive = { path = \"a.tar\" }\nfiles = [{ path = \"/a\", mode = \"0600\" }]",
            "`images.x.files[0]`: /a needs a content, a source, a target, …",
        ),
        (
            "[images.x]\nreference = \"a:1\"\narchive = { path = \"a.tar\" }\nenv = { \"A=B\" = \"c\" }",
            "`images.x.env`: `A=B` is no name of a variable",
        ),
        (
            "[engine]\nkind = \"none\"\n[images.x]\nreference = \"a:1\"\narchive = { path = \"a.tar\" }",
            "`images.x`: there is no engine to run it: say `omit = true`, or name an engine",
        ),
        (
            "[images.x]\nreference = \"a:1\"\narchive = { path = \"a.tar\" }\n[images.y]\nreference = \"a:1\"\narchive = { path = \"a.tar\" }",
            "`images.y.reference`: `images.x` is called a:1 too",
        ),
        (
            "[images.X]\nreference = \"a:1\"",
            "`images.X`: `X` cannot be the name of a container image: only lower-case letters, digits and `-`, no `-` in front",
        ),
        (
            "[images.x]\nreference = \"a\"",
            "`images.x.reference`: `a` is no image reference: write name and tag, such as `hcl/consul:1.8.7`",
        ),
    ] {
        let error = error_of(more);
        assert!(error.lines().any(|line| line.ends_with(message)), "{more}\n{error}");
    }
}
