mod images;

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::error::{UsageError, exit_code};

/// What the tests start from: complete, small, right.
const GOOD: &str = r#"
boards = ["pi3", "pi4"]
[base.bootstrap]
suites = ["trixie", "stable"]
packages = ["systemd"]
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn load(&self, name: &str, sets: &[&str]) -> anyhow::Result<Manifest> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        Manifest::load(&self.0.path().join(name), &sets)
    }

    /// The message with the folder taken out, so that it reads as if run from there.
    fn error(&self, name: &str, sets: &[&str]) -> String {
        let error = self.load(name, sets).expect_err("must be refused");
        assert!(error.is::<UsageError>(), "{error}");
        assert_eq!(format!("{:?}", exit_code(&error)), format!("{:?}", std::process::ExitCode::from(2)));
        error.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn error_of(text: &str) -> String {
    Folder::new(&[("a.toml", text), ("dir/x", ""), ("key.pub", "no key"), ("base.toml", GOOD)]).error("a.toml", &[])
}

#[test]
fn defaults() {
    let manifest = Folder::new(&[("tiny.toml", GOOD)]).load("tiny.toml", &[]).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.user.name.as_str()), ("tiny", "hcl"));
    assert_eq!(manifest.node, NodeConfig::default());
    assert_eq!((&manifest.engine, &manifest.output), (&Engine::default(), &Output::default()));
    assert!(manifest.user.sudo && manifest.user.password_hash.is_none() && manifest.user.ssh_keys.is_empty());
    let Base::Bootstrap(base) = manifest.base else { panic!("{:?}", manifest.base) };
    assert_eq!((base.architecture, base.kernel.to_string().as_str()), (Arch::Armhf, "linux-image-arm64:arm64"));
    assert_eq!(base.components.len(), 2);
}

