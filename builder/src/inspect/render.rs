//! A [`Report`] as text for a terminal of 100 columns.

use std::fmt::Write;

use super::report::{BootReport, Report, SystemReport};
use crate::units::Bytes;

/// Width of a line, as far as words allow.
const WIDTH: usize = 100;
/// Where values begin.
const INDENT: usize = 17;
/// A PARTUUID of an MBR; a GPT's is too long for the table.
const SHORT_PARTUUID: usize = 11;

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let packed = report.compression.map(|compression| format!(", unpacked from {compression}")).unwrap_or_default();
    heading(&mut text, &report.image.display().to_string());
    field(&mut text, "size", &format!("{}{packed}", Bytes(report.size)));
    field(&mut text, "table", report.table.as_deref().unwrap_or("none: a bare file system"));
    for damage in &report.table_damage {
        field(&mut text, "damage", damage);
    }
    partitions(&mut text, report);
    if let Some(boot) = &report.boot {
        render_boot(&mut text, boot);
    }
    if let Some(system) = &report.system {
        render_system(&mut text, system);
    }
    if !report.problems.is_empty() {
        heading(&mut text, "Could not be read");
        for problem in &report.problems {
            field(&mut text, "", problem);
        }
    }
    text
}

fn heading(text: &mut String, title: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(title);
    text.push('\n');
}

/// A name and a value, the value wrapped at spaces.
fn field(text: &mut String, name: &str, value: &str) {
    let mut line = format!("  {name:<width$}", width = INDENT - 2);
    let mut used = INDENT;
    for word in value.split(' ') {
        let length = word.chars().count();
        if used > INDENT && used + 1 + length > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(INDENT);
            used = INDENT;
        }
        if used > INDENT {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn partitions(text: &mut String, report: &Report) {
    heading(text, "Partitions");
    let _ = writeln!(
        text,
        "  {:<2} {:>9} {:>9}  {:<16} {:<6} {:<12} {:>9} {:>9}  PARTUUID",
        "#", "start", "size", "type", "fs", "label", "used", "free"
    );
    for partition in &report.partitions {
        let fs = partition.file_system.as_ref();
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| Bytes(bytes).to_string());
        let used = fs.and_then(|fs| Some(fs.size?.saturating_sub(fs.free?)));
        let line = format!(
            "  {:<2} {:>9} {:>9}  {:<16} {:<6} {:<12} {:>9} {:>9}  {}",
            partition.number,
            Bytes(partition.start).to_string(),
            Bytes(partition.size).to_string(),
            partition.kind.as_deref().unwrap_or("-"),
            fs.map_or("-", |fs| &fs.kind),
            fs.map_or("", |fs| &fs.label),
            size(used),
            size(fs.and_then(|fs| fs.free)),
            partition.partuuid.as_deref().filter(|uuid| uuid.len() <= SHORT_PARTUUID).unwrap_or(""),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for partition in &report.partitions {
        if let Some(partuuid) = partition.partuuid.as_ref().filter(|uuid| uuid.len() > SHORT_PARTUUID) {
            field(text, &format!("PARTUUID of {}", partition.number), partuuid);
        }
        let Some(fs) = &partition.file_system else { continue };
        let state = match fs.clean {
            Some(false) => " (not clean)",
            _ => "",
        };
        let features = if fs.features.is_empty() { String::new() } else { format!("; {}", fs.features.join(" ")) };
        if !fs.uuid.is_empty() {
            field(text, &format!("UUID of {}", partition.number), &format!("{}{state}{features}", fs.uuid));
        }
    }
}

fn render_boot(text: &mut String, boot: &BootReport) {
    heading(text, "Boot");
    field(text, "cmdline.txt", boot.cmdline.as_deref().unwrap_or("missing"));
    field(text, "memory cgroup", if boot.memory_cgroup { "on" } else { "not switched on by the command line" });
    field(text, "config.txt", &boot.config.join("  "));
    // Most boards start the same files: one line for all of these.
    let mut seen: Vec<(String, Vec<&str>)> = Vec::new();
    for start in &boot.starts {
        let kernel = match &start.image {
            None => format!("{} MISSING", start.kernel),
            Some(image) => {
                let version = image.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
                format!("{} ({}{version})", start.kernel, image.kind)
            }
        };
        let initrd = if start.initramfs.is_empty() { String::new() } else { format!(" + {}", start.initramfs.join(" + ")) };
        let files = format!("{kernel}{initrd}");
        match seen.iter_mut().find(|(known, _)| *known == files) {
            Some((_, boards)) => boards.push(start.board.id()),
            None => seen.push((files, vec![start.board.id()])),
        }
    }
    for (files, boards) in seen {
        field(text, "kernel", &files);
        field(text, "  started by", &boards.join(" "));
    }
}

fn render_system(text: &mut String, system: &SystemReport) {
    heading(text, "System");
    let release = system.debian_version.as_ref().map(|version| format!(" ({version})")).unwrap_or_default();
    field(text, "OS", &format!("{}{release}", system.os.as_deref().unwrap_or("unknown")));
    field(text, "userland", system.userland.as_deref().unwrap_or("unknown"));
    if let Some(hostname) = &system.hostname {
        field(text, "host name", hostname);
    }
    field(text, "kernels", &none_if_empty(system.kernels.join(" ")));
    let versions: Vec<String> = system.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    field(text, "packages", &format!("{} packages{}", system.packages, if versions.is_empty() { "" } else { ", of these" }));
    for version in versions {
        field(text, "", &version);
    }
    heading(text, "Cluster");
    match &system.engine {
        None => field(text, "engine", "none"),
        Some(engine) => {
            let version = engine.version.as_deref().unwrap_or("of unknown version");
            let elf = engine.elf.as_ref().map_or_else(|| "no program".to_owned(), ToString::to_string);
            field(text, "engine", &format!("{} {version} ({elf})", engine.program));
            let json = engine.daemon_json.as_ref().map_or_else(|| "none or no JSON".to_owned(), ToString::to_string);
            field(text, "daemon.json", &json);
            field(text, "images", if engine.images.is_empty() { "none" } else { "" });
            for (name, image) in &engine.images {
                let id = image.id.trim_start_matches("sha256:");
                field(text, "", &format!("{name}  {}  {}", id.get(..12).unwrap_or(id), Bytes(image.size)));
            }
        }
    }
    match &system.node {
        None => field(text, "node program", "none"),
        Some(node) => {
            let elf = node.elf.as_ref().map_or_else(|| "no program".to_owned(), ToString::to_string);
            let configured = if node.configured { "" } else { ", not configured (no /etc/hcl/node.toml)" };
            field(text, "node program", &format!("{} ({elf}, {}){configured}", node.program, Bytes(node.size)));
        }
    }
    if let Some(image) = &system.image_json {
        let fields: Vec<String> = image
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_array() && !value.is_object())
            .map(|(key, value)| format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        field(text, "image.json", &fields.join("  "));
    }
}

fn none_if_empty(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}
