//! A file of this machine as the source.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use super::{Fault, Request, Source};
use crate::{
    progress::{Reporter, Step},
    units::{Bytes, Digest},
};

/// Reads and hashes a file, and copies it where that is wanted.
pub(super) struct Local {
    file: File,
    copy: Option<File>,
    hasher: Sha256,
    position: u64,
    step: Option<Step>,
}

impl Local {
    pub(super) fn open(path: &Path, request: &Request, copy: Option<File>, reporter: &Reporter) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let metadata = file.metadata().with_context(|| format!("opening {}", path.display()))?;
        if !metadata.is_file() {
            bail!("{} is not a file", path.display());
        }
        if let Some(size) = request.size.filter(|size| size.0 != metadata.len()) {
            bail!("{} has {} bytes where {} were asked for", path.display(), metadata.len(), size.0);
        }
        let step = reporter.bytes(format!("Reading {}", request.origin.name()), Bytes(metadata.len()));
        Ok(Self { file, copy, hasher: Sha256::new(), position: 0, step: Some(step) })
    }
}

impl Read for Local {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buf)?;
        if count == 0 {
            if let Some(step) = self.step.take() {
                step.done("");
            }
            return Ok(0);
        }
        if let Some(copy) = &mut self.copy {
            copy.write_all(&buf[..count]).map_err(|error| io::Error::new(error.kind(), format!("copying it: {error}")))?;
        }
        self.hasher.update(&buf[..count]);
        self.position += count as u64;
        if let Some(step) = &self.step {
            step.advance(count as u64);
        }
        Ok(count)
    }
}

impl Source for Local {
    fn fault(&mut self) -> Option<Fault> {
        None
    }

    fn restart(&mut self) -> Result<()> {
        self.file.rewind()?;
        if let Some(copy) = &mut self.copy {
            copy.rewind()?;
            copy.set_len(0)?;
        }
        self.hasher = Sha256::new();
        self.position = 0;
        Ok(())
    }

    fn digest(&self) -> (Digest, Bytes) {
        (Digest::finish(self.hasher.clone()), Bytes(self.position))
    }

    fn pieced(&self) -> bool {
        false
    }
}
