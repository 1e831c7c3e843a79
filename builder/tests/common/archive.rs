//! A small signed Debian archive, with suites that are wrong in one respect each.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use hcl_image::{source::bootstrap::TOOL_PACKAGES, units::Digest};

use crate::web::{Asked, Reply};

/// A throwaway key, and the agent that holds it for as long as this lives.
pub struct Key {
    home: PathBuf,
}

impl Key {
    pub fn new(home: PathBuf) -> Self {
        fs::create_dir(&home).expect("room");
        fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("our folder");
        let key = Self { home };
        key.gpg(&["--passphrase", "", "--quick-generate-key", "Nobody <nobody@hcl.invalid>", "ed25519", "sign", "never"], &[]);
        key
    }

    /// The public half as apt wants it.
    pub fn keyring(&self) -> PathBuf {
        let path = self.home.join("keyring.gpg");
        fs::write(&path, self.gpg(&["--export"], &[])).expect("room");
        path
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        self.gpg(&["--clearsign"], text.as_bytes())
    }

    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let source = self.home.join("input");
        fs::write(&source, input).expect("room");
        let output = Command::new("gpg")
            .args(["--batch", "--quiet", "--homedir"])
            .arg(&self.home)
            .args(arguments)
            .stdin(fs::File::open(&source).expect("just written"))
            .output()
            .expect("gpg is missing: apt-get install gnupg");
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let kill = ["--kill", "gpg-agent"];
        drop(Command::new("gpgconf").arg("--homedir").arg(&self.home).args(kill).stderr(Stdio::null()).status());
    }
}

/// What is wrong with a suite.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Signed by a key that does not count.
    Forged,
    /// Changed after it was signed.
    Altered,
    Unsigned,
    /// The index is not the one that was signed, as on a mirror that is being updated.
    OutOfStep,
    /// The connection ends in the middle of the index.
    Cut,
    /// The archive has no such suite.
    Gone,
}

/// The files of one suite below `/debian`, and where the connection is cut.
pub fn suite(name: &str, fault: Fault, key: &Key, other: &Key) -> BTreeMap<String, (Vec<u8>, Option<usize>)> {
    let mut files = BTreeMap::new();
    if fault == Fault::Gone {
        return files;
    }
    let mut sums = String::new();
    for architecture in ["armhf", "arm64", "amd64"] {
        let text = index(architecture);
        let path = format!("main/binary-{architecture}/Packages");
        sums += &format!(" {} {} {path}\n", Digest::of(text.as_bytes()), text.len());
        let (text, cut) = match fault {
            Fault::OutOfStep => (format!("{text}\n"), None),
            Fault::Cut => (text, Some(20)),
            _ => (text, None),
        };
        files.insert(format!("/debian/dists/{name}/{path}"), (text.into_bytes(), cut));
    }
    let release = format!(
        "Origin: Debian\nSuite: {name}\nCodename: trixie\nVersion: 13.9\nDate: Sat, 01 Nov 2025 09:15:44 UTC\n\
         Architectures: amd64 arm64 armhf\nComponents: main\nSHA256:\n{sums}"
    );
    let signed = match fault {
        Fault::Forged => other.sign(&release),
        Fault::Altered => String::from_utf8(key.sign(&release)).expect("text").replace("13.9", "13.8").into_bytes(),
        _ => key.sign(&release),
    };
    let (file, bytes) = if fault == Fault::Unsigned { ("Release", release.into_bytes()) } else { ("InRelease", signed) };
    files.insert(format!("/debian/dists/{name}/{file}"), (bytes, None));
    files
}

fn index(architecture: &str) -> String {
    let names: &[&str] = match architecture {
        "armhf" => &["apt", "base-files", "hello", "served"],
        "arm64" => &["linux-image-arm64"],
        _ => &TOOL_PACKAGES,
    };
    let stanza = |name: &&str| {
        let essential = if *name == "base-files" { "Essential: yes\n" } else { "" };
        // adduser is nowhere: what makes a container image of the package takes it to be there.
        let needs = if *name == "served" { "Depends: adduser, hello\n" } else { "" };
        let digest = Digest::of(name.as_bytes());
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: {architecture}\n{essential}{needs}Maintainer: Nobody <nobody@hcl.invalid>\n\
             Description: nothing\nFilename: pool/{name}_1_{architecture}.deb\nSize: {}\nSHA256: {digest}\n",
            name.len()
        )
    };
    names.iter().map(stanza).collect::<Vec<_>>().join("\n")
}

/// Serves them.
pub fn serve(files: BTreeMap<String, (Vec<u8>, Option<usize>)>) -> impl Fn(&Asked) -> Reply {
    let files: BTreeMap<_, _> = files.into_iter().map(|(path, (bytes, cut))| (path, (Arc::new(bytes), cut))).collect();
    move |asked| match files.get(&asked.path) {
        Some((bytes, cut)) => Reply { cut_after: *cut, etag: None, ..Reply::good(bytes) },
        None => Reply::status(404),
    }
}

/// A manifest that needs no more than this archive has, from `suites`.
pub fn manifest(path: &Path, keyring: &Path, suites: &[&str]) {
    let text = format!(
        "boards = [\"pi4\"]\n[base.bootstrap]\nsuites = {suites:?}\ncomponents = [\"main\"]\narchitecture = \"armhf\"\n\
         kernel = \"linux-image-arm64:arm64\"\npackages = [\"hello\"]\nkeyring = {:?}\n[user]\nname = \"hcl\"\n\
         [engine]\nkind = \"none\"\n",
        keyring.display().to_string()
    );
    fs::write(path, text).expect("room");
}
