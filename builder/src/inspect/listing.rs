//! One path of an image: a file's bytes, or a folder like `ls -l`.

use std::io::{self, Write};

use anyhow::{Result, bail};
use hcl_firstboot::key;

use crate::image::disk::{Disk, Entry, FileKind, Tree};

/// Where systems mount the boot partition.
const BOOT_MOUNTS: [&str; 2] = ["/boot/firmware", "/boot"];

/// Writes what is at `path` to `out`. `boot:/config.txt` is on the boot partition; an absolute path is on the
/// root file system, or on the boot partition where that is mounted.
///
/// # Errors
///
/// If there is nothing at `path`, it is the cluster key, or reading or writing fails.
pub fn show(disk: &Disk, path: &str, out: &mut dyn Write) -> Result<()> {
    let (tree, inner) = locate(disk, path)?;
    match tree.metadata(&inner)? {
        None => bail!("there is no {path} in {}", disk.path().display()),
        Some(metadata) if metadata.is_dir() => {
            for entry in tree.list(&inner)? {
                list(tree.as_ref(), &entry, out)?;
            }
        }
        Some(metadata) if metadata.is_file() => {
            io::copy(&mut tree.open(&inner)?, out)?;
        }
        Some(_) => bail!("{path} is a device, pipe or socket: there is nothing to show"),
    }
    Ok(())
}

fn locate(disk: &Disk, path: &str) -> Result<(Box<dyn Tree>, String)> {
    let boot = || -> Result<Box<dyn Tree>> {
        match disk.boot()? {
            Some(fat) => Ok(Box::new(fat)),
            None => bail!("{} has no FAT boot partition", disk.path().display()),
        }
    };
    if let Some(inner) = path.strip_prefix("boot:") {
        return Ok((boot()?, inner.to_owned()));
    }
    let path = path.strip_prefix("root:").unwrap_or(path);
    let Some(root) = disk.root()? else { return Ok((boot()?, path.to_owned())) };
    for mount in BOOT_MOUNTS {
        let Some(rest) = path.strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with('/')) else { continue };
        // Where the boot partition is mounted, the root file system itself has an empty folder.
        let empty = root.metadata(mount)?.is_some_and(|metadata| metadata.is_dir()) && root.list(mount)?.is_empty();
        if empty && disk.boot_number()?.is_some() {
            return Ok((boot()?, rest.to_owned()));
        }
    }
    // What is shown ends up in logs, tickets and screens.
    let real = |path: &str| root.canonical(path).ok();
    if real(path).is_some_and(|file| Some(file) == real(key::PATH)) {
        bail!("{path} is the cluster key, which is never shown: `hcl-image check` says whether it is right");
    }
    Ok((Box::new(root), path.to_owned()))
}

fn list(tree: &dyn Tree, entry: &Entry, out: &mut dyn Write) -> Result<()> {
    let metadata = &entry.metadata;
    let target = match metadata.kind {
        FileKind::Symlink => format!(" -> {}", tree.read_link(&entry.path)?),
        _ => String::new(),
    };
    writeln!(
        out,
        "{}{} {:>5} {:>5} {:>11} {} {}{target}",
        metadata.kind.letter(),
        permissions(metadata.mode),
        metadata.uid,
        metadata.gid,
        metadata.size,
        time(metadata.modified),
        entry.name
    )?;
    Ok(())
}

/// `rwxr-sr-t` and the like.
fn permissions(mode: u16) -> String {
    let mut text: Vec<char> = (0..9).map(|bit| if mode & 0o400 >> bit != 0 { ['r', 'w', 'x'][bit % 3] } else { '-' }).collect();
    for (bit, at, letter) in [(0o4000, 2, 's'), (0o2000, 5, 's'), (0o1000, 8, 't')] {
        if mode & bit != 0 {
            text[at] = if text[at] == 'x' { letter } else { letter.to_ascii_uppercase() };
        }
    }
    text.into_iter().collect()
}

/// `2026-11-24 04:30`, UTC.
fn time(seconds: i64) -> String {
    let days = seconds.div_euclid(86400);
    let of_day = seconds.rem_euclid(86400);
    // Civil date from days since 1970-01-01, Gregorian; years begin in March so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", of_day / 3600, of_day % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_ls_writes_it() {
        for (mode, text) in [(0o644, "rw-r--r--"), (0o4755, "rwsr-xr-x"), (0o1777, "rwxrwxrwt"), (0o2640, "rw-r-S---")] {
            assert_eq!(permissions(mode), text);
        }
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (951_827_696, "2000-02-29 12:34"),
            (1_795_494_600, "2026-11-24 04:30"),
            (-1, "1969-12-31 23:59"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }
}
