//! Which packages a bootstrap consists of, decided by the host's own apt from a signed index.
//!
//! Everything happens in a private apt folder: own lists, own (empty) status, own sources. Nothing
//! of the host's package state is read but its mirror and its keyring, nothing of it is written,
//! and signatures are always verified.

mod date;
mod mirror;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use self::date::rfc2822_seconds;
use super::tool::Tool;
use crate::{lock::PackageLock, progress::Reporter, units::Digest};

pub(crate) use self::date::{day, time_of_day};
pub use self::mirror::{host_mirror, host_security_mirror};

/// What to resolve.
#[derive(Clone, Debug)]
pub struct Request {
    /// The mirror; `None` takes the host's own.
    pub mirror: Option<String>,
    /// Suites in order of preference.
    pub suites: Vec<String>,
    /// Parts of the archive.
    pub components: Vec<String>,
    /// The userland's architecture.
    pub architecture: String,
    /// Further architectures that packages may come from, such as the kernel's.
    pub foreign: Vec<String>,
    /// Packages by name, `name:architecture` for a foreign one.
    pub packages: Vec<String>,
    /// Whether Debian's essential packages come along, as in every system.
    pub essential: bool,
    /// Packages that are taken to be there already, so that none asks for them.
    pub assumed: Vec<String>,
    /// The keys that may sign; `None` takes the archive keyring of the host.
    pub keyring: Option<PathBuf>,
    /// Packages for the building machine, with its architecture; not resolved, just looked up.
    pub tools: Vec<String>,
    /// The building machine's architecture, where its tools can be used.
    pub tools_architecture: Option<String>,
    /// What it is for, where that is not the system itself.
    pub purpose: Option<String>,
    /// What a person can do when no suite is usable.
    pub advice: String,
}

/// What a request comes to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The suite whose index was taken.
    pub suite: String,
    /// Its code name, as the signed Release file gives it.
    pub codename: String,
    /// Its version.
    pub release: String,
    /// When the Release file was made, in seconds since 1970.
    pub date: u64,
    /// The mirror.
    pub mirror: String,
    /// The packages that were asked for and what they need, sorted.
    pub packages: Vec<PackageLock>,
    /// The packages for the building machine, sorted.
    pub tools: Vec<PackageLock>,
}

/// Finds the first suite whose index is signed, whole and current, and resolves the request in it.
///
/// # Errors
///
/// No suite was usable (each with its reason), or the packages cannot be installed together.
pub fn resolve(request: &Request, folder: &Path, reporter: &Reporter) -> Result<Resolved> {
    let mirror = match &request.mirror {
        Some(mirror) => mirror.trim_end_matches('/').to_owned(),
        None => host_mirror(Path::new("/etc/apt"))?,
    };
    let keyring = match &request.keyring {
        Some(keyring) => keyring.clone(),
        None => host_keyring()?,
    };
    let mut reasons = Vec::new();
    for suite in &request.suites {
        let apt = Apt::lay_out(request, &mirror, &keyring, suite, folder)?;
        let purpose = request.purpose.as_ref().map(|purpose| format!(" for {purpose}")).unwrap_or_default();
        let step = reporter.step(format!("package index of {suite}{purpose}"));
        match apt.update() {
            Ok(()) => {
                let found = apt.resolve(request, &mirror, suite)?;
                step.done(format!("Debian {} of {}, {} packages", found.release, day(found.date), found.packages.len()));
                return Ok(found);
            }
            Err(error) => {
                drop(step);
                let reason = format!("suite {suite} is not usable: {}", crate::error::one_line(&error));
                reporter.note(format!("  {reason}"));
                reasons.push(reason);
            }
        }
    }
    bail!("no suite of the mirror {mirror} can be used, so nothing was built ({}); {}", reasons.join("; "), request.advice)
}

