//! `hcl-image key` on finished images: foreign readers find the key where it belongs, and nobody finds it anywhere else.

#[path = "common/fixture.rs"]
mod fixture;
#[path = "common/judges.rs"]
mod judges;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fixture::{CLUSTER_KEY, Fixture, Item, run, table};
use hcl_image::{
    image::{
        disk::{Disk, Tree},
        output::Output as Image,
    },
    progress::{Mode, Reporter},
};
use tempfile::TempDir;

const KEY_PATH: &str = "/etc/hcl/cluster.key";

/// A folder with an image and a folder of keys.
struct Desk {
    folder: TempDir,
    image: PathBuf,
}

impl Desk {
    fn new(fixture: &Fixture) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = fixture.build(folder.path(), "card");
        fs::set_permissions(&image, Permissions::from_mode(0o644)).unwrap();
        Self { folder, image }
    }

    /// The image of somebody who shares it: without a key, and nobody can log in.
    fn shared() -> Self {
        let mut fixture = Fixture::new();
        fixture.root.remove(KEY_PATH);
        fixture.root.remove("/home/pi/.ssh/authorized_keys");
        fixture.folder("/home/pi");
        fixture.file("/usr/share/hcl/image.json", "{\"name\": \"fixture\", \"cluster\": \"kitchen\"}\n");
        Self::new(&fixture)
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// The key of a cluster, as its file has it.
    fn key(&self, cluster: &str) -> String {
        fs::read_to_string(self.keys().join(cluster).join("cluster.key")).unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hcl-image"));
        command.args(arguments).stdin(Stdio::null()).env("HOME", self.folder.path()).env_remove("XDG_CONFIG_HOME");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.start(arguments).output().unwrap()
    }

    fn lay(&self, more: &[&str]) -> Output {
        let (image, keys) = (self.image.to_str().unwrap(), self.keys());
        self.run(&[&["key", image, "--keys", keys.to_str().unwrap()], more].concat())
    }

    fn root_file(&self, path: &str) -> Vec<u8> {
        Disk::open(&self.image, &Reporter::new(Mode::Quiet)).unwrap().root().unwrap().unwrap().read(path).unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn done(output: Output) -> String {
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    text
}

/// Refused with this exit code, in one line behind those of the progress.
fn refused(output: Output, code: i32) -> String {
    let text = text(&output);
    let said: Vec<&str> = text.lines().filter(|line| line.starts_with("hcl-image: ")).collect();
    assert_eq!((output.status.code(), said.len()), (Some(code), 1), "{text}");
    assert!(text.ends_with(&format!("{}\n", said[0])), "{text}");
    said[0].to_owned()
}

/// Every form in which a key would be one: bytes, digits of either case, Base64 of both.
fn forms(key_file: &str) -> Vec<Vec<u8>> {
    let digits = key_file.trim_end();
    let bytes = hex::decode(digits).unwrap();
    let encoded = |bytes: &[u8]| STANDARD.encode(bytes).trim_end_matches('=').as_bytes().to_vec();
    // Within other bytes Base64 begins at any of three places: what then does not depend on the neighbours.
    let within = (1..3).map(|skip| encoded(&bytes[skip..30 + skip]));
    let mut forms = vec![digits.as_bytes().to_vec(), digits.to_uppercase().into_bytes(), encoded(digits.as_bytes())];
    forms.extend(within);
    forms.extend([encoded(&bytes), bytes]);
    forms
}

fn holds(haystack: &[u8], key_file: &str) -> bool {
    forms(key_file).iter().any(|form| haystack.windows(form.len()).any(|window| window == form))
}

#[test]
fn an_image_to_share_becomes_mine() {
    let desk = Desk::shared();
    let said = done(desk.lay(&[]));
    for words in ["kitchen, id ", "new, kept in", "login", "pi, with a new key pair"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    judges::all(&desk.image).unwrap();
    let key = judges::debugfs(&desk.image, 2, KEY_PATH).unwrap();
    assert_eq!((key.kind.as_str(), key.mode, key.owner), ("regular", 0o600, (0, 0)));
    assert_eq!(desk.root_file(KEY_PATH), desk.key("kitchen").into_bytes());
    assert_eq!(fs::metadata(&desk.image).unwrap().permissions().mode() & 0o777, 0o600, "it holds a secret now");

    let login = judges::debugfs(&desk.image, 2, "/home/pi/.ssh/authorized_keys").unwrap();
    assert_eq!((login.mode, login.owner), (0o600, (1000, 1000)));
    assert_eq!(judges::debugfs(&desk.image, 2, "/home/pi/.ssh").unwrap().mode, 0o700);
    let public = fs::read(desk.keys().join("kitchen/id_ed25519.pub")).unwrap();
    assert_eq!(desk.root_file("/home/pi/.ssh/authorized_keys"), public);
    done(desk.run(&["check", desk.image.to_str().unwrap()]));
}

#[test]
fn before_it_has_a_key_check_says_what_to_do() {
    let desk = Desk::shared();
    let said = text(&desk.run(&["check", desk.image.to_str().unwrap()]));
    assert!(said.contains("[FAIL] node.key") && said.contains("`hcl-image key`"), "{said}");
}

#[test]
fn another_key_takes_the_place_of_the_old_one() {
    let desk = Desk::new(&Fixture::new());
    assert!(holds(&fs::read(&desk.image).unwrap(), CLUSTER_KEY), "the search finds what is there");
    let said = done(desk.lay(&["--cluster", "attic"]));
    assert!(said.contains("which was overwritten") && !said.contains("login"), "{said}");
    judges::all(&desk.image).unwrap();
    assert_eq!(desk.root_file(KEY_PATH), desk.key("attic").into_bytes());
    let bytes = fs::read(&desk.image).unwrap();
    assert!(!holds(&bytes, CLUSTER_KEY), "the old key lies in a free block or the journal");
    assert!(holds(&bytes, &desk.key("attic")));

    // The same once more: the same bytes.
    assert!(done(desk.lay(&["--cluster", "attic"])).contains("It was there before."));
    judges::all(&desk.image).unwrap();
    assert!(fs::read(&desk.image).unwrap() == bytes);
}

#[test]
fn checksum_and_block_map_are_those_of_the_new_bytes() {
    let desk = Desk::new(&Fixture::new());
    // As a build leaves them.
    let target = desk.folder.path().join("built.img");
    let output = Image::create(&target).unwrap();
    fs::copy(&desk.image, output.path()).unwrap();
    output.finish(&[], &Reporter::new(Mode::Quiet)).unwrap();
    let desk = Desk { image: target, ..desk };
    let sum = || Command::new("sha256sum").args(["-c", "built.img.sha256"]).current_dir(desk.folder.path()).output().unwrap();
    let map = || fs::read_to_string(desk.folder.path().join("built.img.bmap")).unwrap();
    let before = map();
    assert!(sum().status.success());
    done(desk.lay(&["--cluster", "attic"]));
    assert!(sum().status.success(), "{}", text(&sum()));
    assert_ne!(map(), before, "the block map has the digests of the old bytes");
    // bmaptool compares each range with its digest.
    let copy = desk.folder.path().join("copy.img");
    run("bmaptool", "bmap-tools", &["copy", desk.image.to_str().unwrap(), copy.to_str().unwrap()]);
    assert!(fs::read(copy).unwrap() == fs::read(&desk.image).unwrap());
}

/// What says nothing of a key: all that the program prints, all files beside the image, the boot partition, other processes.
#[test]
fn the_key_is_told_nowhere() {
    let desk = Desk::shared();
    let image = desk.image.to_str().unwrap().to_owned();
    let keys = desk.keys();
    let keys = keys.to_str().unwrap();
    let mut told = Vec::new();
    for mode in ["", "--json", "--quiet"] {
        let mut tell = |arguments: &[&str]| {
            let arguments: Vec<&str> =
                [mode].into_iter().filter(|mode| !mode.is_empty()).chain(arguments.iter().copied()).collect();
            told.push((arguments.join(" "), watched(desk.start(&arguments)).into_bytes()));
        };
        tell(&["key", &image, "--keys", keys]);
        tell(&["key", &image, "--keys", keys, "--cluster", "attic"]);
        for command in ["inspect", "check", "why"] {
            tell(&[command, &image]);
        }
        for path in ["/etc/hcl", "/etc/hcl/node.toml", "/usr/share/hcl/image.json", KEY_PATH, "root:/etc/../etc/hcl/cluster.key"]
        {
            tell(&["inspect", &image, path]);
        }
        // A key file that is none: its content is a secret all the same.
        let spoilt = Path::new(keys).join("attic/cluster.key");
        let right = fs::read_to_string(&spoilt).unwrap();
        fs::write(&spoilt, format!(" {right}")).unwrap();
        tell(&["key", &image, "--keys", keys, "--cluster", "attic"]);
        fs::write(&spoilt, right).unwrap();
    }
    assert!(told.iter().all(|(_, said)| !said.starts_with(b"thread")), "a panic");
    let refusal = told.iter().find(|(what, _)| what.ends_with(KEY_PATH)).map(|(_, said)| String::from_utf8_lossy(said)).unwrap();
    assert!(refusal.contains("is never shown"), "{refusal}");
    for entry in fs::read_dir(desk.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path != desk.image {
            told.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    let bytes = fs::read(&desk.image).unwrap();
    let boot = table(&desk.image).partition(1).unwrap().clone();
    let boot = boot.offset() as usize..boot.offset() as usize + boot.size.bytes().0 as usize;
    told.push(("the boot partition".to_owned(), bytes[boot].to_vec()));

    for cluster in ["kitchen", "attic"] {
        let key = desk.key(cluster);
        for before in ["", "x", "xy"] {
            let bytes = [before.as_bytes(), &hex::decode(key.trim_end()).unwrap()].concat();
            assert!(holds(&bytes, &key) && holds(STANDARD.encode(bytes).as_bytes(), &key), "the search finds it");
        }
        for (what, said) in &told {
            assert!(!holds(said, &key), "{what} tells the key of {cluster}");
        }
    }
    assert!(holds(&bytes, &desk.key("attic")), "and the image has it");
}

/// Runs a command; what it said, and all that the process list and its environment showed meanwhile.
fn watched(mut command: Command) -> String {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let of_child = |file: &str| fs::read(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
    // It starts no other program, and gets the key by the name of its folder only.
    let shown = [of_child("cmdline"), of_child("environ")].concat();
    let output = child.wait_with_output().unwrap();
    text(&output) + &String::from_utf8_lossy(&shown)
}

#[test]
fn what_is_refused_stays_as_it_was() {
    let desk = Desk::new(&Fixture::new());
    let before = fs::read(&desk.image).unwrap();
    let said = refused(desk.lay(&[]), 2);
    assert!(said.contains("--cluster NAME"), "{said}");
    assert!(fs::read(&desk.image).unwrap() == before);

    // A card that lost its power: it was never closed.
    let at = format!("{}?offset={}", desk.image.display(), table(&desk.image).partition(2).unwrap().offset());
    run("debugfs", "e2fsprogs", &["-w", "-R", "set_super_value state 0", &at]);
    let before = fs::read(&desk.image).unwrap();
    let said = refused(desk.lay(&["--cluster", "attic"]), 2);
    assert!(said.contains("was not shut down"), "{said}");
    assert!(fs::read(&desk.image).unwrap() == before);

    let packed = desk.folder.path().join("card.img.zst");
    fs::write(&packed, zstd::encode_all(&before[..1 << 20], 1).unwrap()).unwrap();
    let desk = Desk { image: packed, ..desk };
    assert!(refused(desk.lay(&["--cluster", "attic"]), 2).contains("zstd -dk"));
    let desk = Desk { image: desk.folder.path().to_owned(), ..desk };
    assert!(refused(desk.lay(&["--cluster", "attic"]), 2).contains("neither a file nor a card"));

    let mut stranger = Fixture::new();
    stranger.root.retain(|path, _| !path.contains("hcl-firstboot"));
    assert!(matches!(stranger.root.get(KEY_PATH), Some(Item::File(0o600, _))));
    let desk = Desk::new(&stranger);
    assert!(refused(desk.lay(&["--cluster", "attic"]), 2).contains("has no node program"));
}
