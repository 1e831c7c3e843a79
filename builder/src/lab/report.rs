//! What a test saw, as data (`report.json`) and as a page (`report.html`).

mod page;
mod timeline;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;

/// One statement that was checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assertion {
    /// Its name.
    pub name: String,
    /// Of which node; `None` for the lab as a whole.
    pub node: Option<String>,
    /// What was wanted, in words.
    pub wanted: String,
    /// What was seen.
    pub seen: String,
    /// Seen was wanted.
    pub passed: bool,
    /// Seconds that the node took to answer, where it was asked.
    pub seconds: Option<f64>,
}

/// One point of a node's life.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Milestone {
    /// Seconds since the lab's start.
    pub at: f64,
    /// What happened.
    pub label: String,
    /// Something is wrong.
    pub trouble: bool,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its name in the lab.
    pub name: String,
    /// Its network card.
    pub mac: String,
    /// Its address on the home LAN.
    pub address: Option<String>,
    /// Its life.
    pub milestones: Vec<Milestone>,
    /// The console log, beside the report.
    pub console: String,
    /// Frames that the switch took from it.
    pub frames_from: u64,
    /// Frames that the switch gave to it.
    pub frames_to: u64,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// All assertions passed, and nothing broke.
    pub passed: bool,
    /// What ended the test before its time.
    pub failure: Option<String>,
    /// The image's path.
    pub image: PathBuf,
    /// The image's SHA-256 before the test.
    pub sha256: String,
    /// Which board QEMU played.
    pub machine: String,
    /// QEMU's version.
    pub qemu: String,
    /// The kernel's name on the boot partition.
    pub kernel: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The nodes.
    pub nodes: Vec<NodeReport>,
    /// The assertions, in the order in which they were checked.
    pub assertions: Vec<Assertion>,
    /// The capture, beside the report.
    pub capture: String,
}

impl Report {
    /// Assertions that did not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Assertion> {
        self.assertions.iter().filter(|assertion| !assertion.passed)
    }

    /// Writes `report.json` and `report.html` into `folder`, and returns the page's path.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let mut json = serde_json::to_vec_pretty(self).context("writing the report as JSON")?;
        json.push(b'\n');
        let put = |name: &str, content: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            anyhow::Ok(path)
        };
        put("report.json", &json)?;
        put("report.html", page::render(self).as_bytes())
    }
}

#[cfg(test)]
pub(crate) fn example() -> Report {
    let milestone = |at: f64, label: &str, trouble| Milestone { at, label: label.into(), trouble };
    let node = |name: &str, shift: f64| NodeReport {
        name: name.into(),
        mac: "b8:27:eb:4c:00:01".into(),
        address: Some("192.168.77.20".into()),
        milestones: vec![
            milestone(1.0 + shift, "kernel", false),
            milestone(4.0 + shift, "initrd", false),
            milestone(11.5 + shift, "systemd", false),
            milestone(20.0 + shift, "failed unit: <b>docker</b>", true),
            milestone(31.0 + shift, "multi-user", false),
            milestone(32.0 + shift, "login", false),
            milestone(90.0 + shift, "power off", false),
        ],
        console: format!("{name}.console.log"),
        frames_from: 120,
        frames_to: 98,
    };
    let assertion = |name: &str, node: Option<&str>, passed| Assertion {
        name: name.into(),
        node: node.map(str::to_owned),
        wanted: "what is <wanted>".into(),
        seen: if passed { "as wanted".into() } else { "`degraded` & more".into() },
        passed,
        seconds: Some(1.25),
    };
    Report {
        passed: false,
        failure: None,
        image: "out/hcl-debian-trixie-armhf.img".into(),
        sha256: "ab".repeat(32),
        machine: "virt".into(),
        qemu: "10.0.2".into(),
        kernel: "vmlinuz-6.12-arm64".into(),
        started: "2026-01-02T03:04:05Z".into(),
        seconds: 123.4,
        nodes: vec![node("node-1", 0.0), node("node-2", 3.0)],
        assertions: vec![
            assertion("image untouched", None, true),
            assertion("system running", Some("node-1"), true),
            assertion("system running", Some("node-2"), false),
        ],
        capture: "wire.pcapng".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_stands_alone_and_escapes() {
        let folder = tempfile::tempdir().unwrap();
        let page = example().write(folder.path()).unwrap();
        let html = fs::read_to_string(page).unwrap();
        for wanted in ["wire.pcapng", "node-2.console.log", "`degraded` &amp; more", "failed unit: &lt;b&gt;docker", "<svg"] {
            assert!(html.contains(wanted), "{wanted} is not in the page");
        }
        for unwanted in ["<script", "http://", "https://", "<b>docker"] {
            assert!(!html.replace("http://www.w3.org/2000/svg", "").contains(unwanted), "{unwanted} is in the page");
        }
        let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.path().join("report.json")).unwrap()).unwrap();
        assert_eq!(json["assertions"][2]["passed"], false);
    }

    /// Looked at by a person; kept where the environment says.
    #[test]
    fn the_example_page_can_be_kept() {
        if let Some(folder) = std::env::var_os("HCL_KEEP_REPORT") {
            example().write(Path::new(&folder)).unwrap();
        }
    }
}