#[test]
fn one_error_in_one_file() {
    for (text, expected) in [
        ("bords = [\"pi3\"]", "a.toml:5:1: unknown key `bords`: did you mean `boards`?"),
        ("[node]\nvlna = 3", "a.toml:6:1: unknown key `node.vlna`: did you mean `node.vlan`?"),
        (
            "[engine]\nzzz = 3",
            "a.toml:6:1: unknown key `engine.zzz`: here go `kind`, `packages`, `preload`, `log_size`, `log_files`",
        ),
        ("name = 3", "a.toml:5:8: `name`: a text in quotes is expected, this is the number 3"),
        (
            "name = \"Ü\"",
            "a.toml:5:8: `name`: `Ü` cannot be an image name: only lower-case letters, digits and `-`, no `-` in front",
        ),
        ("packages = \"vim\"", "a.toml:5:12: `packages`: an array in brackets is expected, this is the text \"vim\""),
        (
            "packages = [\"vim\", \"Vim\"]",
            "a.toml:5:20: `packages[1]`: `Vim` is no package name: lower-case letters, digits, `+`, `-` and `.`, at least two characters",
        ),
        ("packages = [1979-05-27]", "a.toml:5:13: `packages[0]`: no date is expected here, put 1979-05-27 in quotes"),
        ("user = \"hcl\"", "a.toml:5:8: `user`: a table is expected, this is the text \"hcl\""),
        ("[user]\nname = \"root\"", "a.toml:6:8: `user.name`: `root` cannot be the user: name another, it gets `sudo`"),
        ("[user]\nsudo = \"yes\"", "a.toml:6:8: `user.sudo`: `true` or `false` is expected, this is the text \"yes\""),
        (
            "[user]\npassword_hash = \"hunter2\"",
            "a.toml:6:17: `user.password_hash`: this is no crypt(5) hash, and a password in plain text is never taken: run `mkpasswd` (package whois) and write what it prints",
        ),
        (
            "[user]\nssh_keys = [\"hello\"]",
            "a.toml:6:13: `user.ssh_keys[0]`: `hello` is no SSH public key: it is the line in a `.pub` file, such as `ssh-ed25519 AAAA… name`",
        ),
        (
            "[user]\nssh_keys = [\"-----BEGIN OPENSSH PRIVATE KEY-----\"]",
            "a.toml:6:13: `user.ssh_keys[0]`: this is a private key: name the public one, the file that ends in `.pub`",
        ),
        ("[user]\nssh_keys = [{ file = \"none.pub\" }]", "a.toml:6:13: `user.ssh_keys[0]`: none.pub: no such file or folder"),
        (
            "[user]\nssh_keys = [{ file = \"key.pub\" }]",
            "a.toml:6:13: `user.ssh_keys[0]`: key.pub: `no key` is no SSH public key: it is the line in a `.pub` file, such as `ssh-ed25519 AAAA… name`",
        ),
        (
            "[user]\nssh_keys = [{ fil = \"key.pub\" }]",
            "a.toml:6:15: unknown key `user.ssh_keys[0].fil`: did you mean `user.ssh_keys[0].file`?",
        ),
        (
            "[user]\nssh_keys = [7]",
            "a.toml:6:13: `user.ssh_keys[0]`: the line of a `.pub` file in quotes, or `{ file = \"PATH\" }`, is expected, this is the number 7",
        ),
        (
            "[engine]\nkind = \"dokcer\"",
            "a.toml:6:8: `engine.kind`: `dokcer` is none of `docker`, `none`; did you mean `docker`?",
        ),
        ("[engine]\nkind = false", "a.toml:6:8: `engine.kind`: a word in quotes is expected, this is `false`"),
        ("[engine]\nlog_files = 0", "a.toml:6:13: `engine.log_files`: 0 is out of range: 1 to 100"),
        (
            "[engine]\nlog_files = -1",
            "a.toml:6:13: `engine.log_files`: the number -1 is not allowed: a number from 0 to 4294967295 is expected",
        ),
        ("[output]\nboot_size = \"1M\"", "a.toml:6:13: `output.boot_size`: 1.0 MiB is out of range: 64.0 MiB to 4.0 GiB"),
        (
            "[output]\nboot_size = \"big\"",
            "a.toml:6:13: `output.boot_size`: `big` is no size: write bytes or a number with K, M, G or T (binary units), such as `512M` or `2GiB`",
        ),
        ("overlays = [\"gone\"]", "a.toml:5:13: `overlays`: gone: no such file or folder"),
        ("overlays = [\"key.pub\"]", "a.toml:5:13: `overlays`: key.pub is no folder"),
        ("[[files]]\ncontent = \"\"", "a.toml:5:1: `files[0]`: `path` is missing"),
        (
            "[[files]]\npath = \"/a\"\ncontent = \"\"\nsymlink = \"b\"",
            "a.toml:5:1: `files[0]`: /a can only be one of `content`, `source`, `symlink`, `hardlink`, `directory`, `device` and `fifo`",
        ),
        ("[[files]]\npath = \"/a\"", "a.toml:5:1: `files[0]`: says nothing about /a: give it a content, a target, a mode, …"),
        (
            "[[files]]\npath = \"/a/../b\"\nmode = \"0644\"",
            "a.toml:6:8: `files[0].path`: `/a/../b` is no path inside the image: write it without `.`, `..`, `//` and a `/` at the end",
        ),
        (
            "[[files]]\npath = \"/a\"\nmode = \"0999\"",
            "a.toml:7:8: `files[0].mode`: `0999` is no mode: write three or four octal digits, such as `0644`",
        ),
        (
            "[[files]]\npath = \"/a\"\nmode = 0o644",
            "a.toml:7:8: `files[0].mode`: a text in quotes is expected, this is the number 420",
        ),
        (
            "[[files]]\npath = \"/a\"\nxattrs = { note = \"x\" }",
            "a.toml:5:1: `files[0].xattrs`: `note` is no attribute: names begin with `user.`, `security.`, `trusted.` or `system.`",
        ),
        (
            "[[files]]\npath = \"/dev/x\"\ndevice = \"c 1\"",
            "a.toml:7:10: `files[0].device`: `c 1` is no device: write type, major and minor number, such as `c 1 3`",
        ),
        ("[output]\ncompress = \"lz4\"", "a.toml:6:12: `output.compress`: `lz4` is none of `none`, `xz`, `zstd`"),
    ] {
        let text = format!("include = \"base.toml\"\n\n\n\n{text}\n");
        assert_eq!(error_of(&text), expected, "{text}");
    }
}

