//! The shipped manifests, the schema and the documentation against the code that reads them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hcl_image::{
    error::UsageError,
    manifest::{Arch, Base, Board, Manifest, schema},
};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn shipped() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(project().join("manifests"))
        .expect("manifests/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    all.sort();
    assert!(all.len() >= 2, "{all:?}");
    all
}

/// The schema as a foreign validator sees it.
struct Validator {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let mut schemas = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("https://hcl.invalid/manifest", schema::json().to_value()).expect("a resource");
        let index = compiler.compile("https://hcl.invalid/manifest", &mut schemas).expect("the schema is a schema");
        Self { schemas, index }
    }

    fn check(&self, manifest: &serde_json::Value) -> Result<(), String> {
        self.schemas.validate(manifest, self.index).map_err(|error| error.to_string())
    }
}

fn as_json(toml: &str) -> serde_json::Value {
    toml::from_str(toml).expect("TOML")
}

#[test]
fn shipped_manifests_are_right_for_reader_and_schema() {
    let validator = Validator::new();
    for path in shipped() {
        let manifest = Manifest::load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(manifest.name.as_str(), path.file_stem().unwrap().to_str().unwrap());
        assert!(!manifest.boards.is_empty());
        let text = fs::read_to_string(&path).unwrap();
        validator.check(&as_json(&text)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn the_default_is_what_the_readme_promises() {
    let manifest = Manifest::load(&project().join("manifests/debian-trixie-armhf.toml"), &[]).unwrap();
    let Base::Bootstrap(base) = &manifest.base else { panic!("{:?}", manifest.base) };
    assert_eq!((base.architecture, base.kernel_architecture()), (Arch::Armhf, Arch::Arm64));
    assert_eq!(base.architectures(), [Arch::Armhf, Arch::Arm64]);
    assert!(base.mirror.is_none(), "the host's own mirror");
    for board in [Board::Pi3, Board::Pi4, Board::Zero2W] {
        assert!(manifest.boards.contains(&board), "{board}");
    }
    assert_eq!(manifest.cluster().as_str(), "lab");
    // The tag says which version is in it.
    let swarm = manifest.images.iter().find(|(name, _)| name.as_str() == "swarm").map(|(_, image)| image.reference.as_str());
    assert_eq!(swarm, Some(concat!("hcl/swarm:", env!("CARGO_PKG_VERSION"))));
    assert!(manifest.user.ssh_keys.is_empty() && manifest.user.password_hash.is_none(), "no default way in");
    assert_eq!(manifest.warnings().len(), 2, "{:?}", manifest.warnings());
    assert!(manifest.warnings()[0].starts_with("Pi 3 A+ has no Ethernet: it needs a USB adapter"), "{:?}", manifest.warnings());

    let pi2 = Manifest::load(&project().join("manifests/debian-trixie-armhf-pi2.toml"), &[]).unwrap();
    let Base::Bootstrap(other) = &pi2.base else { panic!("{:?}", pi2.base) };
    assert_eq!((pi2.boards.as_slice(), other.kernel_architecture()), (&[Board::Pi2][..], Arch::Armhf));
    assert_eq!(other.packages, base.packages, "all but the kernel is inherited");
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let validator = Validator::new();
    for (toml, right) in [
        ("boards = [\"pi4\"]", true),
        ("bords = [\"pi4\"]", false),
        ("boards = [\"pi9\"]", false),
        ("[node]\nvlan = 4095", false),
        ("[node]\nvlna = 200", false),
        ("[node]\nhostname = \"master\"", false),
        ("[base.download]\nurl = \"ftp://x/y\"", false),
        ("[base.download]\nsha256 = \"abc\"", false),
        ("[user]\npassword_hash = \"secret\"", false),
        ("[user]\nssh_keys = [{ file = \"a.pub\" }]", true),
        ("[user]\nssh_keys = [{ fil = \"a.pub\" }]", false),
        ("[output]\nboot_size = \"512M\"", true),
        ("[output]\nboot_size = \"lots\"", false),
        ("[[files]]\npath = \"/etc/x\"\nmode = \"0644\"", true),
        ("[[files]]\npath = \"etc/x\"", false),
        ("[[files]]\npath = \"/etc/x\"\nmode = 644", false),
    ] {
        let verdict = validator.check(&as_json(toml));
        assert_eq!(verdict.is_ok(), right, "{toml}: {verdict:?}");
    }
}

#[test]
fn the_documentation_is_in_step() {
    let path = project().join("docs/manifest.md");
    let right = schema::markdown();
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == right, "docs/manifest.md is out of step: run `hcl-image schema --markdown > docs/manifest.md`");
}

#[test]
fn what_is_rendered_reads_back_as_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for path in shipped() {
        let manifest = Manifest::load(&path, &["packages=[\"vim\"]".into(), "output.boot_size=300M".into()]).unwrap();
        let text = manifest.render();
        assert_eq!(text, manifest.render(), "stable");
        let again = dir.path().join(path.file_name().unwrap());
        let beside = path.parent().unwrap();
        // Overlays are named relative to the manifest; read from its folder they are the same ones.
        fs::write(&again, text.replace("\"../", &format!("\"{}/../", beside.display()))).unwrap();
        let back = Manifest::load(&again, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(back.render().replace(&format!("{}/../", beside.display()), "../"), text);
    }
}

#[test]
fn the_command_prints_schema_and_page() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_hcl-image")).args(args).output().expect("hcl-image runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let schema: serde_json::Value = serde_json::from_str(&run(&["schema"])).expect("JSON");
    assert!(schema["properties"]["boards"].is_object());
    assert!(run(&["schema", "--markdown"]).starts_with("# The manifest\n"));
}

#[test]
fn shipped_manifests_load_from_anywhere() {
    // Only the test's own process would change its folder, so look from a relative path that leads out and back.
    let path = PathBuf::from("../manifests/debian-trixie-armhf-pi2.toml");
    assert!(Manifest::load(&path, &[]).is_ok());
    let error = Manifest::load(Path::new("../manifests/debian-trixi-armhf.toml"), &[]).unwrap_err();
    assert!(error.is::<UsageError>());
    assert_eq!(
        error.to_string(),
        "../manifests/debian-trixi-armhf.toml: no such manifest; did you mean `../manifests/debian-trixie-armhf.toml`?"
    );
}
