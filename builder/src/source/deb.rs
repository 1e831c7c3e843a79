//! A Debian package file: an `ar` archive of two tar archives, `control.tar` and `data.tar` (deb(5)).

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context, Result, bail};

/// Calls `each` for every entry of the inner archive whose name starts with `member`, with its path without `./` in front,
/// and gives what it found.
///
/// # Errors
///
/// The package cannot be read or is damaged, or `each` says so.
pub(super) fn member<T>(
    deb: &Path,
    member: &str,
    mut each: impl FnMut(&Path, &mut tar::Entry<'_, Box<dyn Read + '_>>) -> std::io::Result<Option<T>>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    let mut outer = ar::Archive::new(File::open(deb).with_context(|| format!("opening {}", deb.display()))?);
    while let Some(entry) = outer.next_entry() {
        let entry = entry.with_context(|| format!("{}: damaged", deb.display()))?;
        let name = String::from_utf8_lossy(entry.header().identifier()).trim_end_matches('/').to_owned();
        let Some(suffix) = name.strip_prefix(member) else { continue };
        let reader: Box<dyn Read> = match suffix {
            "" => Box::new(entry),
            ".xz" => Box::new(liblzma::read::XzDecoder::new(entry)),
            ".zst" => Box::new(zstd::Decoder::new(entry).with_context(|| format!("{}: {name}", deb.display()))?),
            ".gz" => Box::new(flate2::read::GzDecoder::new(entry)),
            _ => bail!("{}: {name} is compressed in a way that this program does not know", deb.display()),
        };
        let mut inner = tar::Archive::new(reader);
        for entry in inner.entries().with_context(|| format!("{}: {name}", deb.display()))? {
            let mut entry = entry.with_context(|| format!("{}: {name} is damaged", deb.display()))?;
            let path = entry.path().with_context(|| format!("{}: {name}", deb.display()))?.into_owned();
            let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
            found.extend(each(&path, &mut entry).with_context(|| format!("{}: {name}: {}", deb.display(), path.display()))?);
        }
    }
    Ok(found)
}