#[test]
fn broken_toml_and_missing_keys() {
    for (text, expected) in [
        (
            "",
            "a.toml: `base` is missing: say where the system comes from, in `[base.bootstrap]` or `[base.download]`\na.toml: `boards` is missing: name the boards that the image is for, of `pi2`, `pi3`, `pi3plus`, `pi3a`, `zero2w`, `cm3`, `pi4`, `pi400`, `cm4`, `pi5`",
        ),
        (
            "boards = [\"pi3\"]\n[base.bootstrap]\nsuites = []",
            "a.toml:2:2: `base.bootstrap.packages` is missing: name the packages that make the system, or include a manifest that does\na.toml:3:10: `base.bootstrap.suites`: name at least one suite of the Debian archive, such as `[\"trixie\"]`",
        ),
        (
            "boards = []\n[base.download]\nurl = \"http://a/b\"",
            "a.toml:1:10: `boards`: name at least one board\na.toml:2:2: `base.download`: `sha256` is missing: what comes from the web is only taken when its digest is known",
        ),
        (
            "boards = [\"pi3\"]\n[base.download]",
            "a.toml:2:2: `base.download`: `url` is missing, or `path` for a file on this machine",
        ),
        (
            "boards = [\"pi3\"]\n[base.download]\nurl = \"http://a/b\"\npath = \"c\"",
            "a.toml:2:2: `base.download`: there is `url` and `path`: an image comes from one place only",
        ),
        (
            "boards = [\"pi3\"]\n[base.download]\nurl = \"http://a/b\"\nsha256 = \"12\"",
            "a.toml:4:10: `base.download.sha256`: `12` is no SHA-256 digest: it has 64 hexadecimal digits",
        ),
        (
            "boards = [\"pi3\"]\n[base.bootstrap]\n[base.download]",
            "a.toml:2:2: `base`: there is `base.bootstrap` and `base.download`, and a system comes from one place only",
        ),
    ] {
        assert_eq!(error_of(text), expected, "{text}");
    }
    let error = error_of("boards = [\"pi3\"\nname = \"x\"");
    assert!(error.starts_with("a.toml:2:1: not valid TOML: "), "{error}");
    let error = error_of("name = \"a\"\nname = \"b\"");
    assert!(error.starts_with("a.toml:2:1: not valid TOML: duplicate key"), "{error}");
    let error = error_of("[output]\nboot_size = 99999999999999999999");
    assert_eq!(error, "a.toml:2:13: `99999999999999999999` is too big a number");
}

#[test]
fn keys_that_disagree() {
    for (text, expected) in [
        (
            "boards = [\"pi4\", \"pi2\"]",
            "a.toml:2:18: `boards`: the Pi 2 is a 32-bit board, an arm64 kernel does not run there: leave it out, or say `base.bootstrap.kernel = \"linux-image-armmp\"`",
        ),
        (
            "boards = [\"pi5\"]\nbase.bootstrap.kernel = \"linux-image-armmp\"",
            "a.toml:2:11: `boards`: the Pi 5 has no device tree in Debian's 32-bit kernel, an armhf kernel does not run there: leave it out, or say `base.bootstrap.kernel = \"linux-image-arm64:arm64\"`",
        ),
        (
            "output.table = \"gpt\"",
            "base.toml:2:11: `boards`: the Pi 3 boots from an MBR only: leave it out, or say `output.table = \"mbr\"`",
        ),
        (
            "packages = [\"vim\"]\n[base.download]\npath = \"base.toml\"",
            "a.toml:2:12: `packages`: can be added to a `base.bootstrap` only, the base here is `base.download`",
        ),
        ("boards = [\"pi3\", \"pi3\"]", "a.toml:2:18: `boards`: `pi3` is there twice"),
    ] {
        assert_eq!(error_of(&format!("include = \"base.toml\"\n{text}")), expected, "{text}");
    }
    let error = error_of("include = \"base.toml\"\n[node]\nsubnet = \"10.0.0.0/24\"\nleader = 20");
    assert!(error.starts_with("a.toml:2:1: `node`: ") && error.contains("`leader`"), "{error}");
}

