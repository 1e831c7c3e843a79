use super::*;
use crate::{
    status::{MemberStatus, Status},
    trouble::{Kind, Trouble},
};

fn entry(line: &str) -> Entry {
    let mut entry = Entry {
        boot_id: "0123abcd".into(),
        board: "Raspberry Pi 3 Model B Rev 1.2, serial number ending in beef".into(),
        uptime_ms: 12_345,
        writes: 3,
        ..Entry::default()
    };
    entry.tell(&Status {
        version: "0.1.0".into(),
        cluster: "lab".into(),
        state: "ready".into(),
        reason: "eth0.200 is up".into(),
        interface: Some("eth0".into()),
        vlan: Some(200),
        phase: "leading".into(),
        phase_reason: "nobody of this cluster was there: founded it".into(),
        role: "leader".into(),
        address: Some([192, 168, 200, 77].into()),
        trouble: Some(Trouble::new(Kind::Switch, "node-0a0b0c.local is heard on the home network but not on VLAN 200: x; y")),
        complaints: vec![
            "node-0a0b0c.local is heard on the home network but not on VLAN 200: x; y".into(),
            "there is no `nft`".into(),
        ],
        ..Status::default()
    });
    entry.add(line);
    entry
}

fn record(number: u64, boot: u64) -> Record {
    Record { number, boot, entry: entry("  12.3 s  eth0 has a carrier") }
}

/// A file whose slots hold these records.
fn file(records: &[Record]) -> Vec<u8> {
    let mut file = BlackBox::blank();
    for (slot, record) in records.iter().enumerate() {
        file[SLOT * (slot + 1)..][..SLOT].copy_from_slice(&record.to_slot());
    }
    file
}

#[test]
fn a_new_one() {
    let blank = BlackBox::blank();
    assert_eq!(blank.len(), SIZE);
    assert!(blank.is_ascii());
    let known = BlackBox::parse(&blank).unwrap();
    assert!(known.boots().is_empty() && known.damaged() == 0);
    // An editor shows it as lines, none of them long.
    let text = String::from_utf8(blank).unwrap();
    assert!(text.lines().all(|line| line.len() <= 126));
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
}

#[test]
fn there_and_back() {
    let record = record(57, 12);
    let slot = record.to_slot();
    assert_eq!((slot.len(), slot.is_ascii()), (SLOT, true));
    assert_eq!(Record::parse(&slot).unwrap(), record);
    let text = String::from_utf8(slot).unwrap();
    assert!(text.starts_with("=== hcl record 57, boot 12, "), "{text}");
    for line in [
        "Written: 12345 ms after the boot (12 s), write 3",
        "Fault: 4, node-xxxxxx.local is heard on the home network but not on VLAN 200: x; y",
        "Note: there is no `nft`",
        "Role: leader",
        "  12.3 s  eth0 has a carrier",
    ] {
        assert!(text.lines().any(|there| there.trim_end() == line || there == format!("  {line}")), "{line:?} is not in\n{text}");
    }
    assert_eq!(text.matches("Fault:").count() + text.matches("Note:").count(), 2, "the fault is no note as well");
    // A boot that ended in good order, without anything wrong.
    let mut stopped = entry("a line");
    (stopped.trouble, stopped.stopped) = (None, true);
    assert!(stopped.is_ready());
    let record = Record { number: 1, boot: 1, entry: stopped };
    assert_eq!(Record::parse(&record.to_slot()).unwrap(), record);
}

#[test]
fn nothing_that_identifies_goes_in() {
    let mut entry = entry("a");
    entry.tell(&Status {
        interface: Some("enxb827eb123402".into()),
        reason: "node-123402 and b8:27:eb:12:34:02".into(),
        phase_reason: "node-123402 leads".into(),
        complaints: vec!["b8:27:eb:12:34:02".into()],
        trouble: Some(Trouble::new(Kind::Neighbour, "b8:27:eb:12:34:02")),
        members: vec![MemberStatus {
            name: "node-123402".into(),
            address: [1, 1, 1, 1].into(),
            node: "x".into(),
            heard_uptime_ms: None,
        }],
        ..Status::default()
    });
    entry.add("node-123402 is called so");
    let text = String::from_utf8(Record { number: 1, boot: 1, entry }.to_slot()).unwrap();
    assert!(!text.contains("123402") && !text.contains("12:34:02"), "{text}");
}

#[test]
fn it_always_fits() {
    let long = "x".repeat(5000);
    let mut entry = entry("first");
    for number in 0..100 {
        entry.add(&format!("{number} é\u{7} {long}"));
    }
    assert_eq!(entry.story.len(), STORY_LINES);
    entry.notes = vec![long.clone(); 100];
    entry.trouble = Some(Trouble::new(Kind::Card, long.clone()));
    (entry.board, entry.doing) = (long.clone(), long);
    let slot = Record { number: u64::MAX, boot: u64::MAX, entry }.to_slot();
    assert_eq!(slot.len(), SLOT);
    let read = Record::parse(&slot).unwrap();
    assert_eq!((read.number, read.boot), (u64::MAX, u64::MAX));
    // Without absurd rows the end of the story is in.
    let mut entry = super::tests::entry("first");
    (0..100).for_each(|number| entry.add(&format!("{number} {}", "y".repeat(300))));
    let read = Record::parse(&Record { number: 1, boot: 1, entry: entry.clone() }.to_slot()).unwrap().entry;
    assert!(read.story.len() > 15 && read.story.len() < STORY_LINES, "{}", read.story.len());
    assert_eq!(read.story.last(), entry.story.last());
}

