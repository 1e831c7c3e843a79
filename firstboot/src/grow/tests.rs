use std::{fs::File, os::unix::fs::symlink};

use super::*;

const MOUNTS: &str = "\
1 1 0:2 / / rw - rootfs rootfs rw
24 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw
25 24 0:22 / /proc rw,nosuid shared:5 - proc proc rw
";

/// A sysfs with disk mmcblk0 of `sectors` and partitions (number, start, size), number 2 being 179:2.
fn sysfs(sectors: u64, partitions: &[(u32, u64, u64)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let sys = folder.path().canonicalize().unwrap();
    let disk = sys.join("devices/mmc/block/mmcblk0");
    fs::create_dir_all(&disk).unwrap();
    fs::create_dir_all(sys.join("dev/block")).unwrap();
    fs::write(disk.join("size"), format!("{sectors}\n")).unwrap();
    for (number, start, size) in partitions {
        let partition = disk.join(format!("mmcblk0p{number}"));
        fs::create_dir(&partition).unwrap();
        for (file, value) in [("partition", u64::from(*number)), ("start", *start), ("size", *size)] {
            fs::write(partition.join(file), format!("{value}\n")).unwrap();
        }
        symlink(&partition, sys.join(format!("dev/block/179:{number}"))).unwrap();
    }
    let mountinfo = sys.join("mountinfo");
    fs::write(&mountinfo, MOUNTS).unwrap();
    (folder, mountinfo)
}

#[test]
fn where_root_lies() {
    let (sys, mountinfo) = sysfs(8_000_000, &[(1, 16_384, 1_048_576), (2, 1_064_960, 2_000_000)]);
    let place = root(sys.path(), &mountinfo).unwrap().unwrap();
    assert_eq!(place.disk, Path::new("/dev/mmcblk0"));
    assert_eq!(place.partition, Path::new("/dev/mmcblk0p2"));
    assert_eq!((place.number, place.start, place.size), (2, 1_064_960 * 512, 2_000_000 * 512));
    assert!(place.has_room());
}

#[test]
fn when_nothing_is_to_grow() {
    let table = [
        ("root ends with the card", 3_064_960, vec![(1, 16_384, 1_048_576), (2, 1_064_960, 2_000_000)]),
        ("a few MiB are left", 3_064_960 + 20_000, vec![(1, 16_384, 1_048_576), (2, 1_064_960, 2_000_000)]),
        ("another partition lies behind", 8_000_000, vec![(2, 1_064_960, 2_000_000), (3, 5_000_000, 1000)]),
    ];
    for (why, sectors, partitions) in table {
        let (sys, mountinfo) = sysfs(sectors, &partitions);
        assert!(!root(sys.path(), &mountinfo).unwrap().unwrap().has_room(), "{why}");
    }
    let (sys, mountinfo) = sysfs(8_000_000, &[]);
    assert_eq!(root(sys.path(), &mountinfo).unwrap(), None, "root is no partition");
}

fn sfdisk(image: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("sfdisk")
        .args(arguments)
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sfdisk is needed: apt-get install fdisk");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "sfdisk {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn entries_grow_in_both_kinds_of_table() {
    for label in ["dos", "gpt"] {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("card.img");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let types = if label == "dos" { ["c", "83"] } else { ["U", "L"] };
        let script =
            format!("label: {label}\nstart=2048, size=32768, type={}\nstart=34816, size=65536, type={}\n", types[0], types[1]);
        sfdisk(&image, &["--quiet"], &script);
        let before = sfdisk(&image, &["--dump"], "");
        // The image has been written to a card four times its size.
        File::options().write(true).open(&image).unwrap().set_len(256 << 20).unwrap();
        grow_entry(&image, 2).unwrap();
        let after = sfdisk(&image, &["--dump"], "");
        let line =
            |dump: &str, number: usize| dump.lines().filter(|line| line.contains("start=")).nth(number).unwrap().to_owned();
        let field = |line: &str, key: &str| -> u64 {
            let rest = line.split(key).nth(1).unwrap();
            rest.split(',').next().unwrap().trim().parse().unwrap()
        };
        assert_eq!(line(&before, 0), line(&after, 0), "{label}: the boot partition stays");
        assert_eq!(field(&line(&after, 1), "start="), 34816, "{label}");
        let end = (34816 + field(&line(&after, 1), "size=")) * SECTOR;
        assert!(end + SLACK > 256 << 20 && end <= 256 << 20, "{label}: root ends at {end}");
        for key in ["label-id: ", "label: "] {
            assert_eq!(
                before.split(key).nth(1).unwrap().lines().next(),
                after.split(key).nth(1).unwrap().lines().next(),
                "{label}"
            );
        }
        assert!(sfdisk(&image, &["--verify"], "").contains("No errors detected"), "{label}");
        // Once more: nothing changes.
        let bytes = fs::read(&image).unwrap();
        grow_entry(&image, 2).unwrap();
        assert!(fs::read(&image).unwrap() == bytes, "{label}: growing twice is growing once");
    }
}

#[test]
fn what_a_tool_says_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("empty.img");
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let error = grow_entry(&image, 2).unwrap_err().to_string();
    assert!(error.starts_with("sfdisk: ") && !error.contains('\n'), "{error}");
}