#[test]
fn all_errors_at_once_through_layers_and_options() {
    let folder = Folder::new(&[
        ("a.toml", "include = \"sub/b.toml\"\nbords = []\n[user]\nname = 3\n"),
        ("sub/b.toml", "packages = [\"A\", \"ok\", \"B\"]\n[noed]\nvlan = 3\n"),
    ]);
    assert_eq!(
        folder.error("a.toml", &["node.vlan=9999", "ndoe.vlan=1"]).lines().collect::<Vec<_>>(),
        [
            "a.toml:2:1: unknown key `bords`: did you mean `boards`?",
            "a.toml:4:8: `user.name`: a text in quotes is expected, this is the number 3",
            "sub/b.toml:1:13: `packages[0]`: `A` is no package name: lower-case letters, digits, `+`, `-` and `.`, at least two characters",
            "sub/b.toml:1:24: `packages[2]`: `B` is no package name: lower-case letters, digits, `+`, `-` and `.`, at least two characters",
            "sub/b.toml:2:2: unknown key `noed`: did you mean `node`?",
            "--set node.vlan=9999: `node.vlan`: the number 9999 is not allowed: a VLAN id from 1 to 4094, or \"off\" is expected",
            "--set ndoe.vlan=1: unknown key `ndoe`: did you mean `node`?",
        ]
    );
}

#[test]
fn layers() {
    let folder = Folder::new(&[
        ("base.toml", GOOD),
        (
            "mid/mid.toml",
            "include = [\"../base.toml\"]\npackages = [\"vim\", \"nano\"]\noverlays = [\"lay\"]\n[user]\nname = \"ada\"\n",
        ),
        ("mid/lay/etc/motd", "hello"),
        ("top.toml", "include = \"mid/mid.toml\"\npackages = [\"tmux\"]\n[user]\nsudo = false\n"),
        ("down.toml", "include = \"top.toml\"\npackages = []\n[base.download]\npath = \"base.toml\"\n"),
    ]);
    let manifest = folder.load("top.toml", &["user.name=\"eva\"", "node.subnet=10.1.0.0/24", "boards=[\"pi400\"]"]).unwrap();
    assert_eq!((manifest.user.name.as_str(), manifest.user.sudo), ("eva", false), "tables are merged, --set is last");
    assert_eq!(manifest.packages.iter().map(ToString::to_string).collect::<Vec<_>>(), ["tmux"], "arrays are replaced");
    assert_eq!(manifest.boards, [Board::Pi400]);
    assert_eq!(manifest.node.addresses.subnet().to_string(), "10.1.0.0/24", "no quotes needed");
    let overlay = &manifest.overlays[0];
    assert_eq!((overlay.written.as_str(), overlay.path.clone()), ("lay", folder.0.path().join("mid/lay")));
    let down = folder.load("down.toml", &[]).unwrap();
    assert!(matches!(down.base, Base::Download(Download::File { .. })), "another kind of base replaces the whole");
}

#[test]
fn includes_that_go_wrong() {
    let chain: Vec<(String, String)> =
        (0..20).map(|n| (format!("c{n}.toml"), format!("include = \"c{}.toml\"", n + 1))).collect();
    let mut files: Vec<(&str, &str)> = chain.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files.extend([
        ("self.toml", "include = \"self.toml\""),
        ("a.toml", "name = \"a\"\ninclude = \"x/b.toml\""),
        ("x/b.toml", "include = \"../a.toml\""),
        ("lost.toml", "include = [\n  \"bas.toml\",\n  \"else.toml\",\n]"),
        ("base.toml", GOOD),
        ("wrong.toml", "include = [1]"),
        ("twice.toml", "include = [\"base.toml\", \"base.toml\"]"),
    ]);
    let folder = Folder::new(&files);
    for (name, sets, expected) in [
        ("self.toml", &[][..], "self.toml:1:11: `include` goes in a circle: self.toml → self.toml"),
        ("a.toml", &[], "x/b.toml:1:11: `include` goes in a circle: a.toml → b.toml → a.toml"),
        (
            "lost.toml",
            &[],
            "lost.toml:2:3: bas.toml: no such manifest; did you mean `base.toml`?\nlost.toml:3:3: else.toml: no such manifest",
        ),
        ("c0.toml", &[], "c15.toml:1:11: `include` goes more than 16 files deep"),
        ("wrong.toml", &[], "wrong.toml:1:12: `include`: the path of a manifest is expected, or an array of such"),
        ("nothing-like-it.toml", &[], "nothing-like-it.toml: no such manifest"),
        ("base.toml", &["vlan"], "--set vlan: write it as KEY=VALUE, such as `--set node.vlan=201`"),
        ("base.toml", &["=3"], "--set =3: in front of `=` stands a key of the manifest, such as `node.vlan`"),
        (
            "base.toml",
            &["include=b.toml"],
            "--set include=b.toml: `include` cannot be set: name the manifest that you mean instead",
        ),
    ] {
        assert_eq!(folder.error(name, sets), expected, "{name}");
    }
    assert!(folder.error("base.toml", &["boards=[pi3"]).starts_with("--set boards=[pi3: not valid TOML: "));
    assert!(folder.load("twice.toml", &[]).is_ok(), "the same file twice is no circle");
}

