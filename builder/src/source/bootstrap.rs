//! A Debian root file system made from locked packages: `mmdebstrap` in a user namespace, offline.
//!
//! The packages come from the cache, already verified; mmdebstrap sees them as an archive of its
//! own. Package scripts run emulated, since they must; what they call most and what costs most
//! (unpacking, indexing kernel modules) is done by the same programs built for this machine,
//! taken from the same suite and put first in `PATH` for the time of the installation.

use std::{
    collections::BTreeSet,
    fs::{self, File, Permissions},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use self::{hooks::NATIVE, work::Work};
use super::{
    deb,
    tool::{Tool, is_installed},
};
use crate::{
    lock::{BootstrapLock, PackageLock},
    progress::Reporter,
    units::{Bytes, Digest},
};

mod hooks;
mod work;

pub use hooks::TOOL_PACKAGES;
pub use work::tidy;

/// What the installation needs to know beyond its packages.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Debian's name of the kernel's architecture.
    pub kernel_architecture: String,
    /// The label that the root file system will carry.
    pub root_label: String,
    /// Words that the kernel command line carries on every board, today and after kernel updates.
    pub kernel_parameters: Vec<String>,
    /// Nothing in the result is younger, in seconds since 1970.
    pub epoch: u64,
}

/// Names what is done with the packages: together with their lock it decides the result.
pub fn recipe(settings: &Settings) -> Digest {
    let scripts = [hooks::extract(Path::new("/"), true), hooks::essential(settings, true), hooks::customize(true)];
    Digest::of(format!("{} {}", scripts.join("\0"), OPTIONS.join(" ")).as_bytes())
}

/// Finds out whether this machine can install `lock` and make file systems, before anything is downloaded for it.
///
/// # Errors
///
/// What is missing, all of it at once.
pub fn ready(lock: &BootstrapLock) -> Result<()> {
    let mut needed =
        vec![("mmdebstrap", "mmdebstrap"), ("arch-test", "arch-test"), ("dpkg-deb", "dpkg"), ("mke2fs", "e2fsprogs")];
    if mode() == "unshare" {
        needed.push(("newuidmap", "uidmap"));
    }
    needed.retain(|(program, _)| !is_installed(program));
    if !needed.is_empty() {
        let (programs, packages): (Vec<&str>, Vec<&str>) = needed.into_iter().unzip();
        let are = if programs.len() == 1 { "is" } else { "are" };
        bail!("{} {are} not installed: apt-get install {}", programs.join(", "), packages.join(" "));
    }
    Tool::new("arch-test", "arch-test").arg(&lock.architecture).output().map(drop).with_context(|| {
        format!(
            "this machine cannot run programs for {}, which package scripts need: apt-get install qemu-user-static binfmt-support",
            lock.architecture
        )
    })
}

/// Options of mmdebstrap that are always the same.
const OPTIONS: [&str; 6] = [
    "--variant=essential",
    "--format=tar",
    "--aptopt=APT::Install-Recommends \"false\"",
    "--aptopt=Acquire::Languages \"none\"",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=force-confold",
];

/// Installs the locked packages and writes the root file system as a tar archive to `output`.
///
/// # Errors
///
/// A package does not fit its lock, mmdebstrap or a package script failed, or the disk is full.
pub fn install(
    lock: &BootstrapLock,
    debs: &[(PackageLock, PathBuf)],
    tools: &[(PackageLock, PathBuf)],
    settings: &Settings,
    output: &Path,
    reporter: &Reporter,
) -> Result<()> {
    let work = Work::create()?;
    let step = reporter.step("package archive");
    write_archive(&work.path().join("archive"), debs)?;
    let native = work.path().join("native");
    unpack_stand_ins(&native, tools)?;
    hooks::write(work.path(), settings, !tools.is_empty())?;
    open_to_all(work.path())?;
    step.done(format!("{} packages", debs.len()));

    let step = reporter.step("Debian base system");
    let tar = File::create(output).with_context(|| format!("creating {}", output.display()))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let hook = |name: &str| format!("sh {}/{name} \"$1\"", work.path().display());
    let architectures = architectures(lock);
    let mut tool = Tool::tied("mmdebstrap", "mmdebstrap", mode() == "root")?
        .args(OPTIONS)
        .arg(format!("--mode={}", mode()))
        .arg(format!("--architectures={}", architectures.join(",")))
        .arg(format!("--include={}", lock.requested.join(",")))
        .arg(format!("--aptopt=DPkg::Path \"{NATIVE}:/usr/sbin:/usr/bin:/sbin:/bin\""))
        .arg(format!("--extract-hook={}", hook("extract")))
        .arg(format!("--essential-hook={}", hook("essential")))
        .arg(format!("--customize-hook={}", hook("customize")))
        .args(["", "-"])
        .arg(format!("deb [trusted=yes] copy:{}/archive ./", work.path().display()))
        .env("PATH", format!("{NATIVE}:{path}:/usr/sbin:/sbin:/usr/bin:/bin"))
        .env("SOURCE_DATE_EPOCH", settings.epoch.to_string())
        .env("TMPDIR", work.path())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("TZ", "UTC");
    tool.command().stdout(tar);
    let mut log = Vec::new();
    let result = tool.watch(|line| {
        log.push(line.to_owned());
        if let Some(text) = line.strip_prefix("I: ") {
            step.detail(text);
        }
    });
    if let Err(error) = result {
        let kept = output.with_extension("log");
        // Where the disk is full there is no room for it either, and that is not what failed first.
        let told = match fs::write(&kept, log.join("\n")) {
            Ok(()) => format!("installing Debian (its whole story is in {})", kept.display()),
            Err(_) => "installing Debian".to_owned(),
        };
        return Err(error.context(told));
    }
    let size = fs::metadata(output).with_context(|| format!("reading {}", output.display()))?.len();
    step.done(Bytes(size).to_string());
    Ok(())
}