#[test]
fn the_next_slot_is_never_the_last_one() {
    let mut known = BlackBox::parse(&BlackBox::blank()).unwrap();
    // Boots of one to five writes, many times around.
    let mut number = 0;
    for boot in 1..60 {
        for _ in 0..=boot % 5 {
            number += 1;
            let slot = known.next_slot();
            let before: Vec<u64> = known.boots().iter().map(|record| record.boot).collect();
            // The write is torn: what was there before is gone.
            let mut torn = known.clone();
            torn.slots[slot] = Slot::Damaged(Damaged::Checksum);
            let latest = known.boots().first().map(|record| record.number);
            assert_eq!(torn.boots().first().map(|record| record.number), latest, "the last state is lost");
            let lost = before.iter().filter(|boot| !torn.boots().iter().any(|record| record.boot == **boot)).count();
            assert!(lost <= usize::from(before.len() > SLOTS - 2), "{before:?}");
            known.put(slot, record(number, boot));
            assert_eq!(known.boots()[0].number, number);
        }
        let boots: Vec<u64> = known.boots().iter().map(|record| record.boot).collect();
        assert!(boots.len() >= boot.min(5) as usize, "after boot {boot} only {boots:?}");
        assert!(boots.windows(2).all(|pair| pair[0] == pair[1] + 1), "{boots:?}");
    }
}

#[test]
fn other_files() {
    assert_eq!(BlackBox::parse(b""), Err(NotOurs::Length(0)));
    assert_eq!(BlackBox::parse(&vec![b' '; SIZE + 1]), Err(NotOurs::Length(SIZE + 1)));
    assert_eq!(BlackBox::parse(&vec![0; SIZE]), Err(NotOurs::Title));
    // The head is lost, a record is not.
    let mut damaged = file(&[record(1, 1)]);
    damaged[..SLOT].fill(0xff);
    assert_eq!(BlackBox::parse(&damaged).unwrap().boots(), [&record(1, 1)]);
    // All slots are lost.
    let mut damaged = BlackBox::blank();
    damaged[SLOT..].fill(0xff);
    let known = BlackBox::parse(&damaged).unwrap();
    assert_eq!((known.boots().len(), known.damaged()), (0, SLOTS));
}

#[test]
fn every_damage_is_seen() {
    let good = record(57, 12);
    let slot = good.to_slot();
    let end = slot.iter().rposition(|byte| !matches!(byte, b' ' | b'\r' | b'\n')).unwrap();
    for at in 0..=end {
        for bit in 0..8 {
            let mut damaged = slot.clone();
            damaged[at] ^= 1 << bit;
            match Record::parse(&damaged) {
                Err(_) => {}
                // White space at the end of the first line.
                Ok(read) => assert_eq!(read, good, "bit {bit} of byte {at}"),
            }
        }
    }
    // A torn write: the first part of the new record, the rest of the old one, in steps of a sector.
    let mut other = record(59, 12);
    other.entry.add("one line more, so that the two differ in length");
    for at in (512..SLOT).step_by(512) {
        let mut torn = slot.clone();
        torn[..at].copy_from_slice(&other.to_slot()[..at]);
        if let Ok(read) = Record::parse(&torn) {
            assert!(read == other, "a mix at {at}");
        }
    }
}

/// Numbers that look random and are the same on each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn any_damage_is_read_without_a_panic() {
    let records: Vec<Record> = (1..=SLOTS as u64).map(|number| record(number, number / 2)).collect();
    let good = file(&records);
    let mut dice = Dice(7);
    for round in 0..400 {
        let mut damaged = good.clone();
        for _ in 0..=dice.below(20) {
            let (from, length) = (dice.below(SIZE), dice.below(600));
            let end = (from + length).min(SIZE);
            match dice.below(4) {
                0 => damaged[from..end].fill(dice.below(256) as u8),
                1 => damaged[from] ^= 1 << dice.below(8),
                2 => {
                    let other = dice.below(SIZE - (end - from));
                    damaged.copy_within(from..end, other);
                }
                _ => damaged[from..end].reverse(),
            }
        }
        if round % 10 == 0 {
            damaged.truncate(dice.below(SIZE));
        }
        if let Ok(known) = BlackBox::parse(&damaged) {
            assert!(known.next_slot() < SLOTS);
            // What is read is what was written.
            assert!(known.boots().iter().all(|read| records.contains(read)), "round {round}");
        }
        let _ = Record::parse(&damaged);
    }
}

#[test]
fn what_is_news() {
    let old = entry("a");
    let mut new = old.clone();
    (new.uptime_ms, new.writes, new.doing) = (1, 9, "something else".into());
    new.add("b");
    assert!(!old.differs(&new));
    // Another try to get out of the same trouble.
    new.state = "attaching".into();
    assert!(!old.differs(&new));
    new.trouble = None;
    assert!(old.differs(&new));
    let calm = Entry { trouble: None, ..old.clone() };
    assert!(calm.differs(&Entry { state: "searching".into(), ..calm.clone() }));
    assert!(calm.differs(&Entry { role: "follower".into(), ..calm.clone() }));
    assert!(calm.differs(&Entry { stopped: true, ..calm.clone() }));
}