#[test]
fn secrets_are_never_shown() {
    let hash = format!("$y$j9T$F5Jx5fExrKuPp53xLKQ..1${}", "a".repeat(43));
    let folder = Folder::new(&[("a.toml", &format!("{GOOD}\n[user]\npassword_hash = \"{hash}\""))]);
    let manifest = folder.load("a.toml", &[]).unwrap();
    assert_eq!(manifest.user.password_hash.as_ref().unwrap().for_shadow(), hash);
    assert!(!format!("{manifest:?}").contains(&hash) && !manifest.render().contains(&hash));
    for secret in ["hunter2", "$1$abc$hunter2", "$y$hunter2", "$6$salt$hunter2", "hunter2$y$j9T$x$y", "a:b$y$hunter2$z"] {
        let folder = Folder::new(&[("a.toml", &format!("{GOOD}\n[user]\npassword_hash = \"{secret}\""))]);
        let error = folder.error("a.toml", &[]);
        assert!(!error.contains("hunter2") && error.contains("mkpasswd"), "{error}");
    }
    let error = Folder::new(&[("a.toml", GOOD)]).error("a.toml", &["user.password_hash=hunter2"]);
    assert!(!error.contains("hunter2"), "not from the command line either: {error}");
}

/// Each as `mkpasswd -m METHOD` of Debian 12 printed it.
#[test]
fn hashes_of_mkpasswd_are_taken() {
    for hash in [
        "$y$j9T$roLiRa78GOH8K6dyQCmTj1$PE0yCQCB/BxmhyKsFbp3h/aH.Fjfu5cTXqmACFzqM07",
        "$gy$j9T$NkVsn0JCoveIfbp46HVxc.$B2vQXKxp2TcwBmNEWJo9H1H4E41jBNbbIOconc5kFW2",
        "$7$CU..../....R.gDEejxf9GhfTNqw/vJZ0$qw2dnNFrS.S0s3bnwc3dvYmdDCwvE9eehNWgWpW8ISA",
        "$2b$05$Ba2Deg2oedC/jAbXUvxGnOS1vy96UTuzBBUrRO3Qu2eFFPFS60ySW",
        "$6$tFo0OQlVO.6tuRc5$//4IvqI6Rem5H9vuP/3aZZQN4IEb3WVPQePcf3YkKDPM5UIo9C0xMnkGEKzqJ03L5cGVWZrU7lbTj4jh5Qc8R0",
        "$6$rounds=5000$tFo0OQlVO.6tuRc5$//4IvqI6Rem5H9vuP/3aZZQN4IEb3WVPQePcf3YkKDPM5UIo9C0xMnkGEKzqJ03L5cGVWZrU7lbTj4jh5Qc8R0",
        "$5$IOY9qX1mz/7v32Dh$2Kkmbf9V4tkyMPf.d/IvuOSqTkf2wlNfDh0BCX0D2H2",
    ] {
        assert!(hash.parse::<PasswordHash>().is_ok(), "{hash}");
        assert!(hash[..hash.len() - 1].parse::<PasswordHash>().is_err(), "one character short: {hash}");
    }
    let old = "$1$Y4GvvD.P$BIzXG9T2H/cVOhkk0tF.H.".parse::<PasswordHash>().unwrap_err();
    assert!(old.to_string().starts_with("this crypt(5) hash is of an old, weak kind"), "{old}");
}

