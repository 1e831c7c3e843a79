//! Everything that a build is made of, found and pinned before anything is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, bail};

use super::{Options, images, programs};
use crate::{
    cache::Cache,
    image::tree::{Content, Node},
    keys::{ClusterKeyFile, Keys},
    lock::{BaseLock, BootstrapLock, Lock},
    manifest::{Base, Bootstrap, Download, EngineKind, Manifest},
    plan::{Inputs, PackageSources},
    progress::Reporter,
    source::{apt, bootstrap::TOOL_PACKAGES, download::Origin, overlay},
    units::{Bytes, Digest},
};

/// What [`gather`] found.
#[derive(Debug)]
pub(super) struct Gathered {
    /// What the image will be made of.
    pub lock: Lock,
    /// The same, as the plan needs it.
    pub inputs: Inputs,
    /// Where a downloaded base comes from.
    pub origin: Option<(Origin, Option<Bytes>)>,
}

/// Finds and pins everything; with `--locked` compares it with the lock.
pub(super) fn gather(
    manifest: &Manifest,
    options: &Options,
    keys: Option<&Keys>,
    cluster_key: Option<&ClusterKeyFile>,
    cache: &Cache,
    reporter: &Reporter,
) -> Result<Gathered> {
    let locked = options.locked.as_ref();
    let mut origin = None;
    let base = match &manifest.base {
        Base::Bootstrap(bootstrap) => {
            let request = request(manifest, bootstrap, options);
            let lock = match locked.map(|lock| &lock.base) {
                Some(BaseLock::Bootstrap(lock)) => lock.clone(),
                Some(BaseLock::Download { .. }) => bail!("the lock is of a downloaded base, the manifest bootstraps one"),
                None => bootstrap_lock(&request, apt::resolve(&request, &cache.root().join("apt"), reporter)?),
            };
            BaseLock::Bootstrap(lock)
        }
        Base::Download(download) => {
            let (from, sha256, size) = match download {
                Download::Web { url, sha256, size } => (Origin::parse(url.as_str())?, *sha256, *size),
                Download::File { path, sha256 } => {
                    let digest = match sha256 {
                        Some(digest) => *digest,
                        None => digest_of(&path.path)?,
                    };
                    (Origin::File(path.path.clone()), digest, None)
                }
            };
            origin = Some((from, size));
            BaseLock::Download { sha256 }
        }
    };
    let epoch = epoch(&base, locked)?;

    let mut overlays = Vec::new();
    let mut digests = BTreeMap::new();
    for folder in &manifest.overlays {
        let (entries, digest) = overlay::read(&folder.path, epoch)?;
        digests.insert(folder.written.clone(), digest);
        overlays.push((folder.written.clone(), entries));
    }
    let node_program = programs::node(options, manifest.architecture())?;
    let node_program_digest = digest_of(&node_program)?;
    let ssh_keys: Vec<String> = match keys {
        Some(keys) => vec![keys.public().line().to_owned()],
        None => manifest.user.ssh_keys.iter().map(|key| key.line().to_owned()).collect(),
    };

    let images = images::pin(manifest, options, cache, reporter)?;
    let lock = Lock {
        version: Lock::VERSION,
        epoch,
        manifest: manifest_digest(manifest),
        node_program: node_program_digest,
        overlays: digests,
        ssh_keys: ssh_keys.iter().map(|line| fingerprint(line)).collect::<Result<_>>()?,
        cluster_id: cluster_key.map(|key| key.id().to_string()),
        base,
        images,
    };
    if let Some(locked) = locked {
        let differences = locked.differences(&lock);
        if !differences.is_empty() {
            bail!("not what was locked, so nothing was built: {}", differences.join("; "));
        }
    }
    let package_sources = match &lock.base {
        BaseLock::Bootstrap(base) => Some(PackageSources {
            mirror: base.mirror.clone(),
            security: base.security.clone(),
            codename: base.codename.clone(),
            components: base.components.clone(),
        }),
        BaseLock::Download { .. } => None,
    };
    let cluster_key = match cluster_key {
        _ if options.no_key => None,
        Some(key) => Some(key.path().to_owned()),
        None => Some(ClusterKeyFile::path_of(options.keys.as_deref(), manifest.cluster())?),
    };
    let inputs = Inputs { node_program, node_program_digest, overlays, cluster_key, ssh_keys, package_sources, epoch };
    Ok(Gathered { lock, inputs, origin })
}

