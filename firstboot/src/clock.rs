//! The clock of a board without a battery, before the engine starts.
//!
//! A Pi wakes up at the time of its last shutdown, at that of the image, or in 1970; and the engine leaves its swarm when its own
//! certificate is not valid yet. Before any network there are four times that it cannot be before: what a real-time clock says, when
//! the image was built, when this node's swarm certificate starts, and when the node last ran. The latest of them is taken if it is
//! later than what the clock says; it is never set back. The leader or NTP set it right afterwards.
//!
//! When the node last ran is kept by the time of change of an empty file, hourly and at the end: nothing else is written to the card.

mod certificate;

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, Timespec, clock_settime};

/// Its time of change is when the image was built; systemd looks at it as well.
const IMAGE: &str = "usr/lib/clock-epoch";
/// The node's certificate in the swarm, the first in a PEM file.
const CERTIFICATE: &str = "var/lib/docker/swarm/certificates/swarm-node.crt";
/// Its time of change is when the node last ran.
const KEPT: &str = "var/lib/hcl/clock";
/// Real-time clocks, each a folder with a file that says its time in seconds since 1970.
const RTC: &str = "sys/class/rtc";
/// A time this long after the image is none of a node's life but a broken clock's: the swarm's certificates would have ended.
const LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// Where a time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Rtc,
    Image,
    Certificate,
    Kept,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Rtc => "what the real-time clock says",
            Self::Image => "when the image was built",
            Self::Certificate => "the start of this node's certificate in the swarm",
            Self::Kept => "when this node last ran",
        }
    }
}

/// Sets the clock forward to the latest time that is certain, below `root`; what was done, in a line.
///
/// # Errors
///
/// The system does not let us, in a line.
pub fn set(root: &Path) -> Result<String, String> {
    let now = SystemTime::now();
    let Some((source, later)) = later(root, now) else {
        return Ok(format!("the clock says {}, and nothing says that it is later", civil(now)));
    };
    let since = later.duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let time = Timespec { tv_sec: since.as_secs() as i64, tv_nsec: since.subsec_nanos().into() };
    match clock_settime(ClockId::Realtime, time) {
        Ok(()) => Ok(format!("the clock goes from {} to {}, {}", civil(now), civil(later), source.name())),
        Err(error) => Err(format!("setting the clock from {} to {}, {}: {error}", civil(now), civil(later), source.name())),
    }
}

/// Keeps the time as that at which the node last ran.
///
/// # Errors
///
/// What the system says, in a line.
pub fn save(root: &Path) -> Result<(), String> {
    let now = SystemTime::now();
    // Such a clock was never set.
    if modified(&root.join(IMAGE)).is_some_and(|image| now < image) {
        return Ok(());
    }
    let path = root.join(KEPT);
    keep(&path, now).map_err(|error| format!("keeping the time in {}: {error}", path.display()))
}

fn keep(path: &Path, time: SystemTime) -> io::Result<()> {
    let file = fs::File::options().create(true).append(true).open(path)?;
    file.set_modified(time)?;
    file.sync_all()
}

/// The latest time that is certain, where it is later than `now`.
fn later(root: &Path, now: SystemTime) -> Option<(Source, SystemTime)> {
    let image = modified(&root.join(IMAGE));
    let certificate = fs::read_to_string(root.join(CERTIFICATE)).ok().and_then(|pem| certificate::start(&pem));
    let all = [
        (Source::Image, image),
        (Source::Kept, modified(&root.join(KEPT))),
        (Source::Certificate, certificate),
        (Source::Rtc, rtc(&root.join(RTC))),
    ];
    let end = image.map(|image| image + LIFE);
    let certain = all.into_iter().filter_map(|(source, time)| Some((source, time?)));
    let latest = certain.filter(|(_, time)| end.is_none_or(|end| *time < end)).max_by_key(|(_, time)| *time);
    latest.filter(|(_, time)| *time > now)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|about| about.modified()).ok()
}

/// The latest of all real-time clocks.
fn rtc(folder: &Path) -> Option<SystemTime> {
    let says = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("since_epoch")).ok()?.trim().parse::<u32>().ok();
    let all = fs::read_dir(folder).ok()?.filter_map(Result::ok).filter_map(says);
    all.max().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds.into()))
}

