//! Where the programs of this project lie that go into an image: `make node` builds them for a card's architecture.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Options;
use crate::{
    error::UsageError,
    manifest::{Arch, OwnProgram},
};

/// The node program for an architecture.
pub(super) fn node(options: &Options, architecture: Arch) -> Result<PathBuf> {
    if let Some(path) = &options.node_program {
        return given("--node-program", path);
    }
    let architecture = architecture.debian();
    find(&format!("hcl-firstboot-{architecture}"), None).with_context(|| {
        format!("the node program for {architecture} is not built: run `make node`, or name it with --node-program FILE")
    })
}

/// A program for an architecture that runs in a container. Where a node program is named, it is looked for beside that first: what was built
/// together belongs together.
pub(super) fn own(options: &Options, program: OwnProgram, architecture: Arch) -> Result<PathBuf> {
    let OwnProgram::HclSwarm = program;
    if let Some(path) = &options.swarm_program {
        return given("--swarm-program", path);
    }
    let (name, architecture) = (program.name(), architecture.debian());
    let beside = options.node_program.as_deref().and_then(Path::parent);
    find(&format!("{name}-{architecture}"), beside).with_context(|| {
        format!(
            "{name} for {architecture} is not built: run `make node`, name it with --swarm-program FILE, or build without it: \
             --set images.swarm.omit=true"
        )
    })
}

fn given(option: &str, path: &Path) -> Result<PathBuf> {
    if path.is_file() { Ok(path.to_owned()) } else { Err(UsageError::new(format!("{option} {}: no such file", path.display()))) }
}

/// Seen from the working directory or from this program.
fn find(name: &str, first: Option<&Path>) -> Option<PathBuf> {
    let own = std::env::current_exe().ok();
    let folders = [first, Some(Path::new("target")), own.as_deref().and_then(Path::parent)];
    folders.into_iter().flatten().map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_the_node_program_unless_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["hcl-firstboot-armhf", "hcl-swarm-armhf", "hcl-swarm-arm64", "another"] {
            std::fs::write(at(name), name).unwrap();
        }
        let own = |options: &Options, architecture| own(options, OwnProgram::HclSwarm, architecture);
        let options = Options { node_program: Some(at("hcl-firstboot-armhf")), ..Options::default() };
        assert_eq!(own(&options, Arch::Armhf).unwrap(), at("hcl-swarm-armhf"));
        assert_eq!(own(&options, Arch::Arm64).unwrap(), at("hcl-swarm-arm64"));
        let named = Options { swarm_program: Some(at("another")), ..options.clone() };
        assert_eq!(own(&named, Arch::Armhf).unwrap(), at("another"));
        let wrong = Options { swarm_program: Some(at("none")), ..options };
        let error = own(&wrong, Arch::Armhf).unwrap_err();
        assert!(error.is::<UsageError>() && error.to_string().starts_with("--swarm-program "), "{error}");
        assert_eq!(node(&wrong, Arch::Armhf).unwrap(), at("hcl-firstboot-armhf"));
    }
}