fn host_keyring() -> Result<PathBuf> {
    for extension in ["gpg", "pgp"] {
        let path = PathBuf::from(format!("/usr/share/keyrings/debian-archive-keyring.{extension}"));
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("the keys of the Debian archive are not on this machine: apt-get install debian-archive-keyring")
}

/// dpkg's word for a package of any version that is installed.
fn installed(name: &str) -> String {
    format!(
        "Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: misc\nMaintainer: nobody\nArchitecture: all\n\
         Multi-Arch: foreign\nVersion: 9999:0\nDescription: taken to be there\n\n"
    )
}

/// A private apt folder for one suite.
#[derive(Debug)]
struct Apt {
    folder: PathBuf,
    /// Everything, for `update`.
    update_config: PathBuf,
    /// Without the building machine's architecture, so that nothing of it is ever chosen.
    resolve_config: PathBuf,
}

impl Apt {
    fn lay_out(request: &Request, mirror: &str, keyring: &Path, suite: &str, folder: &Path) -> Result<Self> {
        let identity =
            Digest::of(format!("{mirror} {suite} {} {}", request.components.join(" "), request.architecture).as_bytes());
        let folder = folder.join(format!("{suite}-{}", identity.short()));
        for part in ["state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d"]
        {
            let path = folder.join(part);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display())).map(|()| path)
        };
        let assumed: String = request.assumed.iter().map(|name| installed(name)).collect();
        // Requests that assume different things share the lists, which are large.
        let variant = Digest::of(assumed.as_bytes()).short();
        let status = write(&format!("state/status-{variant}"), assumed)?;
        write(
            "etc/sources.list",
            format!("deb [signed-by={}] {mirror} {suite} {}\n", keyring.display(), request.components.join(" ")),
        )?;
        let config = |architectures: &[&str]| {
            let list: String = architectures.iter().map(|architecture| format!("\"{architecture}\"; ")).collect();
            let (folder, status) = (folder.display(), status.display());
            format!(
                "APT::Architecture \"{}\";\nAPT::Architectures {{ {list}}};\nDir \"{folder}\";\nDir::State \"{folder}/state\";\n\
                 Dir::State::status \"{status}\";\nDir::Cache \"{folder}/cache\";\nDir::Etc \"{folder}/etc\";\n\
                 Dir::Etc::trusted \"/nonexistent\";\nDir::Etc::trustedparts \"/nonexistent\";\nAPT::Install-Recommends \"false\";\n\
                 APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
                 Acquire::Retries \"3\";\nAPT::Update::Error-Mode \"any\";\nAcquire::GzipIndexes \"false\";\n",
                request.architecture
            )
        };
        let mut architectures: Vec<&str> = vec![&request.architecture];
        architectures.extend(request.foreign.iter().map(String::as_str));
        let resolve_config = write(&format!("resolve-{variant}.conf"), config(&architectures))?;
        architectures
            .extend(request.tools_architecture.as_deref().filter(|own| !request.foreign.iter().any(|foreign| foreign == own)));
        architectures.dedup();
        let update_config = write(&format!("update-{variant}.conf"), config(&architectures))?;
        Ok(Self { folder, update_config, resolve_config })
    }

    fn update(&self) -> Result<()> {
        // apt keeps the lists that did arrive; with the others missing they would be no whole archive.
        let mut tool = Tool::new("apt-get", "apt").env("APT_CONFIG", &self.update_config).args(["update", "-q"]);
        tool.command().stdout(Stdio::null());
        let mut signature = None;
        tool.watch(|line| {
            if let Some(reason) = line.strip_prefix("W: GPG error: ") {
                signature = Some(reason.to_owned());
            }
        })
        // apt itself calls an archive whose signature is wrong "not signed", and says why in a warning.
        .map_err(|error| match signature {
            Some(reason) => error.context(format!("the signature does not hold: {reason}")),
            None => error,
        })
    }

    fn resolve(&self, request: &Request, mirror: &str, suite: &str) -> Result<Resolved> {
        let essential = request.essential.then(|| format!("?narrow(?architecture({}),?essential)", request.architecture));
        let output = Tool::new("apt-get", "apt")
            .env("APT_CONFIG", &self.resolve_config)
            .args(["--print-uris", "-y", "-qq", "install"])
            .args(essential)
            .args(&request.packages)
            .output()
            .with_context(|| format!("choosing packages in suite {suite}"))?;
        let output = String::from_utf8(output).context("apt printed something that is no text")?;
        let index = self.index()?;
        let mut packages = Vec::new();
        for line in output.lines() {
            // 'URI' FILE SIZE HASH
            let Some(uri) = line.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(uri, _)| uri) else { continue };
            let path = uri.strip_prefix(mirror).with_context(|| format!("apt chose {uri}, which is not below the mirror"))?;
            let path = percent_decoded(path.trim_start_matches('/'));
            let package = index.get(&path).with_context(|| format!("{path} is in no index of suite {suite}"))?;
            packages.push(package.clone());
        }
        packages.sort();
        if packages.is_empty() {
            bail!("apt chose no package in suite {suite}");
        }
        let mut tools = Vec::new();
        if let Some(own) = &request.tools_architecture {
            for name in &request.tools {
                let found = index
                    .values()
                    .filter(|package| package.name == *name && package.architecture == *own)
                    .max_by(|a, b| a.version.cmp(&b.version));
                tools.push(found.with_context(|| format!("suite {suite} has no package {name} for {own}"))?.clone());
            }
            tools.sort();
        }
        let release = self.release()?;
        Ok(Resolved {
            suite: suite.to_owned(),
            codename: release.get("Codename").cloned().unwrap_or_default(),
            release: release.get("Version").cloned().unwrap_or_default(),
            date: rfc2822_seconds(release.get("Date").map_or("", String::as_str))
                .with_context(|| format!("the Release file of suite {suite} has no readable date"))?,
            mirror: mirror.to_owned(),
            packages,
            tools,
        })
    }

    /// Every package in the lists, by its path below the mirror.
    fn index(&self) -> Result<BTreeMap<String, PackageLock>> {
        let mut index = BTreeMap::new();
        for path in self.lists("_Packages")? {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            for stanza in text.split("\n\n") {
                if let Some(package) = package(stanza) {
                    index.insert(package.path.clone(), package);
                }
            }
        }
        Ok(index)
    }

    /// The fields of the signed Release file.
    fn release(&self) -> Result<BTreeMap<String, String>> {
        let path = self.lists("Release")?.into_iter().next().context("apt kept no Release file")?;
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(fields(&text).collect())
    }

    fn lists(&self, suffix: &str) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("state/lists");
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(suffix) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

