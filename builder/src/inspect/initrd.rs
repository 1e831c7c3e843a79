//! What is in an initial RAM disk: cpio archives (`newc`, Documentation/driver-api/early-userspace/buffer-format.rst),
//! plain ones in front, the main one compressed behind them.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
};

use anyhow::{Context, Result, bail, ensure};

use crate::image::disk::Compression;

/// Longer names or lists are no initrd.
const MAX_NAME: usize = 4096;
const MAX_LIST: u64 = 4 << 20;
const HEADER: usize = 110;

/// The names in an initrd, and the modules built into its kernel where it lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Initrd {
    /// Every path, without a `/` in front.
    pub names: BTreeSet<String>,
    /// Paths out of `modules.builtin`.
    pub builtin: BTreeSet<String>,
    /// How the main archive is compressed.
    pub compression: Option<Compression>,
}

impl Initrd {
    /// Lists an initrd, streaming.
    ///
    /// # Errors
    ///
    /// If it is none, is cut off, or is compressed with something that we do not read.
    pub fn read(file: impl Read) -> Result<Self> {
        let mut initrd = Self::default();
        let mut input = BufReader::with_capacity(64 << 10, file);
        loop {
            let start = input.fill_buf()?;
            let zeros = start.iter().take_while(|&&byte| byte == 0).count();
            if zeros > 0 {
                input.consume(zeros);
                continue;
            }
            if start.is_empty() {
                ensure!(!initrd.names.is_empty(), "there is no cpio archive in it");
                return Ok(initrd);
            }
            if start.starts_with(b"07070") {
                initrd.archive(&mut input)?;
            } else {
                break;
            }
        }
        let start = input.fill_buf()?;
        let Some(compression) = Compression::of_bytes(start) else {
            let name = match start {
                [0x02, 0x21, 0x4c, 0x18, ..] | [0x04, 0x22, 0x4d, 0x18, ..] => "lz4",
                [b'B', b'Z', b'h', ..] => "bzip2",
                [0x89, b'L', b'Z', b'O', ..] => "lzo",
                [0x5d, 0, 0, ..] => "lzma",
                _ => bail!("it is neither a cpio archive nor compressed with anything that we know"),
            };
            bail!("it is compressed with {name}, which we cannot look into");
        };
        initrd.compression = Some(compression);
        let mut main = BufReader::new(compression.decoder(input)?);
        initrd.archive(&mut main).with_context(|| format!("its {compression} part is damaged or cut off"))?;
        Ok(initrd)
    }

    /// Whether a kernel module is in it or built in. `name` with `-` or `_`, without `.ko`.
    pub fn has_module(&self, name: &str) -> bool {
        has_module(&self.names, name) || has_module(&self.builtin, name)
    }

    fn archive(&mut self, input: &mut impl BufRead) -> Result<()> {
        loop {
            let mut header = [0; HEADER];
            input.read_exact(&mut header).context("the archive is cut off")?;
            ensure!(matches!(&header[..6], b"070701" | b"070702"), "the archive's header makes no sense");
            let field = |index: usize| -> Result<u64> {
                let digits = std::str::from_utf8(&header[6 + 8 * index..14 + 8 * index])?;
                Ok(u64::from(u32::from_str_radix(digits, 16)?))
            };
            let (size, name_size) = (field(6)?, field(11)? as usize);
            ensure!((1..=MAX_NAME).contains(&name_size), "a name of {name_size} bytes makes no sense");
            let mut name = vec![0; name_size + padding(HEADER + name_size)];
            input.read_exact(&mut name)?;
            let name = String::from_utf8_lossy(&name[..name_size - 1]).into_owned();
            if name == "TRAILER!!!" {
                return Ok(());
            }
            let padded = size + padding(size as usize) as u64;
            if name.ends_with("/modules.builtin") && size <= MAX_LIST {
                let mut list = vec![0; padded as usize];
                input.read_exact(&mut list)?;
                self.builtin.extend(String::from_utf8_lossy(&list).lines().map(str::to_owned));
            } else {
                let skipped = std::io::copy(&mut input.take(padded), &mut std::io::sink())?;
                ensure!(skipped == padded, "{name} is cut off");
            }
            self.names.insert(name.trim_start_matches("./").trim_start_matches('/').to_owned());
        }
    }
}

/// Whether a list of paths holds a module, compressed or not.
pub fn has_module(paths: &BTreeSet<String>, name: &str) -> bool {
    let wanted = name.replace('-', "_");
    paths.iter().any(|path| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split_once(".ko")
            .is_some_and(|(stem, rest)| matches!(rest, "" | ".xz" | ".zst" | ".gz") && stem.replace('-', "_") == wanted)
    })
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn cpio(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, data) in files.iter().chain([&("TRAILER!!!", &b""[..])]) {
            let mut fields = [0; 13];
            fields[1] = 0o100_644;
            fields[6] = data.len();
            fields[11] = name.len() + 1;
            out.extend_from_slice(b"070701");
            for field in fields {
                write!(out, "{field:08X}").unwrap();
            }
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend_from_slice(data);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn early_part_and_compressed_main_part() {
        let early = cpio(&[("kernel/x86/microcode", b"abc")]);
        let main = cpio(&[
            ("usr/lib/modules/6.12/kernel/fs/ext4/ext4.ko.xz", b"12345"),
            ("usr/lib/modules/6.12/modules.builtin", b"kernel/drivers/mmc/core/mmc_block.ko\n"),
        ]);
        let mut file = early.clone();
        file.resize(file.len().next_multiple_of(512), 0);
        file.extend(zstd::encode_all(main.as_slice(), 1).unwrap());
        let initrd = Initrd::read(file.as_slice()).unwrap();
        assert_eq!(initrd.compression, Some(Compression::Zstd));
        for (module, there) in [("ext4", true), ("mmc-block", true), ("mmc_block", true), ("virtio_blk", false)] {
            assert_eq!(initrd.has_module(module), there, "{module}");
        }
        assert!(initrd.names.contains("kernel/x86/microcode"));
        assert!(Initrd::read(&file[..file.len() - 10]).is_err(), "cut off");
        assert_eq!(Initrd::read(early.as_slice()).unwrap().compression, None);
    }

    #[test]
    fn what_is_no_initrd() {
        for (data, word) in
            [(&b""[..], "no cpio"), (b"hello", "neither"), (b"\x04\x22\x4d\x18xxxx", "lz4"), (b"070701", "cut off")]
        {
            let error = format!("{:#}", Initrd::read(data).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