#[test]
fn files() {
    let folder = Folder::new(&[
        (
            "a.toml",
            &format!(
                "{GOOD}{}",
                r#"
            [[files]]
            path = "/etc/sudoers.d/x"
            mode = "0440"
            [[files]]
            path = "/dev/x"
            device = "c 1 3"
            [[files]]
            path = "/etc/y"
            source = "b"
            uid = 1000
            mtime = 0
            xattrs = { "security.capability" = "0x0100", "user.note" = "hello" }
            [[files]]
            path = "/etc/z"
            symlink = "../y"
        "#
            ),
        ),
        ("b", ""),
    ]);
    let manifest = folder.load("a.toml", &[]).unwrap();
    let kinds: Vec<&FileKind> = manifest.files.iter().map(|file| &file.kind).collect();
    assert_eq!(kinds[0], &FileKind::Existing);
    assert_eq!(kinds[1], &FileKind::Device(Device { block: false, major: 1, minor: 3 }));
    assert_eq!(kinds[3], &FileKind::Symlink("../y".to_owned()));
    assert_eq!(manifest.files[0].mode.unwrap().bits(), 0o440);
    let xattrs: Vec<&[u8]> = manifest.files[2].xattrs.values().map(XattrValue::bytes).collect();
    assert_eq!(xattrs, [&[1_u8, 0][..], b"hello"]);
    let back = Folder::new(&[("back.toml", &manifest.render()), ("b", "")]).load("back.toml", &["name=\"a\""]).unwrap();
    assert_eq!(back.render(), manifest.render());
}

#[test]
fn boards_without_a_cable_are_warned_of() {
    let folder = Folder::new(&[("a.toml", GOOD)]);
    let manifest = folder.load("a.toml", &["boards=[\"pi4\", \"zero2w\", \"pi5\"]"]).unwrap();
    let warnings = manifest.warnings();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("Zero 2 W has no Ethernet: it needs a USB adapter to join a cluster; supported chips: ASIX"));
    assert!(warnings[1].starts_with("Pi 5: Debian 13's kernel has no driver for its RP1 chip, which carries"), "{}", warnings[1]);
}

#[test]
fn the_name_comes_from_the_file() {
    let folder = Folder::new(&[("My Lab.toml", GOOD)]);
    assert_eq!(
        folder.error("My Lab.toml", &[]),
        "My Lab.toml: `My Lab` cannot be an image name: only lower-case letters, digits and `-`, no `-` in front; rename the manifest file, or say `name = \"…\"`"
    );
    assert_eq!(folder.load("My Lab.toml", &["name=lab"]).unwrap().name.as_str(), "lab");
}

proptest! {
    /// Whatever is written, reading it ends with a manifest or with lines that name the file, and never with a panic.
    #[test]
    fn any_text_ends_well(text in "([a-z.]{1,8} ?= ?[\\[\\]\"'a-z0-9{},.$-]{0,12}\n|\\[{1,2}[a-z.]{1,12}\\]{1,2}\n|.{0,20}\n){0,8}") {
        let folder = Folder::new(&[("a.toml", &text)]);
        for line in folder.error("a.toml", &[]).lines() {
            prop_assert!(line.starts_with("a.toml"), "{line}");
        }
    }

    /// The same for options.
    #[test]
    fn any_option_ends_well(set in ".{0,30}") {
        let folder = Folder::new(&[("a.toml", GOOD)]);
        let _ = folder.load("a.toml", &[&set]);
    }

    /// One letter too many, too few or swapped in a key still finds the key that was meant.
    #[test]
    fn a_typo_finds_its_key(key in prop::sample::select(vec!["boards", "packages", "overlays", "engine", "output"]), at in 0_usize..4, kind in 0..3) {
        let mut typo: Vec<char> = key.chars().collect();
        match kind {
            0 => { typo.remove(at); }
            1 => typo.swap(at, at + 1),
            _ => typo.insert(at, 'q'),
        }
        let typo: String = typo.into_iter().collect();
        prop_assume!(typo != key);
        let folder = Folder::new(&[("a.toml", &format!("{typo} = 1\n{GOOD}"))]);
        let expected = format!("a.toml:1:1: unknown key `{typo}`: did you mean `{key}`?");
        let error = folder.error("a.toml", &[]);
        prop_assert_eq!(error.lines().next(), Some(expected.as_str()));
    }
}

#[test]
fn paths_on_the_command_line_start_from_the_working_directory() {
    let folder = Folder::new(&[("a.toml", GOOD)]);
    let manifest = folder.load("a.toml", &["overlays=[\"src\"]"]).unwrap();
    assert_eq!(manifest.overlays[0].path, Path::new("src"));
}