fn fields(stanza: &str) -> impl Iterator<Item = (String, String)> {
    stanza
        .lines()
        .filter(|line| !line.starts_with([' ', '\t']))
        .filter_map(|line| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned())))
}

/// A stanza of a Packages index.
fn package(stanza: &str) -> Option<PackageLock> {
    let mut fields: BTreeMap<String, String> = fields(stanza).collect();
    Some(PackageLock {
        name: fields.remove("Package")?,
        architecture: fields.remove("Architecture")?,
        version: fields.remove("Version")?,
        path: fields.remove("Filename")?,
        size: fields.remove("Size")?.parse().ok()?,
        sha256: fields.remove("SHA256")?.parse().ok()?,
    })
}

/// apt writes URIs with `%2b` for `+` and `%7e` for `~`; indexes hold the plain path.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|digits| hex::decode(digits).ok());
        if let (b'%', Some(byte)) = (first, hex) {
            bytes.extend(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_and_uris() {
        let stanza = format!(
            "Package: a\nVersion: 1+b\nArchitecture: all\nDescription: x\n more: text\nFilename: pool/a_1+b.deb\nSize: 5\nSHA256: {}",
            Digest::of(b"a")
        );
        assert_eq!(package(&stanza).unwrap().path, "pool/a_1+b.deb");
        assert_eq!(package("Package: a\n"), None);
        assert_eq!(percent_decoded("a%2bb%7e1%"), "a+b~1%");
    }
}
