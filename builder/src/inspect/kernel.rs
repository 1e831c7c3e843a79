//! Kernel images: what the firmware would start, and which version it is.

use std::{
    fmt,
    io::{BufReader, Read},
};

use anyhow::Result;
use serde::Serialize;

/// No kernel is larger, unpacked.
const MAX_KERNEL: u64 = 256 << 20;
const BANNER: &[u8] = b"Linux version ";

/// The format of a kernel file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelKind {
    /// A 64-bit `Image` (Documentation/arch/arm64/booting.rst: magic `ARM\x64` at 56).
    Arm64,
    /// The same in gzip, which the firmware unpacks.
    Arm64Gzip,
    /// A 64-bit EFI program that unpacks itself: no firmware of a Pi starts that.
    Arm64Efi,
    /// A 32-bit `zImage` (magic 0x016f2818 at 36).
    Arm,
    /// Something else.
    Unknown,
}

impl KernelKind {
    /// Whether it runs in 64-bit mode; `None` if that is not known.
    pub fn is_64bit(self) -> Option<bool> {
        match self {
            Self::Arm64 | Self::Arm64Gzip | Self::Arm64Efi => Some(true),
            Self::Arm => Some(false),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for KernelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Arm64 => "64-bit Image",
            Self::Arm64Gzip => "64-bit Image, gzip",
            Self::Arm64Efi => "64-bit EFI program (zboot)",
            Self::Arm => "32-bit zImage",
            Self::Unknown => "no kernel that we know",
        })
    }
}

/// A kernel file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Its format.
    pub kind: KernelKind,
    /// The release, such as `6.12.43+deb13-arm64`: from the banner in it, or from its name.
    pub version: Option<String>,
}

impl Kernel {
    /// Looks at a kernel file, unpacking what is needed, in a few KiB of memory.
    ///
    /// # Errors
    ///
    /// If reading fails.
    pub fn read(name: &str, file: impl Read) -> Result<Self> {
        let mut file = BufReader::with_capacity(64 << 10, file);
        let mut head = Vec::new();
        file.by_ref().take(64).read_to_end(&mut head)?;
        let whole = head.as_slice().chain(file);
        let (kind, banner) = match kind(&head) {
            KernelKind::Arm64 => (KernelKind::Arm64, banner(whole)?),
            KernelKind::Arm64Gzip => {
                let mut unpacked = flate2::read::GzDecoder::new(whole);
                let mut head = Vec::new();
                // What is no gzip after all has no kernel in it.
                let inner = match unpacked.by_ref().take(64).read_to_end(&mut head) {
                    Ok(_) => kind_of_plain(&head),
                    Err(_) => KernelKind::Unknown,
                };
                match inner {
                    KernelKind::Arm64 => (KernelKind::Arm64Gzip, banner(unpacked).unwrap_or(None)),
                    _ => (KernelKind::Unknown, None),
                }
            }
            other => (other, None),
        };
        Ok(Self { kind, version: banner.or_else(|| version_in_name(name)) })
    }
}

fn kind(head: &[u8]) -> KernelKind {
    if head.starts_with(&[0x1f, 0x8b]) { KernelKind::Arm64Gzip } else { kind_of_plain(head) }
}

fn kind_of_plain(head: &[u8]) -> KernelKind {
    if head.get(56..60) == Some(b"ARM\x64") {
        KernelKind::Arm64
    } else if head.get(36..40) == Some(&0x016f_2818_u32.to_le_bytes()) {
        KernelKind::Arm
    } else if head.starts_with(b"MZ") && head.get(4..8) == Some(b"zimg") {
        KernelKind::Arm64Efi
    } else {
        KernelKind::Unknown
    }
}

/// Finds `Linux version X` in a stream.
fn banner(input: impl Read) -> Result<Option<String>> {
    let mut input = input.take(MAX_KERNEL);
    let mut window = Vec::new();
    let mut block = vec![0; 256 << 10];
    loop {
        let count = input.read(&mut block)?;
        if count == 0 {
            return Ok(None);
        }
        window.extend_from_slice(&block[..count]);
        for at in memchr_all(&window) {
            let rest = &window[at + BANNER.len()..];
            // The kernel also holds the format string "Linux version %s".
            if let Some(end) = rest.iter().position(|&byte| byte == b' ')
                && rest.first().is_some_and(u8::is_ascii_digit)
            {
                return Ok(Some(String::from_utf8_lossy(&rest[..end]).into_owned()));
            }
        }
        let keep = window.len().min(256);
        window.drain(..window.len() - keep);
    }
}

fn memchr_all(window: &[u8]) -> impl Iterator<Item = usize> + '_ {
    window
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == BANNER[0])
        .map(|(at, _)| at)
        .filter(|&at| window[at..].starts_with(BANNER))
}

/// `vmlinuz-6.12.43+deb13-arm64` and its like.
fn version_in_name(name: &str) -> Option<String> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let version = ["vmlinuz-", "vmlinux-", "kernel-", "Image-"].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn image() -> Vec<u8> {
        let mut image = vec![0; 300 << 10];
        image[56..60].copy_from_slice(b"ARM\x64");
        let at = (256 << 10) - 7;
        image[at - 100..at - 100 + 16].copy_from_slice(b"Linux version %s");
        image[at..at + 27].copy_from_slice(b"Linux version 6.12.1-arm64 ");
        image
    }

    #[test]
    fn kinds_and_versions() {
        let plain = Kernel::read("kernel8.img", image().as_slice()).unwrap();
        assert_eq!(plain, Kernel { kind: KernelKind::Arm64, version: Some("6.12.1-arm64".into()) });
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&image()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(Kernel::read("kernel8.img", packed.as_slice()).unwrap().kind, KernelKind::Arm64Gzip);
        let mut zimage = vec![0; 64];
        zimage[36..40].copy_from_slice(&0x016f_2818_u32.to_le_bytes());
        let zimage = Kernel::read("vmlinuz-6.12.1-armmp", zimage.as_slice()).unwrap();
        assert_eq!(zimage, Kernel { kind: KernelKind::Arm, version: Some("6.12.1-armmp".into()) });
        for nonsense in [&b""[..], b"\x1f\x8b", b"hello"] {
            let kernel = Kernel::read("kernel7.img", nonsense).unwrap();
            assert_eq!(kernel, Kernel { kind: KernelKind::Unknown, version: None });
        }
    }
}
