//! `hcl-image why` on made cards: what it says of each, and its exit code.

#[path = "common/fixture.rs"]
mod fixture;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use fixture::{Fixture, overwrite, run, table};
use hcl_firstboot::{
    blackbox::{BlackBox, Entry, FILE, Record, SIZE, SLOT},
    config::{NodeConfig, Overrides},
    status::Status,
    trouble::{Kind, Trouble},
};
use serde_json::Value;

fn hcl_image(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hcl-image")).args(arguments).output().unwrap()
}

struct Said {
    code: Option<i32>,
    text: String,
    error: String,
    json: Value,
}

fn why(card: &Path) -> Said {
    let card = card.to_str().unwrap();
    let (plain, json) = (hcl_image(&["why", card]), hcl_image(&["why", "--json", card]));
    assert_eq!(plain.status.code(), json.status.code());
    let json = String::from_utf8(json.stdout).unwrap();
    let last = json.lines().last().unwrap_or("null");
    Said {
        code: plain.status.code(),
        text: String::from_utf8(plain.stdout).unwrap(),
        error: String::from_utf8(plain.stderr).unwrap(),
        json: serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}")),
    }
}

fn boot(number: u64, role: &str, trouble: Option<Trouble>) -> Record {
    let mut entry = Entry { boot_id: format!("{number:08x}"), uptime_ms: 734_000, writes: 3, ..Entry::default() };
    entry.tell(&Status {
        version: "0.1.0".into(),
        cluster: "lab".into(),
        state: "ready".into(),
        reason: "eth0.200 is up".into(),
        interface: Some("eth0".into()),
        vlan: Some(200),
        phase: "leading".into(),
        role: role.into(),
        address: Some([192, 168, 200, 77].into()),
        trouble,
        ..Status::default()
    });
    entry.add("   0.9 s  boot: 0.1.0 lab");
    Record { number, boot: number, entry }
}

/// A card as our builder makes it, with these records in its black box.
fn card(records: &[Record]) -> Fixture {
    let mut file = BlackBox::blank();
    for (slot, record) in records.iter().enumerate() {
        file[SLOT * (slot + 1)..][..SLOT].copy_from_slice(&record.to_slot());
    }
    let mut fixture = Fixture::new();
    fixture.boot(FILE, file);
    fixture.boot("hcl.toml", Overrides::template(&NodeConfig::default()));
    fixture
}

fn switch() -> Trouble {
    Trouble::new(
        Kind::Switch,
        "node-0a0b0c.local is heard on the home network but not on VLAN 200: let it pass, or use a simple switch",
    )
}

#[test]
fn a_card_that_never_booted() {
    let folder = tempfile::tempdir().unwrap();
    let said = why(&card(&[]).build(folder.path(), "a"));
    assert_eq!(said.code, Some(1));
    assert!(
        said.text
            .contains("this card never booted: Linux has not started from it\n\nWhat to do\n  - check that the board has power"),
        "{}",
        said.text
    );
    assert_eq!(said.error, "hcl-image: this card never booted\n");
    assert_eq!((&said.json["verdict"], &said.json["boots"]), (&"never-booted".into(), &Value::Array(vec![])));
    // Linux came up and filled in what it does on its first boot.
    let mut started = card(&[]);
    started.file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let said = why(&started.build(folder.path(), "b"));
    assert_eq!((said.code, &said.json["verdict"]), (Some(1), &"never-reported".into()));
    assert!(said.text.contains("Linux has started from this card, but the node program never"), "{}", said.text);
}

