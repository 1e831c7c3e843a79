//! Side files of an image that changes after it was finished: for as long as it changes there are none, so that no old
//! checksum or block map stands beside new bytes.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};

use super::{SIDE_MODE, checksum_line, pass};
use crate::{
    cache::{remove_if_there, suffixed, sync_folder_of},
    progress::Reporter,
};

const CHECKSUM: &str = ".sha256";
const BLOCK_MAP: &str = ".bmap";

/// The side files that an image had.
#[derive(Debug)]
pub struct Sides {
    image: PathBuf,
    had: Vec<&'static str>,
}

impl Sides {
    /// Takes checksum and block map of `image` away. Compressed copies stay: they are images of their own.
    ///
    /// # Errors
    ///
    /// They cannot be removed.
    pub fn take(image: &Path) -> Result<Self> {
        let had: Vec<_> = [CHECKSUM, BLOCK_MAP].into_iter().filter(|side| suffixed(image, side).exists()).collect();
        for side in &had {
            remove_if_there(&suffixed(image, side))?;
        }
        if !had.is_empty() {
            sync_folder_of(image).with_context(|| format!("removing what stands beside {}", image.display()))?;
        }
        Ok(Self { image: image.to_owned(), had })
    }

    /// Makes those that were there anew, from the bytes of `file`, which is the image. Says which.
    ///
    /// # Errors
    ///
    /// The image cannot be read, or they cannot be written.
    pub fn renew(&self, file: &Arc<File>, reporter: &Reporter) -> Result<Vec<PathBuf>> {
        if self.had.is_empty() {
            return Ok(Vec::new());
        }
        let report = pass::run(file, Vec::new(), reporter).with_context(|| format!("reading {}", self.image.display()))?;
        let mut made = Vec::new();
        for side in &self.had {
            let path = suffixed(&self.image, side);
            let text = if *side == CHECKSUM { checksum_line(&report.sha256, &self.image)? } else { report.bmap.clone() };
            write(&path, text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
            made.push(path);
        }
        Ok(made)
    }
}

/// Whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = suffixed(path, ".partial");
    remove_if_there(&partial)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(SIDE_MODE).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    Ok(sync_folder_of(path)?)
}
