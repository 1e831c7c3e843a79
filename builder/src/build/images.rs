//! The container images of a build: pinned, made or got, kept in the cache.

mod make;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::{Options, inputs::digest_of, programs};
use crate::{
    advisory,
    cache::Cache,
    lock::{OciDebianLock, OciLock, OciSourceLock, PackageLock},
    manifest::{FileKind, Manifest, OciDebian, OciFile, OciName, OciSource, OwnProgram},
    oci::ContainerImage,
    progress::Reporter,
    source::{apt, container::debian},
    units::{Bytes, Digest},
};

pub(super) use self::make::obtain;

/// A container image that is ready to go into the engine's store.
#[derive(Clone, Debug)]
pub(super) struct Preloaded {
    /// Its name in the manifest.
    pub name: OciName,
    /// The image.
    pub image: ContainerImage,
    /// What is in each layer, lowest first.
    pub contents: Vec<Contents>,
}

/// What is known of a layer's content.
#[derive(Clone, Debug)]
pub(super) enum Contents {
    /// Debian packages, each with the short names of its licences.
    Packages(Vec<(PackageLock, Vec<String>)>),
    /// A static program.
    Program {
        /// Where it lies.
        path: String,
        /// SHA-256 of it.
        sha256: Digest,
        /// Which of this project's it is.
        own: Option<OwnProgram>,
    },
    /// A layer of an image that others have made.
    Foreign,
    /// Files of the manifest, laid over such an image.
    Files(Vec<String>),
}

/// Pins every image of the manifest, or takes what `--locked` says.
pub(super) fn pin(
    manifest: &Manifest,
    options: &Options,
    cache: &Cache,
    reporter: &Reporter,
) -> Result<BTreeMap<String, OciLock>> {
    let mut pinned = BTreeMap::new();
    for (name, image) in &manifest.images {
        let locked = options.locked.as_ref().map(|lock| lock.images.get(name.as_str()).map(|image| &image.source));
        let source = match &image.source {
            OciSource::Debian(source) => match locked {
                Some(Some(OciSourceLock::Debian(locked))) => OciSourceLock::Debian(locked.clone()),
                Some(_) => bail!("the lock has no Debian packages for the container image {name}: build without --locked"),
                None => OciSourceLock::Debian(resolve(manifest, name, source, options, cache, reporter)?),
            },
            OciSource::Binary(source) => OciSourceLock::File { sha256: file_digest(manifest, options, &source.file)? },
            OciSource::Archive(source) => OciSourceLock::File { sha256: file_digest(manifest, options, &source.file)? },
            OciSource::Registry(source) => OciSourceLock::Registry { sha256: source.image.parts().2 },
        };
        let mut files = BTreeMap::new();
        for file in &image.files {
            if let FileKind::Source(source) = &file.kind {
                files.insert(file.path.to_string(), digest_of(&source.path)?);
            }
        }
        let lock = OciLock { reference: image.reference.to_string(), source, files };
        warn(name, &lock, reporter);
        pinned.insert(name.to_string(), lock);
    }
    Ok(pinned)
}

fn file_digest(manifest: &Manifest, options: &Options, file: &OciFile) -> Result<Digest> {
    match file {
        OciFile::Web { sha256, .. } | OciFile::Local { sha256: Some(sha256), .. } => Ok(*sha256),
        OciFile::Local { path, sha256: None } => digest_of(&path.path),
        OciFile::Own { program } => digest_of(&programs::own(options, *program, manifest.architecture())?),
    }
}

fn resolve(
    manifest: &Manifest,
    name: &OciName,
    source: &OciDebian,
    options: &Options,
    cache: &Cache,
    reporter: &Reporter,
) -> Result<OciDebianLock> {
    let suites: Vec<String> = source.suites.iter().map(ToString::to_string).collect();
    let request = apt::Request {
        mirror: options.mirror.clone().or_else(|| source.mirror.as_ref().map(ToString::to_string)),
        suites: suites.clone(),
        components: source.components.iter().map(ToString::to_string).collect(),
        architecture: manifest.architecture().debian().to_owned(),
        foreign: Vec::new(),
        packages: source.packages.iter().map(ToString::to_string).collect(),
        essential: false,
        assumed: debian::NEVER.map(str::to_owned).into_iter().chain(source.without.iter().map(ToString::to_string)).collect(),
        keyring: source.keyring.as_ref().map(|path| path.path.clone()),
        tools: Vec::new(),
        tools_architecture: None,
        purpose: Some(name.to_string()),
        advice: format!(
            "if it has left the mirror, as a release does some time after its support has ended, give a saved image in \
             images.{name}.archive, or a mirror that still has it in images.{name}.debian.mirror"
        ),
    };
    let found = apt::resolve(&request, &cache.root().join("apt"), reporter)
        .with_context(|| format!("container image {name} from Debian {}", suites.join(", ")))?;
    let apt::Resolved { suite, codename, release, mirror, packages, .. } = found;
    Ok(OciDebianLock { suite, codename, release, mirror, packages })
}

/// One line for what is known to be open and stays so.
fn warn(name: &OciName, lock: &OciLock, reporter: &Reporter) {
    let OciSourceLock::Debian(debian) = &lock.source else { return };
    for package in &debian.packages {
        if let Some(known) = advisory::known(&package.name, &package.version) {
            let numbers: Vec<&str> = known.open.iter().map(|weakness| weakness.cve).collect();
            reporter.note(format!(
                "Note: {} is {} {} of Debian {}, which gets no more updates; open in it (as of {}): {}; for another version \
                 give a saved image in images.{name}.archive",
                lock.reference,
                package.name,
                package.version,
                debian.codename,
                known.checked,
                numbers.join(", ")
            ));
        }
    }
}

/// The images as `hcl-image plan` shows them: one line each, and one for what is in each layer.
pub(super) fn describe(pinned: &BTreeMap<String, OciLock>) -> String {
    let mut text = String::new();
    for (name, lock) in pinned {
        let source = match &lock.source {
            OciSourceLock::Debian(debian) => {
                let bytes = Bytes(debian.packages.iter().map(|package| package.size).sum());
                let packages: Vec<String> =
                    debian.packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
                format!(
                    "Debian {} ({}), {bytes} to download at most\nlayer   {}",
                    debian.release,
                    debian.codename,
                    packages.join(", ")
                )
            }
            OciSourceLock::File { sha256 } => format!("a file, SHA-256 {sha256}"),
            OciSourceLock::Registry { sha256 } => format!("a registry, manifest {sha256}"),
        };
        text.push_str(&format!("store   {} as {name} from {source}\n", lock.reference));
        for (path, digest) in &lock.files {
            text.push_str(&format!("layer   {path}, SHA-256 {digest}\n"));
        }
    }
    text
}