#[test]
fn the_last_boots() {
    let folder = tempfile::tempdir().unwrap();
    let mut stopped = boot(2, "follower", None);
    stopped.entry.stopped = true;
    let good = card(&[boot(1, "leader", Some(switch())), stopped.clone()]).build(folder.path(), "good");
    let said = why(&good);
    assert_eq!((said.code, said.error.as_str()), (Some(0), ""));
    assert!(said.text.contains("boot 2 was ready: follower at 192.168.200.77\n\nBoot 2, the last one\n"), "{}", said.text);
    assert!(said.text.contains("stopped in good order 12 min 14 s after the start"), "{}", said.text);
    assert!(
        said.text.contains("Before it\n  boot 1 failed with fault 4: the switch drops the VLAN; power was cut"),
        "{}",
        said.text
    );
    assert_eq!(said.json["verdict"], "ready");
    assert_eq!((&said.json["boots"][0]["number"], &said.json["boots"][1]["trouble"]["kind"]), (&2.into(), &"switch".into()));

    let bad = card(&[stopped, boot(3, "leader", Some(switch()))]).build(folder.path(), "bad");
    let said = why(&bad);
    assert_eq!((said.code, said.error.as_str()), (Some(1), "hcl-image: the last boot of this card failed\n"));
    assert!(
        said.text.contains("What to do\n  - node-xxxxxx.local is heard on the home network but not on VLAN 200: let it pass"),
        "{}",
        said.text
    );
    assert!(said.text.contains("  0.9 s  boot: 0.1.0 lab\n"), "{}", said.text);

    // Compressed, and the boot partition alone, as a laptop shows it.
    let xz = folder.path().join("bad.img.xz");
    run("sh", "xz-utils", &["-c", &format!("xz -0 <{} >{}", bad.display(), xz.display())]);
    assert_eq!(why(&xz).json["boots"], said.json["boots"]);
    let table = table(&bad);
    let partition = table.partition(1).unwrap();
    let alone = folder.path().join("alone.fat");
    let bytes = std::fs::read(&bad).unwrap();
    std::fs::write(&alone, &bytes[partition.offset() as usize..][..partition.size.bytes().0 as usize]).unwrap();
    assert_eq!(why(&alone).json["boots"], said.json["boots"]);
}

#[test]
fn overrides_as_they_are_now() {
    let folder = tempfile::tempdir().unwrap();
    let mut set = card(&[boot(1, "leader", None)]);
    set.boot("hcl.toml", "\u{feff}vlan = \"off\"\r\n");
    let said = why(&set.build(folder.path(), "set"));
    assert_eq!(said.code, Some(0));
    assert!(said.text.contains("\nhcl.toml on the card sets vlan = off\n"), "{}", said.text);
    set.boot("hcl.toml", "vlan = 5000\r\n");
    let said = why(&set.build(folder.path(), "wrong"));
    assert!(
        said.text.contains("  - the next boot will stop at hcl.toml: hcl.toml:1: key `vlan`: invalid value: integer `5000`"),
        "{}",
        said.text
    );
    set.boot("hcl.toml", vec![b'#'; 20_000]);
    assert!(why(&set.build(folder.path(), "long")).text.contains("hcl.toml has more than 16384 bytes"));
}

#[test]
fn a_card_that_stopped_at_its_overrides() {
    let folder = tempfile::tempdir().unwrap();
    let reason = "hcl.toml:2: key `vlan`: invalid value: integer `5000`, expected a VLAN id from 1 to 4094, or \"off\"";
    let text = format!("/boot/firmware/{reason}");
    let mut record = boot(1, "none", Some(Trouble::new(Kind::Configuration, text.clone())));
    (record.entry.state, record.entry.reason) = ("stopped".into(), text.clone());
    let mut stopped = card(&[record]);
    stopped.boot("hcl.toml", "\r\nvlan = 5000\r\n");
    let said = why(&stopped.build(folder.path(), "wrong"));
    assert_eq!(said.code, Some(1));
    assert!(said.text.contains("boot 1 failed with fault 1: the configuration is wrong\n"), "{}", said.text);
    assert_eq!(
        said.json["advice"],
        serde_json::json!([text, "mend that line in hcl.toml on this card, or put a # in front of it"])
    );
    assert!(said.text.contains("the node did nothing from 12 min 14 s after the start on\n"), "{}", said.text);
    stopped.boot("hcl.toml", "vlan = 500\r\n");
    let said = why(&stopped.build(folder.path(), "mended"));
    assert_eq!(
        (said.code, &said.json["advice"][1]),
        (Some(1), &"hcl.toml was changed since and is right now: put the card back".into())
    );
}