/// A time in UTC, to the second, such as `2026-11-24 18:20:54`. Before 1970 it is 1970.
fn civil(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that start in March, so that the odd day is the last: 400 of them have 146097 days, and begin in the year 0.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month, year) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1, 400 * era + year + month / 10);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// The time of a date and a time of day in UTC, from 1970 on; none for what is no date.
fn from_civil([year, month, day, hour, minute, second]: [u64; 6]) -> Option<SystemTime> {
    let leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let fits = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=length).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // As above, the other way round.
    let (shifted, year) = ((month + 9) % 12, if month <= 2 { year - 1 } else { year });
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * shifted + 2) / 5 + day - 1 - 719_468;
    Some(UNIX_EPOCH + Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE_TIME: u64 = 1_790_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A root with an image's time, and what else is given.
    fn root(kept: Option<u64>, rtc: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, time: u64| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            keep(&path, at(time)).unwrap();
        };
        put(IMAGE, IMAGE_TIME);
        if let Some(kept) = kept {
            put(KEPT, kept);
        }
        for (number, text) in rtc.iter().enumerate() {
            let folder = root.path().join(RTC).join(format!("rtc{number}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("since_epoch"), text).unwrap();
        }
        root
    }

    fn later_than(root: &tempfile::TempDir, now: u64) -> Option<(Source, u64)> {
        let (source, time) = later(root.path(), at(now))?;
        Some((source, time.duration_since(UNIX_EPOCH).unwrap().as_secs()))
    }

    #[test]
    fn the_latest_and_never_back() {
        let image = root(None, &[]);
        assert_eq!(later_than(&image, 0), Some((Source::Image, IMAGE_TIME)));
        assert_eq!(later_than(&image, IMAGE_TIME), None);
        assert_eq!(later_than(&image, IMAGE_TIME + 5), None, "the clock is right by then");
        let ran = root(Some(IMAGE_TIME + 500), &["0\n"]);
        assert_eq!(later_than(&ran, 0), Some((Source::Kept, IMAGE_TIME + 500)));
        assert_eq!(later_than(&ran, IMAGE_TIME + 1), Some((Source::Kept, IMAGE_TIME + 500)));
        assert_eq!(later_than(&ran, IMAGE_TIME + 501), None);
        // One whose battery is empty, one that goes, one that cannot be read.
        let clocks = root(Some(IMAGE_TIME + 500), &["946684800\n", "1790000900\n", "\n"]);
        assert_eq!(later_than(&clocks, 0), Some((Source::Rtc, IMAGE_TIME + 900)));
        assert_eq!(later_than(&tempfile::tempdir().unwrap(), 0), None, "nobody knows");
    }

    #[test]
    fn a_broken_clock_is_not_believed() {
        let broken = root(Some(IMAGE_TIME + 500), &["4102444800\n"]);
        assert_eq!(later_than(&broken, 0), Some((Source::Kept, IMAGE_TIME + 500)));
    }

    #[test]
    fn the_start_of_the_certificate() {
        let root = root(Some(IMAGE_TIME + 500), &[]);
        let path = root.path().join(CERTIFICATE);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, certificate::EXAMPLE).unwrap();
        assert_eq!(later_than(&root, 0), Some((Source::Certificate, 1795540740)));
        // Cut off by a power cut.
        fs::write(&path, &certificate::EXAMPLE[..200]).unwrap();
        assert_eq!(later_than(&root, 0), Some((Source::Kept, IMAGE_TIME + 500)));
    }

    #[test]
    fn kept_and_found_again() {
        let root = root(None, &[]);
        assert!(save(root.path()).unwrap_err().contains("var/lib/hcl/clock"), "no folder for it");
        fs::create_dir_all(root.path().join("var/lib/hcl")).unwrap();
        let before = SystemTime::now();
        save(root.path()).unwrap();
        let kept = modified(&root.path().join(KEPT)).unwrap();
        assert!(kept >= before - Duration::from_secs(1) && kept <= SystemTime::now());
        assert_eq!(later(root.path(), before - Duration::from_secs(3600)), Some((Source::Kept, kept)));
        // It was later once, by mistake: what the clock says now counts, since somebody has set it.
        keep(&root.path().join(KEPT), before + Duration::from_secs(86_400)).unwrap();
        save(root.path()).unwrap();
        assert!(modified(&root.path().join(KEPT)).unwrap() <= SystemTime::now());
        // A clock from before the image was never set.
        keep(&root.path().join(IMAGE), SystemTime::now() + Duration::from_secs(60)).unwrap();
        keep(&root.path().join(KEPT), at(IMAGE_TIME)).unwrap();
        save(root.path()).unwrap();
        assert_eq!(modified(&root.path().join(KEPT)), Some(at(IMAGE_TIME)));
    }

    #[test]
    fn what_is_not_later_is_left_alone() {
        let root = root(None, &["0"]);
        // This machine's clock is after the image's; nothing is set.
        let line = set(root.path()).unwrap();
        assert!(line.starts_with("the clock says 20") && line.ends_with(", and nothing says that it is later"), "{line}");
    }

    #[test]
    fn dates() {
        for (seconds, date, parts) in [
            (0, "1970-01-01 00:00:00", [1970, 1, 1, 0, 0, 0]),
            (951_782_399, "2000-02-28 23:59:59", [2000, 2, 28, 23, 59, 59]),
            (951_782_400, "2000-02-29 00:00:00", [2000, 2, 29, 0, 0, 0]),
            (1_795_544_454, "2026-11-24 18:20:54", [2026, 11, 24, 18, 20, 54]),
            (4_107_542_400, "2100-03-01 00:00:00", [2100, 3, 1, 0, 0, 0]),
        ] {
            assert_eq!(civil(at(seconds)), date);
            assert_eq!(from_civil(parts), Some(at(seconds)), "{date}");
        }
        for day in 0..50_000 {
            let text = civil(at(day * 86_400));
            let part = |from: usize, to: usize| text[from..to].parse().unwrap();
            assert_eq!(from_civil([part(0, 4), part(5, 7), part(8, 10), 0, 0, 0]), Some(at(day * 86_400)), "{text}");
        }
        for parts in [
            [1969, 12, 31, 0, 0, 0],
            [2026, 2, 29, 0, 0, 0],
            [2100, 2, 29, 0, 0, 0],
            [2026, 13, 1, 0, 0, 0],
            [2026, 0, 1, 0, 0, 0],
        ] {
            assert_eq!(from_civil(parts), None, "{parts:?}");
        }
    }
}
