//! The base of an image as a raw file in the cache: made or downloaded once, found again by its lock.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};

use crate::{
    cache::{Begin, Cache},
    image::base::{self, Settings},
    lock::{BaseLock, Lock, PackageLock},
    manifest::{Base, Manifest, Table},
    plan,
    progress::Reporter,
    source::{
        bootstrap,
        download::{self, Downloads, Origin, Request},
    },
    units::{Bytes, Digest},
};

/// Packages downloaded at a time: enough to hide round trips, few enough for a mirror.
const CONNECTIONS: usize = 4;

/// The raw base image for `lock`, in the cache.
pub(super) fn obtain(
    manifest: &Manifest,
    lock: &Lock,
    origin: Option<&(Origin, Option<Bytes>)>,
    cache: &Cache,
    reporter: &Reporter,
) -> Result<PathBuf> {
    bootstrap::tidy(reporter);
    match (&lock.base, &manifest.base) {
        (BaseLock::Bootstrap(packages), Base::Bootstrap(bootstrap)) => {
            let kernel = bootstrap.kernel_architecture().debian();
            let settings = settings(manifest, lock, kernel);
            let bootstrap_settings = bootstrap::Settings {
                kernel_architecture: kernel.to_owned(),
                root_label: settings.root_label.clone(),
                kernel_parameters: plan::kernel_parameters(),
                epoch: lock.epoch,
            };
            // The identity holds the lock; what else decides the bytes is part of the name too.
            let key = Digest::of(
                format!("{} {settings:?} {} {}", base::FORMAT, bootstrap::recipe(&bootstrap_settings), lock.epoch).as_bytes(),
            );
            match cache.begin("debian", &key, reporter)? {
                Begin::Present(entry) => Ok(entry.path),
                Begin::Missing(pending) => {
                    bootstrap::ready(packages)?;
                    let debs = fetch(&packages.packages, &packages.mirror, cache, reporter)?;
                    let tools = fetch(&packages.tools, &packages.mirror, cache, reporter)?;
                    // Never committed: gone when it is read, and swept should we be killed.
                    let Begin::Missing(tar) = cache.begin("root-archive", &key, reporter)? else {
                        anyhow::bail!("the cache holds a work file as an entry: remove {}/root-archive", cache.root().display())
                    };
                    bootstrap::install(packages, &debs, &tools, &bootstrap_settings, tar.path(), reporter)?;
                    drop(pending.file()?);
                    base::create(tar.path(), pending.path(), &settings, reporter)?;
                    let facts = BTreeMap::from([("release".to_owned(), packages.release.clone())]);
                    Ok(pending.commit(None, facts)?.path)
                }
            }
        }
        (BaseLock::Download { sha256 }, _) => {
            let (origin, size) = origin.context("a downloaded base without an origin")?;
            let request = Request { origin: origin.clone(), sha256: *sha256, size: *size };
            Ok(Downloads::new(cache, reporter).image(&request)?.path)
        }
        (BaseLock::Bootstrap(_), Base::Download(_)) => {
            anyhow::bail!("the lock is of a bootstrapped base, the manifest downloads one")
        }
    }
}

fn settings(manifest: &Manifest, lock: &Lock, kernel: &str) -> Settings {
    let identity = Digest::of(format!("{} {kernel}", lock.base.digest()).as_bytes());
    Settings {
        gpt: manifest.output.table == Table::Gpt,
        boot: manifest.output.boot_size,
        root_free: manifest.output.root_free,
        boot_label: plan::BOOT_LABEL.to_owned(),
        root_label: plan::ROOT_LABEL.to_owned(),
        epoch: lock.epoch,
        identity,
    }
}

/// Gets the package files, verified, and names all that cannot be had in one list.
///
/// Where it is not the package's fault but the network's or the disk's, the others are not tried.
pub(super) fn fetch(
    packages: &[PackageLock],
    mirror: &str,
    cache: &Cache,
    reporter: &Reporter,
) -> Result<Vec<(PackageLock, PathBuf)>> {
    let total = Bytes(packages.iter().map(|package| package.size).sum());
    let step = reporter.bytes(format!("{} packages", packages.len()), total);
    let quiet = Reporter::new(crate::progress::Mode::Quiet);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let trouble = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let downloads = Downloads::new(cache, &quiet);
                while let Some(package) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = Origin::parse(&format!("{mirror}/{}", package.path.replace('%', "%25"))).and_then(|origin| {
                        downloads.file(&Request { origin, sha256: package.sha256, size: Some(Bytes(package.size)) })
                    });
                    step.advance(package.size);
                    match result {
                        Err(error) if download::is_general(&error) => {
                            next.store(packages.len(), Ordering::Relaxed);
                            trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                        result => results.lock().unwrap_or_else(PoisonError::into_inner).push((package, result)),
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let here = results.iter().filter(|(_, result)| result.is_ok()).count();
        return Err(error.context(format!("downloading packages ({here} of {} are in the cache and stay there)", packages.len())));
    }
    let mut debs = Vec::new();
    let mut gone = Vec::new();
    for (package, result) in results {
        match result {
            Ok(entry) => debs.push((package.clone(), entry.path)),
            Err(error) => gone.push(format!(
                "{} {} ({}): {}",
                package.name,
                package.version,
                package.architecture,
                crate::error::one_line(&error)
            )),
        }
    }
    if !gone.is_empty() {
        gone.sort();
        anyhow::bail!(
            "{} of {} packages cannot be had from {} as the lock says: {}",
            gone.len(),
            packages.len(),
            mirror,
            gone.join("; ")
        );
    }
    debs.sort();
    step.done(total.to_string());
    Ok(debs)
}
