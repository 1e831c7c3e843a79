//! What the Pi's firmware would load from the boot partition, taken out of the image for QEMU.
//!
//! QEMU has no Pi firmware, so kernel, initramfs, device tree and kernel command line are read here the
//! way config.txt says (Raspberry Pi's documentation of config.txt) and handed to QEMU as they are.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::image::disk::{Disk, Tree};

/// Instruction set of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit, `uname -m` says `aarch64`.
    Arm64,
    /// 32-bit, `uname -m` says `armv7l`.
    Arm32,
}

impl Arch {
    /// What `uname -m` prints.
    pub fn uname(self) -> &'static str {
        match self {
            Self::Arm64 => "aarch64",
            Self::Arm32 => "armv7l",
        }
    }
}

/// The files of one board, extracted.
#[derive(Clone, Debug)]
pub struct BootFiles {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its name on the boot partition.
    pub kernel_name: String,
    /// Its instruction set.
    pub arch: Arch,
    /// The initramfs, where config.txt names one.
    pub initrd: Option<PathBuf>,
    /// The board's device tree, where it was asked for.
    pub device_tree: Option<PathBuf>,
    /// cmdline.txt, on one line.
    pub command_line: String,
}

/// A board as config.txt's filters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// Raspberry Pi 3 Model B.
    Pi3,
    /// Raspberry Pi 2.
    Pi2,
}

impl Board {
    fn filter(self) -> &'static str {
        match self {
            Self::Pi3 => "pi3",
            Self::Pi2 => "pi2",
        }
    }

    fn device_trees(self) -> &'static [&'static str] {
        match self {
            // The vendor's and the mainline kernel's names.
            Self::Pi3 => &["bcm2710-rpi-3-b.dtb", "bcm2837-rpi-3-b.dtb"],
            Self::Pi2 => &["bcm2709-rpi-2-b.dtb", "bcm2836-rpi-2-b.dtb"],
        }
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pi3 => "Raspberry Pi 3",
            Self::Pi2 => "Raspberry Pi 2",
        })
    }
}

/// Takes the files for the first of `boards` that the image has a kernel for into `folder`; with `device_tree`
/// the board's own device tree too.
///
/// # Errors
///
/// The image has no boot partition, or what config.txt names is not on it.
pub fn extract(disk: &Disk, boards: &[Board], device_tree: bool, folder: &Path) -> anyhow::Result<BootFiles> {
    let fat = disk
        .boot()?
        .with_context(|| format!("{} has no FAT boot partition, so there is no kernel to boot", disk.path().display()))?;
    let config = fat.try_text("config.txt")?.unwrap_or_default();
    let mut refusals = Vec::new();
    for &board in boards {
        match one_board(&fat, &config, board, device_tree, folder) {
            Ok(files) => return Ok(files),
            Err(error) => refusals.push(crate::error::one_line(&error)),
        }
    }
    refusals.dedup();
    bail!("the boot partition of {} does not boot: {}", disk.path().display(), refusals.join("; "))
}

fn one_board(boot: &dyn Tree, config: &str, board: Board, device_tree: bool, folder: &Path) -> anyhow::Result<BootFiles> {
    let config = Config::parse(config, board);
    let exists = |name: &str| boot.exists(name).unwrap_or(false);
    let kernel_name = config.kernel(board, exists)?;
    let take = |name: &str, to: &str, what: &str| -> anyhow::Result<PathBuf> {
        let data = boot
            .try_read(name)?
            .with_context(|| format!("config.txt wants the {what} `{name}` for a {board}, which is not on the boot partition"))?;
        let path = folder.join(to);
        fs::write(&path, data).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    };
    let kernel = take(&kernel_name, "kernel", "kernel")?;
    let arch = arch_of(&fs::read(&kernel)?)
        .with_context(|| format!("`{kernel_name}` on the boot partition is no Linux kernel for ARM"))?;
    let initrd = config.initramfs(&kernel_name, exists).map(|name| take(&name, "initrd", "initramfs")).transpose()?;
    let device_tree = if device_tree {
        let names = board.device_trees();
        let name = names
            .iter()
            .find(|name| exists(name))
            .with_context(|| format!("none of the device trees {} for a {board} is on the boot partition", names.join(", ")))?;
        Some(take(name, "device-tree", "device tree")?)
    } else {
        None
    };
    let command_line = boot
        .try_text(&config.command_line)?
        .with_context(|| format!("`{}` with the kernel command line is not on the boot partition", config.command_line))?;
    let command_line = command_line.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(BootFiles { kernel, kernel_name, arch, initrd, device_tree, command_line })
}

/// What of config.txt decides which files are loaded.
#[derive(Debug, PartialEq, Eq)]
struct Config {
    kernel: Option<String>,
    initramfs: Option<String>,
    auto_initramfs: bool,
    arm_64bit: Option<bool>,
    command_line: String,
    prefix: String,
}