#[test]
fn damage_has_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let records = [boot(1, "leader", None), boot(2, "leader", None)];
    let mut torn = card(&records);
    let mut file = torn.boot[FILE].clone();
    file[2 * SLOT + 300] ^= 1;
    torn.boot(FILE, file.clone());
    let said = why(&torn.build(folder.path(), "torn"));
    assert_eq!((said.code, &said.json["damaged_slots"]), (Some(0), &1.into()));
    assert!(
        said.text.contains("boot 1 was ready") && said.text.contains("1 entry of the black box cannot be read"),
        "{}",
        said.text
    );
    file[SLOT + 300] ^= 1;
    torn.boot(FILE, file);
    let said = why(&torn.build(folder.path(), "both"));
    assert_eq!((said.code, &said.json["verdict"]), (Some(1), &"damaged".into()));
    assert!(said.text.contains("the card has booted, but nothing in the black box can be read any more"), "{}", said.text);
    // Saved by an editor.
    torn.boot(FILE, "hcl-log 1");
    let said = why(&torn.build(folder.path(), "edited"));
    assert_eq!((said.code, &said.json["verdict"]), (Some(1), &"damaged".into()));
    assert!(said.text.contains("hcl-log.txt has 9 bytes instead of 65536: an editor or another program"), "{}", said.text);
}

#[test]
fn no_black_box_no_card_no_permission() {
    let folder = tempfile::tempdir().unwrap();
    let said = why(&Fixture::new().build(folder.path(), "stock"));
    assert_eq!((said.code, said.error.as_str()), (Some(1), "hcl-image: there is no black box on this card\n"));
    assert!(
        said.text.contains("the boot partition has no black box (hcl-log.txt)") && said.text.contains("another image"),
        "{}",
        said.text
    );

    let error = |path: &PathBuf| {
        let output = hcl_image(&["why", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = error(&folder.path().join("sdx"));
    assert!(
        missing.ends_with("(os error 2): there is no such file or device: put the card in, `lsblk` shows its name\n"),
        "{missing}"
    );
    assert!(error(&folder.path().to_owned()).contains("is a folder"));
    // Nobody ever writes into it.
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(error(&pipe).contains("is a pipe"));
    let text = folder.path().join("text");
    std::fs::write(&text, "no card\n".repeat(1000)).unwrap();
    assert!(error(&text).contains("neither a partition table nor a known file system"));

    // Root may read everything: another user asks.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o000)).unwrap();
    let program = folder.path().join("hcl-image");
    std::fs::copy(env!("CARGO_BIN_EXE_hcl-image"), &program).unwrap();
    let mut command = Command::new(&program);
    if Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n") {
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    }
    let output = command.arg("why").arg(&text).output().expect("setpriv is needed: apt-get install util-linux");
    let denied = String::from_utf8(output.stderr).unwrap();
    assert!(denied.ends_with(&format!("are for root and their owner: `sudo hcl-image why {}`\n", text.display())), "{denied}");
    assert_eq!(hcl_image(&["why"]).status.code(), Some(2));
}

/// The whole program on a card whose black box was damaged at random: any answer but a panic.
#[test]
fn random_damage() {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<Record> = (1..=7).map(|number| boot(number, "leader", Some(switch()))).collect();
    let image = card(&records).build(folder.path(), "a");
    let bytes = std::fs::read(&image).unwrap();
    let place = bytes.windows(10).position(|window| window == b"hcl-log 1:").expect("a black box in one piece");
    let mut state = 42_u64;
    let mut random = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    for round in 0..40 {
        let mut damage = vec![0; 1 + random(64)];
        damage.fill_with(|| random(256) as u8);
        overwrite(&image, (place + random(SIZE - 64)) as u64, &damage);
        let output = hcl_image(&["why", image.to_str().unwrap()]);
        assert!(matches!(output.status.code(), Some(0 | 1)), "round {round}: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "round {round}: {output:?}");
    }
}
