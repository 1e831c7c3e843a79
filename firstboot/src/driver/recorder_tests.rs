use super::*;
use crate::{blackbox::SLOTS, trouble::Kind};

struct Card {
    folder: tempfile::TempDir,
}

impl Card {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let card = Self { folder };
        card.put("proc/device-tree/model", "Raspberry Pi 3 Model B Rev 1.2\0");
        card.put("proc/device-tree/serial-number", "00000000deadbeef\0");
        fs::write(card.path().join(FILE), BlackBox::blank()).unwrap();
        card
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn boot(&self, id: &str) -> Recorder {
        self.put("proc/sys/kernel/random/boot_id", id);
        Recorder::open(self.path(), self.path()).unwrap()
    }

    fn boots(&self) -> Vec<Record> {
        let file = fs::read(self.path().join(FILE)).unwrap();
        BlackBox::parse(&file).unwrap().boots().into_iter().cloned().collect()
    }
}

fn status(state: &str, role: &str) -> Status {
    Status { state: state.into(), role: role.into(), ..Status::default() }
}

#[test]
fn a_boot_is_told() {
    let card = Card::new();
    let mut recorder = card.boot("11111111-2222\n");
    assert_eq!(recorder.next_due(), None, "nothing is known yet");
    recorder.tell(900, "started");
    assert_eq!(recorder.next_due(), None);
    recorder.note(&status("searching", "none"));
    assert_eq!(recorder.next_due(), Some(0));
    recorder.run(1_000).unwrap();
    recorder.note(&status("ready", "leader"));
    assert_eq!(recorder.next_due(), Some(11_000));
    recorder.run(10_999).unwrap();
    assert_eq!(card.boots()[0].entry.state, "searching");
    recorder.run(11_000).unwrap();
    let boots = card.boots();
    assert_eq!(boots.len(), 1);
    let Record { number: 2, boot: 1, entry } = &boots[0] else { panic!("{boots:?}") };
    assert_eq!((entry.boot_id.as_str(), entry.role.as_str(), entry.uptime_ms, entry.writes), ("11111111", "leader", 11_000, 2));
    assert_eq!(entry.board, "Raspberry Pi 3 Model B Rev 1.2, serial number ending in beef");
    assert_eq!(entry.story, ["0:00:00.9  started"]);
    // Nothing new: nothing to write. A story that goes on: later.
    recorder.note(&status("ready", "leader"));
    assert_eq!(recorder.next_due(), None);
    recorder.tell(12_000, "b");
    assert_eq!(recorder.next_due(), Some(131_000));
    recorder.finish(12_500).unwrap();
    let last = &card.boots()[0].entry;
    assert!(last.stopped && last.role == "leader" && last.story.len() == 2);
}

#[test]
fn boots_and_starts_are_told_apart() {
    let card = Card::new();
    for (start, (id, boot)) in [("a", 1), ("a", 1), ("b", 2), ("c", 3), ("c", 3)].into_iter().enumerate() {
        let mut recorder = card.boot(id);
        recorder.tell(1_000, &format!("start {start}"));
        recorder.note(&status("ready", &format!("role {start}")));
        let due = recorder.next_due().unwrap();
        recorder.run(due.max(5_000)).unwrap();
        assert_eq!(card.boots()[0].boot, boot, "start {start}");
    }
    let boots = card.boots();
    assert_eq!(boots.iter().map(|record| record.boot).collect::<Vec<_>>(), [3, 2, 1]);
    // A program that starts again goes on with the story, and with the count of its writes.
    let entry = &boots[0].entry;
    assert_eq!((entry.writes, entry.uptime_ms), (2, 15_000));
    assert_eq!(entry.story, ["0:00:01.0  start 3", "0:00:01.0  start 4"]);
}

/// Neither length nor name nor anything outside of the slot changes, and a power cut at any write leaves what was there.
#[test]
fn in_place() {
    let card = Card::new();
    let path = card.path().join(FILE);
    let mut before = fs::read(&path).unwrap();
    let mut recorder = card.boot("a");
    for round in 0..3 * SLOTS as u64 {
        recorder.note(&status("ready", &format!("role {round}")));
        recorder.run(10_000 * (round + 1)).unwrap();
        let after = fs::read(&path).unwrap();
        assert_eq!(after.len(), SIZE);
        let changed: Vec<usize> =
            (0..=SLOTS).filter(|slot| before.chunks(8192).nth(*slot) != after.chunks(8192).nth(*slot)).collect();
        assert!(changed.len() == 1 && changed[0] > 0, "{changed:?}");
        before = after;
    }
    let names: Vec<_> = fs::read_dir(card.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn what_cannot_be_used_is_named_and_left_alone() {
    let card = Card::new();
    let path = card.path().join(FILE);
    let refused = || Recorder::open(card.path(), card.path()).unwrap_err();
    fs::write(&path, "mine").unwrap();
    assert!(refused().ends_with("hcl-log.txt: has 4 bytes instead of 65536: an editor or another program has written it anew"));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    fs::remove_file(&path).unwrap();
    assert!(refused().contains("hcl-log.txt: No such file"));
    fs::create_dir(&path).unwrap();
    assert!(refused().contains("Is a directory"));
    fs::remove_dir(&path).unwrap();
    // A link may lead anywhere.
    let elsewhere = card.path().join("elsewhere");
    fs::write(&elsewhere, BlackBox::blank()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(refused().contains("hcl-log.txt: "), "{}", refused());
}

#[test]
fn a_file_that_changes_later_is_not_made_longer() {
    let card = Card::new();
    let path = card.path().join(FILE);
    let mut recorder = card.boot("a");
    fs::write(&path, "cut by somebody").unwrap();
    recorder.note(&status("ready", "leader"));
    assert!(recorder.run(1_000).unwrap_err().to_string().contains("has 15 bytes"));
    assert_eq!(fs::read(&path).unwrap(), b"cut by somebody");
    fs::remove_file(&path).unwrap();
    assert!(recorder.run(1_000).is_err());
    assert!(!path.exists());
}

#[test]
fn a_wrong_configuration_is_written_at_once() {
    let card = Card::new();
    let mut recorder = card.boot("a");
    recorder.note_failure(&Trouble::new(Kind::Configuration, "/boot/firmware/hcl.toml:3: key `vlan`: 5000"));
    recorder.run(4_000).unwrap();
    let entry = &card.boots()[0].entry;
    assert_eq!((entry.state.as_str(), entry.vlan.as_str(), entry.is_ready()), ("stopped", "", false));
    assert_eq!(entry.trouble.as_ref().map(|trouble| trouble.kind), Some(Kind::Configuration));
}
