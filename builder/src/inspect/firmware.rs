//! `config.txt` as the firmware reads it: filters, `include`, and what follows for kernel, initrd,
//! device tree and firmware files.
//!
//! Source: Raspberry Pi's documentation, "config.txt": "What is config.txt", "Boot options",
//! "Conditional filters".

use std::collections::BTreeMap;

use crate::manifest::Board;

/// Characters of a line that the firmware reads; what is behind is ignored.
pub const MAX_LINE: usize = 98;
/// Files may include files; deeper is a circle.
const MAX_DEPTH: usize = 8;

/// `config.txt` as one board sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The last value of each key.
    pub values: BTreeMap<String, String>,
    /// Files of the last `initramfs` or `ramfsfile` line.
    pub initramfs: Vec<String>,
    /// Lines that cannot mean what they say, whatever the board.
    pub complaints: Vec<String>,
}

/// Which family of filters a section heading belongs to. Filters of one family replace each other,
/// those of different families must all hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Model,
    BoardType,
    Serial,
    Edid,
    Gpio,
    Tryboot,
    Other,
}

impl Config {
    /// Reads `text` as `board` would. `file` gives the text of an included file.
    pub fn parse(text: &str, board: Board, file: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut config = Self::default();
        let mut filters = BTreeMap::new();
        config.read("config.txt", text, board, file, &mut filters, 0);
        config
    }

    fn read(
        &mut self,
        name: &str,
        text: &str,
        board: Board,
        file: &dyn Fn(&str) -> Option<String>,
        filters: &mut BTreeMap<Family, bool>,
        depth: usize,
    ) {
        for (number, line) in text.lines().enumerate() {
            let at = || format!("{name} line {}", number + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.chars().count() > MAX_LINE {
                self.complaints.push(format!("{} is longer than {MAX_LINE} characters: the rest is ignored", at()));
            }
            let line = line.char_indices().nth(MAX_LINE).map_or(line, |(end, _)| &line[..end]);
            if let Some(heading) = line.strip_prefix('[') {
                let Some(heading) = heading.strip_suffix(']') else {
                    self.complaints.push(format!("{}: the filter `{line}` has no closing bracket", at()));
                    continue;
                };
                match filter(heading, board) {
                    Some((_, true)) if heading == "all" => filters.clear(),
                    Some((family, holds)) => {
                        filters.insert(family, holds);
                    }
                    None => {
                        self.complaints.push(format!("{}: no board knows the filter `[{heading}]`", at()));
                        filters.insert(Family::Model, false);
                    }
                }
                continue;
            }
            if !filters.values().all(|holds| *holds) {
                continue;
            }
            if let Some(included) = line.strip_prefix("include ").map(str::trim) {
                match file(included) {
                    Some(text) if depth < MAX_DEPTH => self.read(included, &text, board, file, filters, depth + 1),
                    Some(_) => self.complaints.push(format!("{}: `{included}` includes itself", at())),
                    None => self.complaints.push(format!("{}: the included file `{included}` is missing", at())),
                }
            } else if let Some(names) = line.strip_prefix("initramfs ") {
                self.initramfs = split_files(names.split_whitespace().next().unwrap_or_default());
            } else if let Some((key, value)) = line.split_once('=') {
                let (key, value) = (key.trim(), value.trim());
                if key == "ramfsfile" {
                    self.initramfs = split_files(value);
                }
                self.values.insert(key.to_owned(), value.to_owned());
            } else {
                self.complaints.push(format!("{}: `{line}` is no `key=value`", at()));
            }
        }
    }

    /// A key's value.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    fn is_set(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value != "0")
    }
}

fn split_files(names: &str) -> Vec<String> {
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether a section applies to `board`. `None` if no firmware knows the heading.
fn filter(heading: &str, board: Board) -> Option<(Family, bool)> {
    const MODELS: [&str; 16] =
        ["pi0", "pi0w", "pi02", "pi1", "pi2", "pi3", "pi3+", "pi4", "pi400", "pi5", "pi500", "cm0", "cm4", "cm4s", "cm5", "none"];
    let lower = heading.to_ascii_lowercase();
    if lower == "all" {
        return Some((Family::Model, true));
    }
    if MODELS.contains(&lower.as_str()) {
        return Some((Family::Model, models(board).contains(&lower.as_str())));
    }
    if let Some(number) = lower.strip_prefix("board-type=") {
        let number = u32::from_str_radix(number.trim_start_matches("0x"), 16).ok()?;
        return Some((Family::BoardType, number == board_type(board)));
    }
    // Nothing of these is known of a board in general: not the serial number, the monitor or a pin.
    let family = if lower.starts_with("0x") {
        Family::Serial
    } else if lower.starts_with("edid=") {
        Family::Edid
    } else if lower.starts_with("gpio") {
        Family::Gpio
    } else if lower == "tryboot" {
        Family::Tryboot
    } else if lower.starts_with("hdmi:") || lower.starts_with("partition") || lower.starts_with("boot_") {
        Family::Other
    } else {
        return None;
    };
    // A section for a port still applies: the port's settings are of no interest here.
    Some((family, lower.starts_with("hdmi:")))
}

/// The model filters that a board answers to.
fn models(board: Board) -> &'static [&'static str] {
    match board {
        Board::Pi2 => &["pi2"],
        Board::Pi3 | Board::Cm3 => &["pi3"],
        Board::Pi3Plus | Board::Pi3A => &["pi3", "pi3+"],
        Board::Zero2W => &["pi0", "pi02"],
        Board::Pi4 => &["pi4"],
        Board::Pi400 => &["pi4", "pi400"],
        Board::Cm4 => &["pi4", "cm4"],
        Board::Pi5 => &["pi5"],
    }
}

