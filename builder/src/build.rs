//! A build from manifest to image: lock, base, plan, edit, check, output, each step its own.

mod base;
mod contents;
mod images;
mod inputs;
mod programs;
mod summary;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cache::Cache,
    check::{self, Evidence, Finding, Severity},
    engine_store,
    image::{disk::Disk, edit, grow, output::Compression, output::Output, sparse::copy_sparse, table::PartitionTable},
    keys::{ClusterKeyFile, Keys},
    lock::{BaseLock, Lock},
    manifest::{Compress, Manifest, OciName, Preload, Table},
    oci::ContainerImage,
    plan::{Edit, Plan},
    progress::Reporter,
    source::apt::day,
    units::Bytes,
};

pub use summary::Summary;

/// What the command line adds to the manifest.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The image, instead of `out/hcl-NAME.img`.
    pub output: Option<PathBuf>,
    /// The cache, instead of the user's.
    pub cache: Option<PathBuf>,
    /// The folder of cluster keys, instead of the user's.
    pub keys: Option<PathBuf>,
    /// No cluster key and no login of this machine's goes into the image: it can be shared.
    pub no_key: bool,
    /// The node program's binary, instead of what `make` has built.
    pub node_program: Option<PathBuf>,
    /// The binary of `hcl-swarm`, instead of the one beside the node program's.
    pub swarm_program: Option<PathBuf>,
    /// The Debian mirror, instead of the manifest's or the host's.
    pub mirror: Option<String>,
    /// Build exactly this.
    pub locked: Option<Lock>,
}

/// Builds the image of `manifest`.
///
/// # Errors
///
/// Whatever failed. No image stands under the output's name then that was not there before.
pub fn build(manifest: &Manifest, options: &Options, reporter: &Reporter) -> Result<Summary> {
    for warning in manifest.warnings() {
        reporter.note(format!("Note: {warning}"));
    }
    let target = target(manifest, options);
    let cache = Cache::open(options.cache.as_deref())?;
    let folder = options.keys.as_deref();
    let cluster_key = if options.no_key { None } else { Some(ClusterKeyFile::open(folder, manifest.cluster())?) };
    let keys = if pair_is_needed(manifest, options) { Some(Keys::open(folder, manifest.cluster())?) } else { None };
    // First, so that a target that cannot be written costs no bootstrap, and nobody else builds the same.
    let mut output = Output::create(&target)?;
    let lock = suffixed(&target, "lock");
    output.reserve(&lock)?;

    let gathered = inputs::gather(manifest, options, keys.as_ref(), cluster_key.as_ref(), &cache, reporter)?;
    let base = base::obtain(manifest, &gathered.lock, gathered.origin.as_ref(), &cache, reporter)?;
    let preloaded = images::obtain(manifest, options, &gathered.lock.images, gathered.lock.epoch, &cache, reporter)?;
    let images: Vec<ContainerImage> = preloaded.iter().map(|preloaded| preloaded.image.clone()).collect();

    let step = reporter.step("copy of the base");
    let from = std::fs::File::open(&base).with_context(|| format!("opening {}", base.display()))?;
    copy_sparse(&from, output.file()).with_context(|| format!("copying {} to {}", base.display(), output.path().display()))?;
    let payload = gathered.payload_size()?.0 + engine_store::room(&images).0;
    let (boot, root) = partitions(output.path(), reporter)?;
    let grown =
        grow::root(output.file(), output.path(), root, Bytes(payload + manifest.output.root_free.0), gathered.lock.epoch)?;
    step.done(grown.map_or_else(String::new, |size| format!("root grown to {size}")));

    let mut plan = Plan::new(manifest, &gathered.inputs);
    plan.edits.extend(contents::describe(manifest, &gathered, &preloaded)?);
    if !images.is_empty() {
        plan.edits.push(match manifest.engine.preload {
            Preload::Store => Edit::Images(images),
            Preload::Load => Edit::Archives(images),
        });
    }
    let step = reporter.step("injection");
    let table = table_of(output.path())?;
    let find = |number: u32| table.partition(number).with_context(|| format!("partition {number} is missing in the base"));
    edit::apply(output.file(), find(boot)?, find(root)?, &plan, gathered.lock.epoch)?;
    step.done(format!("{} edits", plan.edits.len()));

    let step = reporter.step("check");
    verify(output.path(), manifest, options.no_key, reporter)?;
    step.done("");

    output.attach(lock, gathered.lock.render()?.into_bytes());
    let compress = match manifest.output.compress {
        Compress::None => &[][..],
        Compress::Xz => &[Compression::Xz],
        Compress::Zstd => &[Compression::Zstd],
    };
    let finished = output.finish(compress, reporter)?;
    Ok(Summary::new(manifest, &gathered, keys.as_ref(), cluster_key.as_ref(), finished, reporter))
}

