//! The judges: which programs they are and where they lie.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Ours.
pub const HCL_SWARM: &str = env!("CARGO_BIN_EXE_hcl-swarm");

/// A Docker client.
#[derive(Clone, Debug)]
pub struct Docker {
    /// Such as `26.1.5`.
    pub version: String,
    /// The program.
    pub path: PathBuf,
    /// Compose, where it comes with one.
    pub compose: Option<PathBuf>,
}

/// All clients that there are, oldest first: 20.10 and 26.1.5, and whatever else is on this machine, which may be nothing.
pub fn clients() -> &'static [Docker] {
    static CLIENTS: OnceLock<Vec<Docker>> = OnceLock::new();
    CLIENTS.get_or_init(|| {
        let folder = script("docker-cli");
        let carried = Docker {
            version: version(&folder.join("docker")).expect("scripts/docker-cli brings a client"),
            path: folder.join("docker"),
            compose: Some(folder.join("docker-compose")),
        };
        let mut all = vec![carried];
        for folder in env::var("PATH").unwrap_or_default().split(':').chain(["/usr/bin", "/usr/local/bin"]) {
            let path = Path::new(folder).join("docker");
            if let Some(version) = version(&path) {
                if all.iter().all(|client| client.version != version) {
                    all.push(Docker { version, path, compose: None });
                }
            }
        }
        all.sort_by_key(|client| numbers(&client.version));
        for wanted in ["20.10.", "26.1.5"] {
            let found = all.iter().any(|client| client.version.starts_with(wanted));
            assert!(found, "no Docker client {wanted} here: run scripts/install-packages test, on Debian 12");
        }
        all
    })
}

/// The client that the image carries.
pub fn carried() -> &'static Docker {
    clients().iter().find(|client| client.compose.is_some()).expect("scripts/docker-cli brings Compose")
}

/// Debian's Consul.
pub fn consul() -> PathBuf {
    script("consul")
}

/// What a script of this tree puts into the cache.
fn script(name: &str) -> PathBuf {
    let script = format!("{}/../scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(&script).output().unwrap_or_else(|error| panic!("{script}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "a judge is needed, run scripts/install-packages test: {said}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Which client this is; none where there is none.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.strip_prefix("Docker version ")?.split([',', '+']).next()?;
    Some(version.to_owned())
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|number| number.parse().unwrap_or(0)).collect()
}