impl Gathered {
    /// Bytes that the edits add to the root file system, generously.
    pub(super) fn payload_size(&self) -> Result<Bytes> {
        let mut total = file_size(&self.inputs.node_program)?;
        for (_, entries) in &self.inputs.overlays {
            for entry in entries {
                total += 4096;
                if let Node::File(Content::Host(path)) = &entry.node {
                    total += file_size(path)?;
                }
            }
        }
        Ok(Bytes(total).round_up(Bytes::MIB))
    }
}

fn request(manifest: &Manifest, bootstrap: &Bootstrap, options: &Options) -> apt::Request {
    let mut packages: Vec<String> = vec!["apt".to_owned(), bootstrap.kernel.to_string()];
    packages.extend(bootstrap.packages.iter().chain(&manifest.packages).map(ToString::to_string));
    if manifest.engine.kind != EngineKind::None {
        packages.extend(manifest.engine.packages.iter().map(ToString::to_string));
    }
    let own = match std::env::consts::ARCH {
        "x86_64" => Some("amd64"),
        // Debian's 64-bit ARM machines run 32-bit programs natively, or emulated just the same.
        "aarch64" => Some("arm64"),
        _ => None,
    };
    apt::Request {
        mirror: options.mirror.clone().or_else(|| bootstrap.mirror.as_ref().map(ToString::to_string)),
        suites: bootstrap.suites.iter().map(ToString::to_string).collect(),
        components: bootstrap.components.iter().map(ToString::to_string).collect(),
        architecture: bootstrap.architecture.debian().to_owned(),
        foreign: bootstrap.architectures().into_iter().skip(1).map(|architecture| architecture.debian().to_owned()).collect(),
        packages,
        keyring: bootstrap.keyring.as_ref().map(|path| path.path.clone()),
        tools: TOOL_PACKAGES.map(str::to_owned).to_vec(),
        tools_architecture: own.map(str::to_owned),
        essential: true,
        assumed: Vec::new(),
        purpose: None,
        advice: "try again later, name another suite in base.bootstrap.suites, or another mirror with --mirror URL".to_owned(),
    }
}

fn bootstrap_lock(request: &apt::Request, found: apt::Resolved) -> BootstrapLock {
    let apt::Resolved { suite, codename, release, date, mirror, packages, tools } = found;
    BootstrapLock {
        suite,
        codename,
        release,
        date,
        mirror,
        security: apt::host_security_mirror(Path::new("/etc/apt")),
        components: request.components.clone(),
        architecture: request.architecture.clone(),
        requested: request.packages.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
        packages,
        tools,
    }
}

/// `SOURCE_DATE_EPOCH` if it is set, else the lock's, else the date of the archive; a downloaded base has none of its own.
fn epoch(base: &BaseLock, locked: Option<&Lock>) -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().map_err(|_| {
            crate::error::UsageError::new(format!("SOURCE_DATE_EPOCH is `{text}`, not a number of seconds since 1970"))
        });
    }
    Ok(match (locked, base) {
        (Some(lock), _) => lock.epoch,
        (None, BaseLock::Bootstrap(lock)) => lock.date,
        (None, BaseLock::Download { .. }) => FALLBACK_EPOCH,
    })
}

/// 2025-01-01: late enough for every certificate to be valid, and the same for everybody.
const FALLBACK_EPOCH: u64 = 1_735_689_600;

/// The rendered manifest hides a password's hash, which counts nevertheless.
fn manifest_digest(manifest: &Manifest) -> Digest {
    let secret = manifest.user.password_hash.as_ref().map_or("", |hash| hash.for_shadow());
    Digest::of(format!("{}\0{secret}", manifest.render()).as_bytes())
}

/// As `ssh-keygen -l` shows it.
fn fingerprint(line: &str) -> Result<String> {
    let key: ssh_key::PublicKey = line.parse().with_context(|| format!("reading the SSH key `{line}`"))?;
    Ok(key.fingerprint(ssh_key::HashAlg::Sha256).to_string())
}

fn file_size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len())
}

pub(super) fn digest_of(path: &Path) -> Result<Digest> {
    let mut file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Digest::of_reader(&mut file).with_context(|| format!("reading {}", path.display()))
}