/// The type in a new-style revision code.
fn board_type(board: Board) -> u32 {
    match board {
        Board::Pi2 => 0x04,
        Board::Pi3 => 0x08,
        Board::Cm3 => 0x0a,
        Board::Pi3Plus => 0x0d,
        Board::Pi3A => 0x0e,
        Board::Pi4 => 0x11,
        Board::Zero2W => 0x12,
        Board::Pi400 => 0x13,
        Board::Cm4 => 0x14,
        Board::Pi5 => 0x17,
    }
}

/// What the firmware of a board loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The board.
    pub board: Board,
    /// Firmware files in front of the kernel; none on a Pi 5, which has it in its EEPROM.
    pub firmware: Vec<String>,
    /// Whether the kernel is started in 64-bit mode.
    pub arm_64bit: bool,
    /// Kernel file: the first of these that exists, or the one named.
    pub kernels: Vec<String>,
    /// Initrd files; all of them are loaded.
    pub initramfs: Vec<String>,
    /// Device tree: the first of these that exists.
    pub device_trees: Vec<String>,
    /// The kernel's command line.
    pub cmdline: String,
}

impl Start {
    /// What `config` makes the firmware of `board` load. `exists` says whether a file is on the boot partition.
    pub fn new(config: &Config, board: Board, exists: &dyn Fn(&str) -> bool) -> Self {
        let new_loader = matches!(board, Board::Pi4 | Board::Pi400 | Board::Cm4);
        let named = config.value("kernel");
        let arm_64bit = match (board, named, config.value("arm_64bit")) {
            (Board::Pi5, ..) => true,
            (Board::Pi2, ..) => false,
            (_, Some("kernel8.img"), _) => true,
            (_, Some("kernel.img" | "kernel7.img" | "kernel7l.img"), _) => false,
            (_, _, Some(value)) => value != "0",
            (_, _, None) => new_loader,
        };
        let kernels: Vec<&str> = match (named, board, arm_64bit) {
            (Some(name), ..) => vec![name],
            (None, Board::Pi5, _) => vec!["kernel_2712.img", "kernel8.img"],
            (None, _, true) => vec!["kernel8.img"],
            (None, _, false) if new_loader => vec!["kernel7l.img"],
            (None, _, false) => vec!["kernel7.img"],
        };
        let trees = match config.value("device_tree") {
            Some(name) => vec![name],
            None if config.is_set("upstream_kernel") => vec![board.dtb(), board.vendor_dtb()],
            None => vec![board.vendor_dtb(), board.dtb()],
        };
        let prefix = config.value("os_prefix").or(config.is_set("upstream_kernel").then_some("upstream/")).unwrap_or("");
        // A prefix under which kernel and device tree are not both there is ignored.
        let viable = |names: &[&str]| names.iter().any(|name| exists(&prefixed(prefix, name)));
        let prefix = if viable(&kernels) && viable(&trees) { prefix } else { "" };
        let kernels: Vec<String> = kernels.iter().map(|name| prefixed(prefix, name)).collect();
        let initramfs = if config.initramfs.is_empty() && config.is_set("auto_initramfs") {
            kernels.iter().find(|name| exists(name)).and_then(|kernel| automatic_initramfs(kernel)).into_iter().collect()
        } else {
            config.initramfs.iter().map(|name| prefixed(prefix, name)).collect()
        };
        Self {
            board,
            firmware: firmware(config, board, exists),
            arm_64bit,
            kernels,
            initramfs,
            device_trees: trees.iter().map(|name| prefixed(prefix, name)).collect(),
            cmdline: prefixed(prefix, config.value("cmdline").unwrap_or("cmdline.txt")),
        }
    }
}

fn prefixed(prefix: &str, name: &str) -> String {
    name.strip_prefix('/').map_or_else(|| format!("{prefix}{name}"), str::to_owned)
}

/// `kernel8.img` goes with `initramfs8`.
fn automatic_initramfs(kernel: &str) -> Option<String> {
    let (folder, name) = kernel.rsplit_once('/').map_or((String::new(), kernel), |(folder, name)| (format!("{folder}/"), name));
    Some(format!("{folder}initramfs{}", name.strip_prefix("kernel")?.strip_suffix(".img")?))
}

