//! What a machine says of itself: board, memory, heat, room.

use std::{fs, path::Path};

use super::{Card, Memory, Node};

/// Fills in what the machine whose root is `root` says. What it does not say stays unknown.
pub fn describe(node: &mut Node, root: &Path) {
    node.arch = arch().to_owned();
    node.board = board(root);
    node.uptime_s = first_number(root, "proc/uptime").map(|seconds| seconds as u64);
    node.load = first_number(root, "proc/loadavg").map(|load| load as f32);
    node.processors = processors(root);
    node.memory = memory(root);
    node.temperature_c = temperature(root);
    node.card = card(root);
}

/// The engine's word: images are asked for by it. The kernel may be another; a 64-bit one runs this program of 32 bits as well.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

fn text(root: &Path, path: &str) -> Option<String> {
    let bytes = fs::read(root.join(path)).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
}

fn first_number(root: &Path, path: &str) -> Option<f64> {
    text(root, path)?.split_whitespace().next()?.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// The device tree's `model`; on a PC what its firmware calls it.
fn board(root: &Path) -> String {
    let sources = ["sys/firmware/devicetree/base/model", "sys/class/dmi/id/product_name"];
    let found = sources.iter().filter_map(|path| text(root, path)).find(|name| !name.is_empty());
    match found.as_deref() {
        // QEMU's `-M virt`.
        Some("linux,dummy-virt") => "QEMU virtual machine".to_owned(),
        _ => found.unwrap_or_default(),
    }
}

fn processors(root: &Path) -> Option<u32> {
    let stat = text(root, "proc/stat")?;
    let is_one = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    Some(stat.lines().filter(is_one).count() as u32).filter(|count| *count > 0)
}

fn memory(root: &Path) -> Option<Memory> {
    let table = text(root, "proc/meminfo")?;
    let bytes = |name: &str| {
        let rest = table.lines().find_map(|line| line.strip_prefix(name))?;
        rest.strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { total: bytes("MemTotal:")?, available: bytes("MemAvailable:")? })
}

/// The hottest of the processor's zones; where none says that it is the processor's, the hottest of all.
fn temperature(root: &Path) -> Option<f32> {
    let zones = fs::read_dir(root.join("sys/class/thermal")).ok()?.flatten();
    let read = zones.filter_map(|zone| {
        let kind = text(&zone.path(), "type")?;
        let celsius = text(&zone.path(), "temp")?.parse::<i32>().ok()? as f32 / 1000.0;
        let of_processor = ["cpu", "soc", "pkg"].iter().any(|part| kind.contains(part));
        // Sensors that are off say 0, or what no board outlives.
        (celsius > 0.0 && celsius < 150.0).then_some((of_processor, celsius))
    });
    let hottest = read.max_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal))?;
    Some((hottest.1 * 10.0).round() / 10.0)
}

fn card(root: &Path) -> Option<Card> {
    let about = rustix::fs::statvfs(root).ok()?;
    Some(Card { total: about.f_blocks.checked_mul(about.f_frsize)?, free: about.f_bavail.checked_mul(about.f_frsize)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn described(files: &[(&str, &str)]) -> Node {
        let mut node = Node::default();
        describe(&mut node, root(files).path());
        node
    }

    #[test]
    fn a_pi() {
        let node = described(&[
            ("sys/firmware/devicetree/base/model", "Raspberry Pi 3 Model B Rev 1.2\0"),
            ("proc/meminfo", "MemTotal:         946000 kB\nMemFree:  1 kB\nMemAvailable:     500000 kB\n"),
            ("proc/uptime", "61.93 200.00\n"),
            ("proc/loadavg", "0.25 0.10 0.05 1/100 999\n"),
            ("proc/stat", "cpu  1 2\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\nintr 5\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48549\n"),
            ("sys/class/thermal/cooling_device0/type", "gpio-fan\n"),
        ]);
        assert_eq!(node.board, "Raspberry Pi 3 Model B Rev 1.2");
        assert_eq!(node.memory, Some(Memory { total: 946_000 << 10, available: 500_000 << 10 }));
        assert_eq!((node.uptime_s, node.load, node.processors), (Some(61), Some(0.25), Some(4)));
        assert_eq!(node.temperature_c, Some(48.5));
    }

    #[test]
    fn a_machine_that_says_nothing() {
        let node = described(&[]);
        let Node { board, memory, uptime_s, load, processors, temperature_c, .. } = &node;
        assert_eq!((board.as_str(), memory, uptime_s, load, processors, temperature_c), ("", &None, &None, &None, &None, &None));
        // The folder itself lies on some file system.
        let card = node.card.unwrap();
        assert!(card.total > 0 && card.free <= card.total);
    }

    #[test]
    fn what_is_no_figure_is_none() {
        let zone = |name: &str, file: &str| format!("sys/class/thermal/{name}/{file}");
        type Zone = (&'static str, &'static str, &'static str);
        let cases: [(&[Zone], Option<f32>); 4] = [
            (&[("thermal_zone0", "acpitz", "27800"), ("thermal_zone1", "x86_pkg_temp", "25000")], Some(25.0)),
            (&[("thermal_zone0", "acpitz", "27800"), ("thermal_zone1", "iwlwifi", "x")], Some(27.8)),
            (&[("thermal_zone0", "cpu-thermal", "0")], None),
            (&[("thermal_zone0", "cpu-thermal", "200000000")], None),
        ];
        for (zones, expected) in cases {
            let named: Vec<_> =
                zones.iter().flat_map(|(name, kind, temp)| [(zone(name, "type"), *kind), (zone(name, "temp"), *temp)]).collect();
            let files: Vec<_> = named.iter().map(|(path, content)| (path.as_str(), *content)).collect();
            assert_eq!(described(&files).temperature_c, expected, "{zones:?}");
        }
        let node = described(&[
            ("proc/meminfo", "MemTotal: 99999999999999999999 kB\nMemAvailable: 1 kB\n"),
            ("proc/uptime", "NaN"),
            ("proc/loadavg", "-1"),
            ("sys/firmware/devicetree/base/model", "\0"),
            ("sys/class/dmi/id/product_name", "Standard PC\n"),
        ]);
        assert_eq!((node.memory, node.uptime_s, node.load), (None, None, None));
        assert_eq!(node.board, "Standard PC");
        assert_eq!(described(&[("sys/firmware/devicetree/base/model", "linux,dummy-virt\0")]).board, "QEMU virtual machine");
    }
}
