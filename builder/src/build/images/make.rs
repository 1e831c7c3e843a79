//! Makes or gets container images as they are pinned. Layers of our own making are kept in the cache under what they are made of.

use std::{
    collections::BTreeMap,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};

use super::{Contents, Preloaded};
use crate::{
    build::{Options, base, programs},
    cache::{Begin, Cache, Entry as Kept},
    image::tree::Entry,
    lock::{OciDebianLock, OciLock, OciSourceLock, PackageLock},
    manifest::{Manifest, OciBinary, OciDebian, OciFile, OciImage, OciName, OciSettings, OciSource},
    oci::{
        ContainerImage, Layer, Packing,
        config::{self, Platform, Step},
        layer::LayerBuilder,
    },
    plan,
    progress::Reporter,
    source::{
        container::{archive, binary, debian, layers::Finished, registry},
        download::{Downloads, Origin, Request},
    },
    units::{Bytes, Digest},
};

/// Cache kind of layers of our own making, by what they were made of.
const LAYERS: &str = "layer";

/// Makes or gets every image of the manifest as it is `pinned`. Nothing in those of our own making is younger than `epoch`.
pub(in crate::build) fn obtain(
    manifest: &Manifest,
    options: &Options,
    pinned: &BTreeMap<String, OciLock>,
    epoch: u64,
    cache: &Cache,
    reporter: &Reporter,
) -> Result<Vec<Preloaded>> {
    let work = Work { manifest, options, epoch, cache, reporter };
    let mut images = Vec::new();
    for (name, image) in &manifest.images {
        let pinned = pinned.get(name.as_str()).with_context(|| format!("the lock has no container image {name}"))?;
        let (image, contents) =
            work.image(image, pinned).with_context(|| format!("container image {name} ({})", image.reference))?;
        images.push(Preloaded { name: OciName::clone(name), image, contents });
    }
    Ok(images)
}

struct Work<'a> {
    manifest: &'a Manifest,
    options: &'a Options,
    epoch: u64,
    cache: &'a Cache,
    reporter: &'a Reporter,
}

