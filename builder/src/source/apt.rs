//! Which packages a bootstrap consists of, decided by the host's own apt from a signed index.
//!
//! Everything happens in a private apt folder: own lists, own (empty) status, own sources. Nothing
//! of the host's package state is read but its mirror and its keyring, nothing of it is written,
//! and signatures are always verified.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use super::tool::Tool;
use crate::{
    lock::{BootstrapLock, PackageLock},
    progress::Reporter,
    units::Digest,
};

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
    /// The keys that may sign; `None` takes the archive keyring of the host.
    pub keyring: Option<PathBuf>,
    /// Packages for the building machine, with its architecture; not resolved, just looked up.
    pub tools: Vec<String>,
    /// The building machine's architecture, where its tools can be used.
    pub tools_architecture: Option<String>,
}

/// Finds the first suite whose index is signed, whole and current, and resolves the request in it.
///
/// # Errors
///
/// No suite was usable (each with its reason), or the packages cannot be installed together.
pub fn resolve(request: &Request, folder: &Path, reporter: &Reporter) -> Result<BootstrapLock> {
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
        let step = reporter.step(format!("package index of {suite}"));
        match apt.update() {
            Ok(()) => {
                let lock = apt.resolve(request, &mirror, suite)?;
                step.done(format!("Debian {} of {}, {} packages", lock.release, day(lock.date), lock.packages.len()));
                return Ok(lock);
            }
            Err(error) => {
                drop(step);
                let reason = format!("suite {suite} is not usable: {}", crate::error::one_line(&error));
                reporter.note(format!("  {reason}"));
                reasons.push(reason);
            }
        }
    }
    bail!(
        "no suite of the mirror {mirror} can be used, so nothing was built ({}); try again later, name another suite in base.bootstrap.suites, or another mirror with --mirror URL",
        reasons.join("; ")
    )
}

/// The first Debian mirror in the host's own sources.
///
/// # Errors
///
/// There is none: the host is no Debian, or uses another archive.
pub fn host_mirror(etc_apt: &Path) -> Result<String> {
    find_mirror(etc_apt, "/debian").with_context(|| {
        format!("{}: no Debian mirror is configured on this machine: name one with --mirror URL", etc_apt.display())
    })
}

/// Where the host gets Debian's security updates from, if it does.
pub fn host_security_mirror(etc_apt: &Path) -> Option<String> {
    find_mirror(etc_apt, "/debian-security")
}

fn find_mirror(etc_apt: &Path, ending: &str) -> Option<String> {
    let mut files = vec![etc_apt.join("sources.list")];
    let mut parts: Vec<PathBuf> = fs::read_dir(etc_apt.join("sources.list.d"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    files.extend(parts);
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => deb822_mirror(&text, ending),
            Some("list") => one_line_mirror(&text, ending),
            _ => None,
        };
        found.map(|mirror| mirror.trim_end_matches('/').to_owned())
    })
}

/// Other archives (Ubuntu's, vendors') do not count.
fn ends_in(url: &str, ending: &str) -> bool {
    url.trim_end_matches('/').ends_with(ending) && !url.starts_with("cdrom:")
}

fn deb822_mirror(text: &str, ending: &str) -> Option<String> {
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if field("Enabled").is_some_and(|value| value == "no")
            || !field("Types").is_some_and(|types| types.split(' ').any(|t| t == "deb"))
        {
            continue;
        }
        if let Some(url) =
            field("URIs").and_then(|urls| urls.split_whitespace().find(|url| ends_in(url, ending)).map(str::to_owned))
        {
            return Some(url);
        }
    }
    None
}

