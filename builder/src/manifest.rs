//! What the user asked for.
//!
//! A [`Manifest`] that exists is right: names, digests, sizes and paths have types that cannot hold
//! anything else, and what only several keys together can get wrong was checked while it was read.
//! It comes from TOML files in layers and `--set` options, see [`Manifest::load`].

mod base;
mod board;
mod container;
mod convert;
mod decode;
mod file;
mod layer;
mod output;
mod payload;
mod place;
pub mod schema;
mod text;
mod tree;
mod user;

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use self::{
    place::Sources,
    tree::{Problem, Table as Tree},
};
use crate::error::UsageError;

pub use self::{
    base::{Arch, Base, Bootstrap, Download, PackageName},
    board::{Board, Ethernet},
    container::{
        OciArchive, OciBinary, OciDebian, OciFile, OciImage, OciName, OciRegistry, OciSettings, OciSource, OwnProgram, Port,
        Reference, RegistryImage,
    },
    output::{Compress, Engine, EngineKind, Output, Preload, Table},
    payload::{Device, FileEntry, FileKind, ImagePath, Mode, XattrValue},
    place::SourcePath,
    text::{BadText, Component, ImageName, Suite, Url, UserName},
    user::{PasswordHash, PublicKey, User},
};
pub use hcl_firstboot::config::{ClusterName, NodeConfig};

/// An image as the user asked for it, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Name of the image: the output is `hcl-NAME.img`.
    pub name: ImageName,
    /// The boards it must boot on, at least one.
    pub boards: Vec<Board>,
    /// Debian packages on top of the base's; empty unless the base is a bootstrap.
    pub packages: Vec<PackageName>,
    /// Folders laid into the image in this order; a later one wins.
    pub overlays: Vec<SourcePath>,
    /// Where the system comes from.
    pub base: Base,
    /// Who may log in.
    pub user: User,
    /// How a node behaves: what `/etc/hcl/node.toml` will say.
    pub node: NodeConfig,
    /// The container engine.
    pub engine: Engine,
    /// The image file.
    pub output: Output,
    /// Container images for the engine's store.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<OciName, OciImage>,
    /// Single files, links and devices, laid after the overlays.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Reads the manifest at `path` with everything it includes, and lays `sets` (`KEY=VALUE` each) over it.
    ///
    /// Tables are merged key by key, everything else, arrays too, is replaced whole by the later layer. Relative paths start
    /// from the file they are written in; in `sets`, from the working directory.
    ///
    /// # Errors
    ///
    /// A [`UsageError`] with everything that is wrong, one line each: where, which key, what to do.
    pub fn load(path: &Path, sets: &[String]) -> anyhow::Result<Self> {
        let mut sources = Sources::default();
        let manifest = layer::read(path, sets, &mut sources)
            .and_then(|table: Tree| decode::decode(decode::root(table)))
            .and_then(|file| convert::convert(file, &convert::stem(path), &sources));
        manifest.map_err(|problems| report(path, &problems, &sources))
    }

    /// Architecture of the userland, and so of container images.
    pub fn architecture(&self) -> Arch {
        match &self.base {
            Base::Bootstrap(bootstrap) => bootstrap.architecture,
            Base::Download(_) => Arch::Armhf,
        }
    }

    /// Name of the cluster, under which the host keeps its keys.
    pub fn cluster(&self) -> &ClusterName {
        &self.node.cluster
    }

    /// What is allowed but deserves a word before the build starts: one line each.
    pub fn warnings(&self) -> Vec<String> {
        let debian_kernel = matches!(self.base, Base::Bootstrap(_));
        let warning = |board: &Board| match board.ethernet() {
            Ethernet::None => Some(format!(
                "{board} has no Ethernet: it needs a USB adapter to join a cluster; supported chips: {}",
                Board::USB_ETHERNET
            )),
            Ethernet::NoDriver(chip) if debian_kernel => Some(format!(
                "{board}: Debian 13's kernel has no driver for its {chip}, which carries Ethernet and USB: it starts, but cannot \
                 join a cluster"
            )),
            Ethernet::NoDriver(_) | Ethernet::Chip { .. } => None,
        };
        let mut warnings: Vec<String> = self.boards.iter().filter_map(warning).collect();
        if self.engine.preload == Preload::Load && !self.images.is_empty() {
            warnings.push(
                "`engine.preload` is `load`: each node loads the container images on its first start, which takes it longer"
                    .to_owned(),
            );
        }
        warnings
    }

    /// The manifest as one TOML text, all layers merged, every key named, in a fixed order. Password hashes are hidden,
    /// and paths stand as they were written.
    pub fn render(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# not printable: {error}\n"))
    }
}

/// All problems in the order of their place, one line each.
fn report(path: &Path, problems: &[Problem], sources: &Sources) -> anyhow::Error {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| problem.place.map(|place| (place.source, place.offset)));
    let line = |problem: &&Problem| match problem.place {
        Some(place) => format!("{}: {}", sources.show(place), problem.message),
        // A missing manifest names itself already.
        None if problem.message.starts_with(&path.display().to_string()) => problem.message.clone(),
        None => format!("{}: {}", path.display(), problem.message),
    };
    UsageError::new(sorted.iter().map(line).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests;