impl Work<'_> {
    fn platform(&self) -> Platform {
        self.manifest.architecture().into()
    }

    fn image(&self, image: &OciImage, pinned: &OciLock) -> Result<(ContainerImage, Vec<Contents>)> {
        let files: Vec<Entry> = image.files.iter().filter_map(|file| plan::entry(file, self.epoch)).collect();
        match (&image.source, &pinned.source) {
            (OciSource::Debian(source), OciSourceLock::Debian(lock)) => self.debian(image, source, pinned, lock, &files),
            (OciSource::Binary(source), OciSourceLock::File { sha256 }) => self.binary(image, source, pinned, sha256, &files),
            (OciSource::Archive(source), OciSourceLock::File { sha256 }) => {
                let path = self.file(&source.file, sha256)?.path;
                let step = self.reporter.step(format!("layers of {}", image.reference));
                let wanted = source.image.as_deref();
                let finished = archive::image(&path, wanted, self.platform(), self.cache, self.reporter)?;
                step.done(format!("{} layers", finished.layers.len()));
                self.finished(image, finished, pinned, &files)
            }
            (OciSource::Registry(source), OciSourceLock::Registry { .. }) => {
                let step = self.reporter.step(format!("layers of {}", image.reference));
                let finished = registry::image(source, self.platform(), self.cache, self.reporter)?;
                step.done(format!("{} layers", finished.layers.len()));
                self.finished(image, finished, pinned, &files)
            }
            _ => bail!("the lock names another kind of source than the manifest"),
        }
    }

    /// A file of the manifest, verified and in the cache.
    fn file(&self, file: &OciFile, sha256: &Digest) -> Result<Kept> {
        let (origin, size) = match file {
            OciFile::Web { url, size, .. } => (Origin::parse(url.as_str())?, *size),
            OciFile::Local { path, .. } => (Origin::File(path.path.clone()), None),
            OciFile::Own { program } => {
                (Origin::File(programs::own(self.options, *program, self.manifest.architecture())?), None)
            }
        };
        Downloads::new(self.cache, self.reporter).file(&Request { origin, sha256: *sha256, size })
    }

    fn debian(
        &self,
        image: &OciImage,
        source: &OciDebian,
        pinned: &OciLock,
        lock: &OciDebianLock,
        files: &[Entry],
    ) -> Result<(ContainerImage, Vec<Contents>)> {
        let left_out = (&source.exclude, &source.applets);
        let entry =
            self.layer(image, &self.key(&format!("debian {} {left_out:?}", debian::FORMAT), pinned, files), |to, spool| {
                let debs = base::fetch(&lock.packages, &lock.mirror, self.cache, self.reporter)?;
                let made = debian::layer(&debs, source, files, self.epoch, spool, to)?;
                let facts = made.licences.iter().map(|(package, names)| (licence_fact(package), names.join("\n"))).collect();
                Ok((made.diff_id, facts))
            })?;
        let licences = |package: &PackageLock| {
            let names = entry.facts.get(&licence_fact(&package.name));
            names.into_iter().flat_map(|names| names.lines()).map(str::to_owned).collect::<Vec<_>>()
        };
        let contents = Contents::Packages(lock.packages.iter().map(|package| (package.clone(), licences(package))).collect());
        let packages: Vec<String> = lock.packages.iter().map(|package| format!("{}={}", package.name, package.version)).collect();
        let created_by = format!("hcl-image: Debian {} ({}): {}", lock.release, lock.codename, packages.join(" "));
        self.own(image, &image.settings, entry, created_by, contents)
    }

    fn binary(
        &self,
        image: &OciImage,
        source: &OciBinary,
        pinned: &OciLock,
        sha256: &Digest,
        files: &[Entry],
    ) -> Result<(ContainerImage, Vec<Contents>)> {
        let install = source.install.as_str();
        let entry = self.layer(image, &self.key(&format!("binary {install}"), pinned, files), |to, spool| {
            let program = self.file(&source.file, sha256)?.path;
            let architecture = self.manifest.architecture();
            let made = binary::layer(&program, Path::new(install), files, architecture, self.epoch, spool, to)?;
            Ok((made.0, BTreeMap::new()))
        })?;
        let mut settings = image.settings.clone();
        settings.entrypoint.get_or_insert_with(|| vec![install.to_owned()]);
        let own = match source.file {
            OciFile::Own { program } => Some(program),
            _ => None,
        };
        let contents = Contents::Program { path: install.to_owned(), sha256: *sha256, own };
        self.own(image, &settings, entry, format!("hcl-image: {install} (SHA-256 {sha256})"), contents)
    }

    /// An image that others have made, with what the manifest says otherwise.
    fn finished(
        &self,
        image: &OciImage,
        finished: Finished,
        pinned: &OciLock,
        files: &[Entry],
    ) -> Result<(ContainerImage, Vec<Contents>)> {
        let Finished { config, mut layers } = finished;
        let mut contents = vec![Contents::Foreign; layers.len()];
        let mut step = None;
        if !files.is_empty() {
            let entry = self.layer(image, &self.key("files", pinned, files), |to, spool| {
                let mut builder = LayerBuilder::new(spool).context("making room for a layer")?;
                for entry in files {
                    builder.put(entry).with_context(|| format!("laying {} into a container image", entry.path.display()))?;
                }
                builder.complete(self.epoch as i64);
                Ok((builder.write(to).context("writing a layer")?.0, BTreeMap::new()))
            })?;
            let layer = layer(entry)?;
            let paths: Vec<String> = files.iter().map(|entry| entry.path.display().to_string()).collect();
            step = Some(Step { diff_id: layer.diff_id, created_by: format!("hcl-image: {}", paths.join(" ")) });
            layers.push(layer);
            contents.push(Contents::Files(paths));
        }
        let config = config::amend(config, &image.settings, step.as_ref(), self.epoch)?;
        Ok((ContainerImage { reference: image.reference.to_string(), config, layers }, contents))
    }

    /// An image of one layer, made by us.
    fn own(
        &self,
        image: &OciImage,
        settings: &OciSettings,
        entry: Kept,
        created_by: String,
        contents: Contents,
    ) -> Result<(ContainerImage, Vec<Contents>)> {
        let layer = layer(entry)?;
        let step = Step { diff_id: layer.diff_id, created_by };
        let config = config::new(image.reference.as_str(), settings, self.platform(), std::slice::from_ref(&step), self.epoch)?;
        Ok((ContainerImage { reference: image.reference.to_string(), config, layers: vec![layer] }, vec![contents]))
    }

    /// What decides a layer's bytes: what it is made of, what is laid over it, and the time.
    fn key(&self, recipe: &str, pinned: &OciLock, files: &[Entry]) -> Digest {
        Digest::of(format!("{recipe} {} {files:?} {}", pinned.digest(), self.epoch).as_bytes())
    }

    /// The layer of the cache for `key`, or what `make` writes and says the digest of; what waits meanwhile waits in the folder
    /// that it is told.
    fn layer(
        &self,
        image: &OciImage,
        key: &Digest,
        make: impl FnOnce(&mut dyn Write, &Path) -> Result<(Digest, BTreeMap<String, String>)>,
    ) -> Result<Kept> {
        let pending = match self.cache.begin(LAYERS, key, self.reporter)? {
            Begin::Present(entry) => return Ok(entry),
            Begin::Missing(pending) => pending,
        };
        let step = self.reporter.step(format!("layer of {}", image.reference));
        let mut to = BufWriter::with_capacity(1 << 18, pending.file()?);
        let (diff_id, facts) = make(&mut to, self.cache.root())?;
        to.flush().context("writing a layer")?;
        let entry = pending.commit(Some(diff_id), facts)?;
        step.done(format!("{}, {}", entry.size, diff_id.short()));
        Ok(entry)
    }
}

fn layer(entry: Kept) -> Result<Layer> {
    let diff_id = entry.content.context("a layer in the cache without its digest")?;
    Ok(Layer { diff_id, size: Bytes(entry.size.0), path: entry.path, packing: Packing::Plain })
}

fn licence_fact(package: &str) -> String {
    format!("licence {package}")
}
