//! `inspect` and `check` on damaged images: errors are fine; panics, hangs and a hunger for memory are bugs.

#[path = "common/fixture.rs"]
mod fixture;

use std::{
    fs,
    os::unix::{fs::FileExt, process::ExitStatusExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use fixture::{Fixture, table};

/// How many.
const IMAGES: u64 = 200;
/// Address space of a run, in bytes: threads and a few copies of the boot partition fit.
const MEMORY: u64 = 2 << 30;
/// Half seconds until a run counts as hanging; it takes a tenth of one.
const PATIENCE: u32 = 60;

/// Seeded: image N is damaged in the same way in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// Where structures lie, as ranges of bytes: damage in file contents alone would find little.
fn structures(image: &Path) -> Vec<(u64, u64)> {
    let table = table(image);
    let (boot, root) = (table.partition(1).expect("a boot partition").offset(), table.partition(2).expect("a root").offset());
    let fat = 600 << 10;
    vec![
        // Partition table.
        (440, 72),
        // FAT: boot sector, FSInfo, the start of both tables, the root folder.
        (boot, 512),
        (boot + 512, 512),
        (boot + 32 * 512, 4096),
        (boot + fat, 400 << 10),
        // ext4: superblock, group descriptors, inodes, then folders and everything.
        (root + 1024, 1024),
        (root + 1024, 256),
        (root + 4096, 4096),
        (root, 2 << 20),
        (root, 8 << 20),
    ]
}

fn damage(image: &Path, length: u64, places: &[(u64, u64)], random: &mut Random) -> String {
    let file = fs::File::options().read(true).write(true).open(image).expect("a copy");
    let mut story = Vec::new();
    for _ in 0..=random.below(4) {
        let (start, size) = places[random.below(places.len() as u64) as usize];
        let at = start + random.below(size);
        let kind = random.below(6);
        let bytes: Vec<u8> = match kind {
            0 => {
                let mut one = [0];
                file.read_exact_at(&mut one, at).expect("inside");
                vec![one[0] ^ (1 << random.below(8))]
            }
            1 => vec![0xff; 4],
            2 => vec![0; 1 + random.below(512) as usize],
            3 => vec![0xff; 1 + random.below(512) as usize],
            4 => (0..1 + random.below(64)).map(|_| random.next() as u8).collect(),
            _ => {
                // What is valid somewhere, elsewhere.
                let (start, size) = places[random.below(places.len() as u64) as usize];
                let mut piece = vec![0; 64];
                file.read_exact_at(&mut piece, start + random.below(size)).expect("inside");
                piece
            }
        };
        let bytes = &bytes[..bytes.len().min((length - at) as usize)];
        file.write_all_at(bytes, at).expect("room");
        story.push(format!("{} bytes of kind {kind} at {at}", bytes.len()));
    }
    // And now and then one that a download left short.
    if random.below(10) == 0 {
        let short = random.below(length);
        file.set_len(short).expect("a copy");
        story.push(format!("cut to {short}"));
    }
    story.join(", ")
}

/// Runs with bounded memory; whatever it says goes to a file, so that no pipe fills.
fn start(arguments: &[&str], image: &Path, log: &Path) -> Child {
    let log = fs::File::create(log).expect("room");
    Command::new("prlimit")
        .arg(format!("--as={MEMORY}"))
        .arg(env!("CARGO_BIN_EXE_hcl-image"))
        .args(arguments)
        .arg(image)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a handle"))
        .stderr(log)
        .spawn()
        .expect("prlimit is missing: apt-get install util-linux")
}

/// How it ended; `None`: not within [`PATIENCE`].
fn ended(child: &mut Child) -> Option<std::process::ExitStatus> {
    for step in 0.. {
        if let Some(status) = child.try_wait().expect("our child") {
            return Some(status);
        }
        if step >= PATIENCE * 50 {
            child.kill().expect("our child");
            child.wait().expect("our child");
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

#[test]
fn two_hundred_damaged_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = Fixture::new().build(folder.path(), "whole");
    let length = fs::metadata(&whole).expect("an image").len();
    let places = structures(&whole);
    let mut faults = Vec::new();
    let mut refused = 0;
    for command in ["inspect", "check"] {
        let log = folder.path().join("whole.log");
        let status = ended(&mut start(&[command], &whole, &log));
        let said = fs::read_to_string(&log).expect("a log");
        assert!(status.is_some_and(|status| status.success()), "{command} refuses the undamaged image: {status:?} {said}");
    }
    for number in 0..IMAGES {
        let mut random = Random(number);
        let image = folder.path().join("damaged.img");
        hcl_image::image::sparse::copy_sparse(
            &fs::File::open(&whole).expect("an image"),
            &fs::File::create(&image).expect("room"),
        )
        .expect("a copy");
        let story = damage(&image, length, &places, &mut random);
        let runs = [&["inspect"][..], &["check"]].map(|arguments| {
            let log = folder.path().join(format!("{}.log", arguments[0]));
            (arguments[0], start(arguments, &image, &log), log)
        });
        for (command, mut child, log) in runs {
            let status = ended(&mut child);
            let said = fs::read_to_string(&log).expect("a log");
            match status {
                None => faults.push(format!("image {number} ({story}): {command} hangs")),
                Some(status) if status.signal().is_some() || !matches!(status.code(), Some(0..=2)) => {
                    faults.push(format!("image {number} ({story}): {command}: {status}: {said}"));
                }
                Some(status) => {
                    refused += u32::from(!status.success());
                    if said.contains("panicked") {
                        faults.push(format!("image {number} ({story}): {command}: {said}"));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(refused > 50, "the damage is too kind: {refused} refusals");
    println!("{refused} of {} runs said no", 2 * IMAGES);
}