/// A user namespace, also for root where root has subordinate ids; plain root otherwise.
fn mode() -> &'static str {
    let name = if rustix::process::geteuid().is_root() { "root" } else { return "unshare" };
    let has_range =
        |file: &str| fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.split(':').next() == Some(name)));
    if has_range("/etc/subuid") && has_range("/etc/subgid") { "unshare" } else { "root" }
}

/// The userland's architecture first, then the others that packages come from.
fn architectures(lock: &BootstrapLock) -> Vec<&str> {
    let mut list = vec![lock.architecture.as_str()];
    let others: BTreeSet<&str> = lock
        .packages
        .iter()
        .map(|package| package.architecture.as_str())
        .filter(|name| *name != "all" && *name != lock.architecture)
        .collect();
    list.extend(others);
    list
}

/// A flat archive: the packages and an index made of their own control files.
fn write_archive(folder: &Path, debs: &[(PackageLock, PathBuf)]) -> Result<()> {
    fs::create_dir(folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut index = String::new();
    for (package, deb) in debs {
        let name = format!("{}_{}.deb", package.name, package.architecture);
        let target = folder.join(&name);
        fs::hard_link(deb, &target)
            .or_else(|_| fs::copy(deb, &target).map(drop))
            .with_context(|| format!("copying {} to {}", deb.display(), target.display()))?;
        let control = deb::member(deb, "control.tar", |path, entry| {
            let mut text = String::new();
            (path == Path::new("control")).then(|| entry.read_to_string(&mut text).map(|_| text)).transpose()
        })?;
        let control = control.into_iter().next().with_context(|| format!("{}: no control file in it", deb.display()))?;
        index.push_str(control.trim_end());
        index.push_str(&format!("\nFilename: ./{name}\nSize: {}\nSHA256: {}\n\n", package.size, package.sha256));
    }
    fs::write(folder.join("Packages"), index).context("writing the index of the package archive")
}

/// Unpacks the stand-ins and the libraries that they need.
fn unpack_stand_ins(folder: &Path, tools: &[(PackageLock, PathBuf)]) -> Result<()> {
    fs::create_dir(folder).with_context(|| format!("creating {}", folder.display()))?;
    for (package, deb) in tools {
        Tool::new("dpkg-deb", "dpkg")
            .arg("-x")
            .arg(deb)
            .arg(folder)
            .output()
            .with_context(|| format!("unpacking {}", package.name))?;
    }
    Ok(())
}

/// Everybody may read: the namespace's users are none of ours, and an umask may have been strict.
fn open_to_all(folder: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.context("walking the work folder")?;
        if entry.file_type().is_symlink() {
            continue;
        }
        let metadata = entry.metadata().context("walking the work folder")?;
        let mode = metadata.permissions().mode() & 0o7777;
        let wanted = mode | 0o444 | if metadata.is_dir() || mode & 0o100 != 0 { 0o111 } else { 0 };
        if mode != wanted {
            fs::set_permissions(entry.path(), Permissions::from_mode(wanted))
                .with_context(|| format!("opening {} to the namespace", entry.path().display()))?;
        }
    }
    Ok(())
}