fn firmware(config: &Config, board: Board, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let new_loader = match board {
        Board::Pi5 => return Vec::new(),
        Board::Pi4 | Board::Pi400 | Board::Cm4 => true,
        _ => false,
    };
    let mut files: Vec<String> = if new_loader { vec![] } else { vec!["bootcode.bin".into()] };
    if let (Some(start), Some(fixup)) = (config.value("start_file"), config.value("fixup_file")) {
        files.extend([start.to_owned(), fixup.to_owned()]);
        return files;
    }
    let four = if new_loader { "4" } else { "" };
    // The cut-down firmware comes with 16 MiB of graphics memory, by documentation.
    let (old, variant) = if config.is_set("start_x") {
        ("_x", "x")
    } else if config.is_set("start_debug") {
        ("_db", "db")
    } else if config.value("gpu_mem") == Some("16") {
        ("_cd", "cd")
    } else {
        ("", "")
    };
    let suffix = if new_loader { variant } else { old };
    let names = [format!("start{four}{suffix}.elf"), format!("fixup{four}{suffix}.dat")];
    if new_loader && !variant.is_empty() && !names.iter().all(|name| exists(name)) {
        files.extend([format!("start{old}.elf"), format!("fixup{old}.dat")]);
    } else {
        files.extend(names);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(text: &str, board: Board, files: &[&str]) -> Start {
        let exists = |name: &str| files.contains(&name);
        Start::new(&Config::parse(text, board, &|_| None), board, &exists)
    }

    #[test]
    fn defaults_per_board() {
        for (board, arm_64bit, kernel, firmware) in [
            (Board::Pi2, false, "kernel7.img", "bootcode.bin start.elf fixup.dat"),
            (Board::Pi3, false, "kernel7.img", "bootcode.bin start.elf fixup.dat"),
            (Board::Pi4, true, "kernel8.img", "start4.elf fixup4.dat"),
            (Board::Pi5, true, "kernel_2712.img", ""),
        ] {
            let start = start("", board, &[]);
            assert_eq!((start.arm_64bit, start.kernels[0].as_str()), (arm_64bit, kernel), "{board}");
            assert_eq!(start.firmware.join(" "), firmware, "{board}");
        }
        assert_eq!(start("arm_64bit=0", Board::Pi4, &[]).kernels, ["kernel7l.img"]);
        assert!(start("kernel=kernel8.img", Board::Pi3, &[]).arm_64bit);
    }

    #[test]
    fn filters_combine_and_replace() {
        let text = "a=1\n[pi3]\na=2\n[pi3+]\na=3\n[pi4]\na=4\n[gpio4=1]\na=5\n[all]\nb=1\n[none]\nb=2\n[board-type=0x12]\n[all]\n[board-type=0x12]\nc=1\n";
        for (board, a, c) in [
            (Board::Pi2, "1", None),
            (Board::Pi3, "2", None),
            (Board::Pi3Plus, "3", None),
            (Board::Pi4, "4", None),
            (Board::Zero2W, "1", Some("1")),
        ] {
            let config = Config::parse(text, board, &|_| None);
            assert_eq!((config.value("a"), config.value("b"), config.value("c")), (Some(a), Some("1"), c), "{board}");
            assert_eq!(config.complaints, Vec::<String>::new());
        }
    }

    #[test]
    fn includes_and_complaints() {
        let file = |name: &str| match name {
            "extra.txt" => Some("kernel=mine\n".to_owned()),
            "loop.txt" => Some("include loop.txt\n".to_owned()),
            _ => None,
        };
        let config = Config::parse("include extra.txt\n", Board::Pi3, &file);
        assert_eq!(config.value("kernel"), Some("mine"));
        for (text, word) in [
            ("include loop.txt", "itself"),
            ("include gone.txt", "missing"),
            ("[pi9]\nkernel=x", "[pi9]"),
            ("[pi3", "bracket"),
            ("nonsense", "nonsense"),
            (&format!("kernel={}", "x".repeat(100)), "98"),
        ] {
            let config = Config::parse(text, Board::Pi3, &file);
            assert!(config.complaints.iter().any(|complaint| complaint.contains(word)), "{:?}", config.complaints);
        }
    }

    #[test]
    fn prefixes_initramfs_and_trees() {
        let text = "upstream_kernel=1\nkernel=vmlinuz\ninitramfs initrd.img,extra followkernel\n";
        let plain = start(text, Board::Pi3, &["vmlinuz", "bcm2837-rpi-3-b.dtb"]);
        assert_eq!(plain.kernels, ["vmlinuz"]);
        assert_eq!(plain.initramfs, ["initrd.img", "extra"]);
        assert_eq!(plain.device_trees[0], "bcm2837-rpi-3-b.dtb");
        let upstream = start(text, Board::Pi3, &["upstream/vmlinuz", "upstream/bcm2837-rpi-3-b.dtb"]);
        assert_eq!((upstream.kernels[0].as_str(), upstream.cmdline.as_str()), ("upstream/vmlinuz", "upstream/cmdline.txt"));
        let automatic = start("auto_initramfs=1\narm_64bit=1", Board::Pi3, &["kernel8.img"]);
        assert_eq!(automatic.initramfs, ["initramfs8"]);
    }
}