/// The plan and the lock of a build that is not done.
///
/// # Errors
///
/// Anything that would stop the build before its base is made.
pub fn plan(manifest: &Manifest, options: &Options, reporter: &Reporter) -> Result<(Lock, Plan)> {
    let cache = Cache::open(options.cache.as_deref())?;
    let folder = options.keys.as_deref();
    let cluster_key = if options.no_key { None } else { ClusterKeyFile::find(folder, manifest.cluster())? };
    let keys = if pair_is_needed(manifest, options) { Keys::find(folder, manifest.cluster())? } else { None };
    let gathered = inputs::gather(manifest, options, keys.as_ref(), cluster_key.as_ref(), &cache, reporter)?;
    let plan = Plan::new(manifest, &gathered.inputs);
    Ok((gathered.lock, plan))
}

/// The container images of `manifest` by name, in the cache and ready for an engine's store. Nothing in those of our own
/// making is younger than `epoch`, in seconds since 1970.
///
/// # Errors
///
/// One of them cannot be made or had.
pub fn images(manifest: &Manifest, options: &Options, epoch: u64, reporter: &Reporter) -> Result<Vec<(OciName, ContainerImage)>> {
    let cache = Cache::open(options.cache.as_deref())?;
    let pinned = images::pin(manifest, options, &cache, reporter)?;
    let images = images::obtain(manifest, options, &pinned, epoch, &cache, reporter)?;
    Ok(images.into_iter().map(|preloaded| (preloaded.name, preloaded.image)).collect())
}

/// The plan as text: where the base comes from, the partitions, every edit.
pub fn describe(manifest: &Manifest, options: &Options, lock: &Lock, plan: &Plan) -> String {
    let base = match &lock.base {
        BaseLock::Download { sha256 } => format!("downloaded image, SHA-256 {sha256}"),
        BaseLock::Bootstrap(base) => {
            let bytes = Bytes(base.packages.iter().map(|package| package.size).sum());
            format!(
                "Debian {} ({}, suite {}), {}, {} packages, {bytes} to download at most",
                base.release,
                base.codename,
                base.suite,
                base.architecture,
                base.packages.len()
            )
        }
    };
    let Manifest { output, boards, .. } = manifest;
    let boards: Vec<&str> = boards.iter().map(|board| board.id()).collect();
    format!(
        "image   {}\nbase    {base}\nboards  {}\ntable   {}, boot partition {}, {} free in the root partition\ntime    {} ({})\n{}{plan}",
        target(manifest, options).display(),
        boards.join(" "),
        if output.table == Table::Gpt { "GPT" } else { "MBR" },
        output.boot_size,
        output.root_free,
        lock.epoch,
        day(lock.epoch),
        images::describe(&lock.images),
    )
}

/// Whether this machine's own key pair is to open the image. Never one to share: it would open everybody's cards.
fn pair_is_needed(manifest: &Manifest, options: &Options) -> bool {
    manifest.user.ssh_keys.is_empty() && !options.no_key
}

fn target(manifest: &Manifest, options: &Options) -> PathBuf {
    options.output.clone().unwrap_or_else(|| PathBuf::from(format!("out/hcl-{}.img", manifest.name)))
}

/// Numbers of boot and root partition.
fn partitions(image: &Path, reporter: &Reporter) -> Result<(u32, u32)> {
    let disk = Disk::open(image, reporter)?;
    let boot = disk.boot_number()?.context("the base has no FAT boot partition: no Pi would start from it")?;
    let root = disk.root_number()?.context("the base has no root file system that its command line names")?;
    ensure!(boot != root, "boot and root partition of the base are one");
    Ok((boot, root))
}

fn table_of(image: &Path) -> Result<PartitionTable> {
    let mut file = std::fs::File::open(image).with_context(|| format!("opening {}", image.display()))?;
    PartitionTable::read(&mut file)?.context("the base has no partition table")
}

/// No image is called done that would not boot or not cluster. What `hcl-image key` adds to an image to share may be missing.
fn verify(image: &Path, manifest: &Manifest, no_key: bool, reporter: &Reporter) -> Result<()> {
    let disk = Disk::open(image, reporter)?;
    let evidence = Evidence::gather(&disk, &manifest.boards, reporter)?;
    let (errors, warnings): (Vec<Finding>, Vec<Finding>) = check::run(&evidence).into_iter().partition(|finding| {
        let comes_later = no_key && ["node.key", "users.login"].contains(&finding.rule);
        finding.severity == Severity::Error && !comes_later
    });
    for warning in warnings {
        reporter.note(format!("  Note: {} ({})", warning.message, warning.rule));
    }
    let errors: Vec<String> = errors.into_iter().map(|error| format!("{} ({})", error.message, error.rule)).collect();
    if !errors.is_empty() {
        bail!("the image would not work, so it was not kept: {}", errors.join("; "));
    }
    Ok(())
}

/// `hcl-x.img` → `hcl-x.lock`.
fn suffixed(target: &Path, extension: &str) -> PathBuf {
    target.with_extension(extension)
}