impl Config {
    /// Reads `text` as a `board` does: lines below a filter of another board do not count.
    fn parse(text: &str, board: Board) -> Self {
        let mut config = Self {
            kernel: None,
            initramfs: None,
            auto_initramfs: false,
            arm_64bit: None,
            command_line: "cmdline.txt".into(),
            prefix: String::new(),
        };
        let mut counts = true;
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(filter) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                counts = filter == "all" || filter == board.filter();
                continue;
            }
            if !counts {
                continue;
            }
            // `initramfs NAME followkernel` is the one setting without an equals sign.
            if let Some(rest) = line.strip_prefix("initramfs") {
                let name = rest.trim_start_matches(['=', ' ', '\t']).split_whitespace().next();
                config.initramfs = name.map(str::to_owned).or(config.initramfs);
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            match key.trim() {
                "kernel" => config.kernel = Some(value.to_owned()),
                "cmdline" => config.command_line = value.to_owned(),
                "os_prefix" => config.prefix = value.to_owned(),
                "auto_initramfs" => config.auto_initramfs = value == "1",
                "arm_64bit" => config.arm_64bit = Some(value == "1"),
                _ => {}
            }
        }
        let prefix = config.prefix.clone();
        config.command_line.insert_str(0, &prefix);
        config
    }

    /// The kernel's name: as written, or the firmware's default for the board.
    fn kernel(&self, board: Board, exists: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        if let Some(kernel) = &self.kernel {
            return Ok(format!("{}{kernel}", self.prefix));
        }
        let wide = board == Board::Pi3 && self.arm_64bit != Some(false);
        let defaults: &[&str] = if wide { &["kernel8.img", "kernel7.img"] } else { &["kernel7.img"] };
        let found = defaults.iter().map(|name| format!("{}{name}", self.prefix)).find(|name| exists(name));
        found.with_context(|| {
            format!("config.txt names no kernel for a {board}, and {} is not there either", defaults.join(" or "))
        })
    }

    fn initramfs(&self, kernel: &str, exists: impl Fn(&str) -> bool) -> Option<String> {
        if let Some(name) = &self.initramfs {
            return Some(format!("{}{name}", self.prefix));
        }
        // `auto_initramfs=1`: kernel8.img goes with initramfs8.
        let version = kernel.strip_prefix(&self.prefix)?.strip_prefix("kernel")?.strip_suffix(".img")?;
        let name = format!("{}initramfs{version}", self.prefix);
        (self.auto_initramfs && exists(&name)).then_some(name)
    }
}

/// The instruction set that a kernel file is for; `None` where it is no ARM kernel.
fn arch_of(data: &[u8]) -> Option<Arch> {
    let at = |offset: usize, magic: &[u8]| data.get(offset..offset + magic.len()) == Some(magic);
    if at(0, &[0x1f, 0x8b]) {
        let mut head = [0; 64];
        std::io::Read::read_exact(&mut flate2::read::GzDecoder::new(data), &mut head).ok()?;
        // Compressed as a whole only for arm64; an arm zImage unpacks itself.
        return if head[0x38..0x3c] == *b"ARM\x64" { Some(Arch::Arm64) } else { None };
    }
    // Documentation/arch/arm64/booting.rst; an EFI zboot image names its payload instead.
    if at(0x38, b"ARM\x64") || (at(0, b"MZ") && at(4, b"zimg")) {
        return Some(Arch::Arm64);
    }
    // The zImage magic, little-endian.
    at(0x24, &0x016f_2818_u32.to_le_bytes()).then_some(Arch::Arm32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn config_txt() {
        let text = "# a comment\nkernel=old\n[pi2]\nkernel=vmlinuz-armmp\n[pi3]\nkernel=vmlinuz-arm64 \narm_64bit=1\n\
                    [all]\ninitramfs initrd.img followkernel\ncmdline=line.txt\nauto_initramfs=1\ngpu_mem=16\n";
        let pi3 = Config::parse(text, Board::Pi3);
        assert_eq!(pi3.kernel(Board::Pi3, |_| false).unwrap(), "vmlinuz-arm64");
        assert_eq!((pi3.arm_64bit, pi3.command_line.as_str()), (Some(true), "line.txt"));
        assert_eq!(pi3.initramfs("vmlinuz-arm64", |_| true).as_deref(), Some("initrd.img"));
        let pi2 = Config::parse(text, Board::Pi2);
        assert_eq!((pi2.kernel.as_deref(), pi2.arm_64bit), (Some("vmlinuz-armmp"), None));
    }

    #[test]
    fn defaults_of_the_firmware() {
        for (text, board, there, kernel, initramfs) in [
            ("", Board::Pi3, &["kernel8.img"][..], Some("kernel8.img"), None),
            ("auto_initramfs=1", Board::Pi3, &["kernel8.img", "initramfs8"], Some("kernel8.img"), Some("initramfs8")),
            ("arm_64bit=0", Board::Pi3, &["kernel8.img", "kernel7.img"], Some("kernel7.img"), None),
            ("", Board::Pi2, &["kernel8.img", "kernel7.img"], Some("kernel7.img"), None),
            ("os_prefix=a/", Board::Pi3, &["a/kernel8.img"], Some("a/kernel8.img"), None),
            ("", Board::Pi3, &[], None, None),
        ] {
            let exists = |name: &str| there.contains(&name);
            let config = Config::parse(text, board);
            assert_eq!(config.kernel(board, exists).ok().as_deref(), kernel, "{text}");
            let initrd = kernel.and_then(|kernel| config.initramfs(kernel, exists));
            assert_eq!(initrd.as_deref(), initramfs, "{text}");
        }
    }

    #[test]
    fn kernels() {
        let mut arm64 = vec![0; 64];
        arm64[0x38..0x3c].copy_from_slice(b"ARM\x64");
        let mut zimage = vec![0; 64];
        zimage[0x24..0x28].copy_from_slice(&[0x18, 0x28, 0x6f, 0x01]);
        let zip = |data: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        };
        for (data, arch) in [
            (arm64.clone(), Some(Arch::Arm64)),
            (zip(&arm64), Some(Arch::Arm64)),
            (zimage.clone(), Some(Arch::Arm32)),
            (zip(&[0; 64]), None),
            (b"MZ\0\0zimg".to_vec(), Some(Arch::Arm64)),
            (b"\x7fELF".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(arch_of(&data), arch);
        }
    }
}
