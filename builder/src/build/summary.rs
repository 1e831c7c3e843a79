//! What a person reads at the end of a build: what went in, what came out, what to type next.

use std::path::{Path, PathBuf};

use hcl_firstboot::key::ClusterId;

use super::inputs::Gathered;
use crate::{
    image::output::Finished,
    keys::{ClusterKeyFile, Keys},
    lock::BaseLock,
    manifest::Manifest,
    progress::{Mode, Reporter},
    units::Digest,
};

/// The result of a build.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The image.
    pub image: PathBuf,
    /// Its digest.
    pub sha256: Digest,
    /// The cluster whose key lies in it.
    pub cluster: Option<ClusterId>,
    text: String,
}

impl Summary {
    pub(super) fn new(
        manifest: &Manifest,
        gathered: &Gathered,
        keys: Option<&Keys>,
        cluster_key: Option<&ClusterKeyFile>,
        finished: Finished,
        reporter: &Reporter,
    ) -> Self {
        let lock = &gathered.lock;
        let mut lines = vec![String::new()];
        let mut line = |key: &str, value: String| lines.push(format!("  {key:<10} {value}"));
        line("image", format!("{} ({}, {} on disk)", finished.path.display(), finished.size, finished.stored));
        line("sha256", finished.sha256.to_string());
        for (path, size) in &finished.sides {
            line("beside it", format!("{} ({size})", path.display()));
        }
        match &lock.base {
            BaseLock::Bootstrap(base) => line(
                "system",
                format!("Debian {} ({}), {}, {} packages", base.release, base.codename, base.architecture, base.packages.len()),
            ),
            BaseLock::Download { sha256 } => line("base", sha256.to_string()),
        }
        let engine = match &lock.base {
            BaseLock::Bootstrap(base) => base.packages.iter().find(|package| package.name == "docker.io"),
            BaseLock::Download { .. } => None,
        };
        if let Some(engine) = engine {
            line("engine", format!("Docker {}", engine.version));
        }
        if !lock.images.is_empty() {
            line("images", lock.images.values().map(|image| image.reference.as_str()).collect::<Vec<_>>().join(", "));
        }
        line("node", format!("hcl-firstboot {}, VLAN {}", lock.node_program.short(), manifest.node.vlan));
        line("boards", manifest.boards.iter().map(|board| board.name()).collect::<Vec<_>>().join(", "));
        match cluster_key {
            Some(key) => {
                line("cluster", format!("{}, id {}", manifest.cluster(), key.id()));
                line("key", format!("{}kept in {}", if key.made() { "new, " } else { "" }, key.path().display()));
                line("", "The image file holds the key too: whoever can read it can join the cluster.".to_owned());
            }
            None => line("key", "none: the image can be shared, and forms no cluster before it has one".to_owned()),
        }
        let steps = reporter.finished();
        let longest: Vec<String> = steps
            .iter()
            .filter(|step| step.took.as_secs_f64() >= 0.1)
            .map(|step| format!("{} {:.1}", step.title, step.took.as_secs_f64()))
            .collect();
        line("seconds", format!("{:.1}: {}", steps.iter().map(|step| step.took.as_secs_f64()).sum::<f64>(), longest.join(", ")));
        match keys {
            Some(keys) if keys.made() => line("login", format!("a new key pair, kept in {}", keys.private_path().display())),
            Some(keys) => line("login", format!("the key pair in {}", keys.private_path().display())),
            None if lock.ssh_keys.is_empty() => line("login", "nobody's, before `hcl-image key` adds yours".to_owned()),
            None => line("login", format!("{} keys of the manifest", lock.ssh_keys.len())),
        }
        lines.push(String::new());
        lines.push("Next:".to_owned());
        let image = quote(&finished.path);
        if cluster_key.is_none() {
            lines.push(format!(
                "  hcl-image key {image}                                              # on a copy: makes it yours"
            ));
        }
        lines.push(format!("  sudo dd if={image} of=/dev/sdX bs=4M conv=fsync status=progress    # your card reader; or Etcher"));
        lines.push(format!("  sudo bmaptool copy {image} /dev/sdX                                # faster: skips what is empty"));
        lines.push(format!("  hcl-image up {image}                                               # no Pi at hand: in QEMU"));
        if let Some(keys) = keys {
            lines.push(format!("  {}", keys.ssh_command(&manifest.user.name, "NODE")));
        }
        Self {
            image: finished.path,
            sha256: finished.sha256,
            cluster: cluster_key.map(ClusterKeyFile::id),
            text: lines.join("\n"),
        }
    }

    /// Prints it, as text or as an event.
    pub fn print(&self, reporter: &Reporter) {
        match reporter.mode() {
            Mode::Json => reporter.emit(&serde_json::json!({
                "event": "built", "image": self.image, "sha256": self.sha256.to_string(),
                "cluster_id": self.cluster.map(|id| id.to_string()),
            })),
            Mode::Text => eprintln!("{}", self.text),
            Mode::Quiet => {}
        }
    }
}

/// A path as a shell takes it.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
