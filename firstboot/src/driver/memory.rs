//! What a node starts with and keeps: key, record, the serial numbers of its hardware.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::rand::GetRandomFlags;

use crate::{
    durable,
    identity::Hardware,
    key::{BadKey, ClusterKey},
    record::Record,
};

/// How long the card may take for a record without a word in the log.
pub(super) const SLOW: Duration = Duration::from_secs(2);

/// The cluster key at `path`, or why there is none and what to do.
pub(super) fn key(path: &Path) -> Result<ClusterKey, String> {
    ClusterKey::read(path).map_err(|error| {
        let add = "without its key this card forms no cluster; copy the lab's key there (readable by root only), or flash the lab's image";
        match error {
            BadKey::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                format!("no key {}: {add}", path.display())
            }
            BadKey::Read { .. } => format!("{error}: {add}"),
            BadKey::Form => format!("{}: {error}: {add}", path.display()),
        }
    })
}

/// The record at `path`, if there is one; or why it is of no use. That file is kept beside it, as `state.damaged`.
pub(super) fn record(path: &Path) -> Result<Option<Record>, String> {
    let file = match fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    Record::from_file(&file).map(Some).map_err(|error| {
        let aside = path.with_extension("damaged");
        match fs::rename(path, &aside) {
            Ok(()) => format!("{}: {error}; kept as {}", path.display(), aside.display()),
            Err(_) => format!("{}: {error}", path.display()),
        }
    })
}

/// The serial numbers, from sysfs and the device tree under `root`.
pub(super) fn hardware(root: &Path) -> Hardware {
    let text = |path: &str| {
        let text = fs::read_to_string(root.join(path)).ok()?;
        // The device tree's texts end with a zero byte.
        let text = text.trim_matches(|letter: char| letter == '\0' || letter.is_whitespace());
        (!text.is_empty()).then(|| text.to_owned())
    };
    let board = ["proc/device-tree/serial-number", "sys/firmware/devicetree/base/serial-number"].into_iter().find_map(text);
    Hardware { card: text("sys/block/mmcblk0/device/cid"), board }
}

/// Random bytes of the kernel. Waits, early in a boot, until it has some.
pub(super) fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        match rustix::rand::getrandom(&mut seed[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(seed)
}

/// Keeps `record` at `path`; how long that took.
///
/// # Errors
///
/// It could not be kept: the old one stays.
pub(super) fn keep(path: &Path, record: &Record) -> io::Result<Duration> {
    let started = Instant::now();
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    durable::replace(path, &record.to_file(), 0o600)?;
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::identity::NodeId;

    #[test]
    fn keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.key");
        assert!(key(&path).unwrap_err().starts_with("no key /"));
        let good = ClusterKey::new([0xab; 32]);
        fs::write(&path, good.to_file()).unwrap();
        assert_eq!(key(&path).unwrap(), good);
        fs::write(&path, "abababab\n").unwrap();
        let error = key(&path).unwrap_err();
        assert!(error.contains("cluster.key: not 64 hexadecimal digits: ") && !error.contains("abab"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(key(&path).unwrap_err().contains("cluster.key: Is a directory"));
    }

    #[test]
    fn records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hcl/state");
        assert_eq!(record(&path), Ok(None));
        let new = Record::new(NodeId([7; 16]), Hardware::default());
        keep(&path, &new).unwrap();
        assert_eq!(record(&path), Ok(Some(new.clone())));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let mut damaged = fs::read(&path).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&path, damaged).unwrap();
        let error = record(&path).unwrap_err();
        assert!(error.contains("state: does not fit its checksum: damaged; kept as "), "{error}");
        assert_eq!((record(&path), path.with_extension("damaged").exists()), (Ok(None), true));
        // Something else in the folder's place: root, too, can write nothing there.
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(keep(&folder.path().join("file/state"), &new).is_err());
    }

    #[test]
    fn serial_numbers() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(hardware(root.path()), Hardware::default());
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("sys/block/mmcblk0/device/cid", "1b534d454c313233\n");
        put("sys/firmware/devicetree/base/serial-number", "00000000abcdef01\0");
        let both = Hardware { card: Some("1b534d454c313233".into()), board: Some("00000000abcdef01".into()) };
        assert_eq!(hardware(root.path()), both);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
