//! What `hcl status` and `hcl health` read of the running program: `/run/hcl/services.json`.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{status, view::View};

/// The file's name in the run folder.
const FILE: &str = "services.json";

/// What the program is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServicesStatus {
    /// Its process.
    pub pid: u32,
    /// Whether the node is in, as it should be.
    pub settled: bool,
    /// What it is doing, or waits for.
    pub doing: String,
    /// Since when, in milliseconds after the boot.
    pub since_uptime_ms: u64,
    /// What does not work, the last time it was tried.
    pub trouble: Option<String>,
    /// Where the whole cluster is one Docker endpoint, or why it is none.
    pub endpoint: String,
    /// The cluster.
    pub view: View,
}

impl ServicesStatus {
    /// What `hcl status` shows of the program whose file is in `folder`; nothing where it does not run.
    pub fn shown(folder: &Path) -> Option<status::Services> {
        let found = Self::read(folder).ok().flatten().filter(Self::is_alive)?;
        let Self { settled, doing, trouble, endpoint, .. } = found;
        Some(status::Services { settled, doing, trouble, endpoint })
    }

    /// Whether the process that wrote this is still there.
    pub fn is_alive(&self) -> bool {
        status::runs(self.pid)
    }

    /// Replaces the file in `folder`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let written = Self { pid: std::process::id(), ..self.clone() };
        status::replace(folder, FILE, &serde_json::to_vec(&written)?)
    }

    /// Reads the file in `folder`; nothing where no program keeps one.
    ///
    /// # Errors
    ///
    /// It is there but cannot be read.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        status::read(folder, FILE)
    }
}