fn one_line_mirror(text: &str, ending: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let url = rest.split_whitespace().next()?;
        ends_in(url, ending).then(|| url.to_owned())
    })
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
        write("state/status", String::new())?;
        write(
            "etc/sources.list",
            format!("deb [signed-by={}] {mirror} {suite} {}\n", keyring.display(), request.components.join(" ")),
        )?;
        let config = |architectures: &[&str]| {
            let list: String = architectures.iter().map(|architecture| format!("\"{architecture}\"; ")).collect();
            let folder = folder.display();
            format!(
                "APT::Architecture \"{}\";\nAPT::Architectures {{ {list}}};\nDir \"{folder}\";\nDir::State \"{folder}/state\";\n\
                 Dir::State::status \"{folder}/state/status\";\nDir::Cache \"{folder}/cache\";\nDir::Etc \"{folder}/etc\";\n\
                 Dir::Etc::trusted \"/nonexistent\";\nDir::Etc::trustedparts \"/nonexistent\";\nAPT::Install-Recommends \"false\";\n\
                 APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
                 Acquire::Retries \"3\";\nAPT::Update::Error-Mode \"any\";\nAcquire::GzipIndexes \"false\";\n",
                request.architecture
            )
        };
        let mut architectures: Vec<&str> = vec![&request.architecture];
        architectures.extend(request.foreign.iter().map(String::as_str));
        let resolve_config = write("resolve.conf", config(&architectures))?;
        architectures
            .extend(request.tools_architecture.as_deref().filter(|own| !request.foreign.iter().any(|foreign| foreign == own)));
        architectures.dedup();
        let update_config = write("update.conf", config(&architectures))?;
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

    fn resolve(&self, request: &Request, mirror: &str, suite: &str) -> Result<BootstrapLock> {
        let essential = format!("?narrow(?architecture({}),?essential)", request.architecture);
        let output = Tool::new("apt-get", "apt")
            .env("APT_CONFIG", &self.resolve_config)
            .args(["--print-uris", "-y", "-qq", "install", &essential])
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
        Ok(BootstrapLock {
            suite: suite.to_owned(),
            codename: release.get("Codename").cloned().unwrap_or_default(),
            release: release.get("Version").cloned().unwrap_or_default(),
            date: rfc2822_seconds(release.get("Date").map_or("", String::as_str))
                .with_context(|| format!("the Release file of suite {suite} has no readable date"))?,
            mirror: mirror.to_owned(),
            security: host_security_mirror(Path::new("/etc/apt")),
            components: request.components.clone(),
            architecture: request.architecture.clone(),
            requested: request.packages.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
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

/// Seconds since 1970 of a date such as `Sat, 21 Nov 2026 09:15:44 UTC` (RFC 2822, UTC only, as Release files have it).
fn rfc2822_seconds(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split_whitespace();
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    Some(days_since_1970(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar; years start in March so that the leap day comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

/// `2026-11-21` of seconds since 1970.
pub(crate) fn day(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + u64::from(month <= 2))
}

/// `09:15:44` of seconds since 1970.
pub(crate) fn time_of_day(seconds: u64) -> String {
    let seconds = seconds % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_found_in_both_formats() {
        let deb822 = "Types: deb\n# a comment\nURIs: http://m.invalid/debian-security\nSuites: x\n\nTypes: deb deb-src\nURIs: http://m.invalid/debian/\nSuites: x\n";
        assert_eq!(deb822_mirror(deb822, "/debian").as_deref(), Some("http://m.invalid/debian/"));
        assert_eq!(deb822_mirror("Types: deb-src\nURIs: http://m.invalid/debian\n", "/debian"), None);
        assert_eq!(deb822_mirror("Enabled: no\nTypes: deb\nURIs: http://m.invalid/debian\n", "/debian"), None);
        assert_eq!(
            one_line_mirror("# deb x\ndeb [arch=amd64] http://m.invalid/debian x main\n", "/debian").as_deref(),
            Some("http://m.invalid/debian")
        );
        assert_eq!(one_line_mirror("deb http://m.invalid/ubuntu x main\n", "/debian"), None);
    }

    #[test]
    fn a_machine_without_debian_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let message = host_mirror(folder.path()).unwrap_err().to_string();
        assert!(message.ends_with("name one with --mirror URL"), "{message}");
    }

    #[test]
    fn dates() {
        assert_eq!(rfc2822_seconds("Thu, 01 Jan 1970 00:00:01 UTC"), Some(1));
        assert_eq!(rfc2822_seconds("Sat, 21 Nov 2026 09:15:44 UTC"), Some(1_795_252_544));
        assert_eq!(rfc2822_seconds("Thu, 29 Feb 2024 12:00:00 UTC"), Some(1_709_208_000));
        for text in ["", "Sat", "Sat, 21", "Sat, 21 Foo 2026 09:15:44 UTC", "Sat, 21 Nov 2026 09:15"] {
            assert_eq!(rfc2822_seconds(text), None, "{text}");
        }
        for (seconds, text) in [(0, "1970-01-01"), (1_709_208_000, "2024-02-29"), (1_795_252_544, "2026-11-21")] {
            assert_eq!(day(seconds), text);
        }
    }

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
