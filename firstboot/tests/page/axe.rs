//! axe-core, which judges a page's accessibility. Fetched when the test runs, checked, kept in the target folder.

use std::{fs, path::Path, process::Command};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::browser::Browser;

const VERSION: &str = "4.10.3";
const SHA_256: &str = "880970c081707360e64f34cea25ff91892f5bc95675b0776925b9709dd8a68bb";

/// What axe finds wrong with the page that `browser` shows: a line for each element.
pub fn violations(browser: &mut Browser) -> Vec<String> {
    browser.value(&format!("{};typeof axe", source()));
    let found = browser.value(
        "axe.run(document, { resultTypes: ['violations'] }).then(r => r.violations.flatMap(v => \
         v.nodes.map(n => `${v.id}: ${n.target}: ${n.failureSummary}`)))",
    );
    serde_json::from_value(found).unwrap()
}

fn source() -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = folder.join(format!("axe-{VERSION}.js"));
    if let Ok(source) = fs::read_to_string(&kept) {
        if is_right(&source) {
            return source;
        }
    }
    let work = tempfile::tempdir_in(folder).unwrap();
    let packed = Command::new("npm")
        .args(["pack", "--silent", &format!("axe-core@{VERSION}")])
        .current_dir(work.path())
        .output()
        .expect("no npm, which fetches axe-core: scripts/install-packages test");
    assert!(packed.status.success(), "npm pack axe-core: {}", String::from_utf8_lossy(&packed.stderr));
    let archive = format!("axe-core-{VERSION}.tgz");
    let unpacked = Command::new("tar").args(["-xzf", &archive, "package/axe.min.js"]).current_dir(work.path()).status().unwrap();
    assert!(unpacked.success());
    let source = fs::read_to_string(work.path().join("package/axe.min.js")).unwrap();
    assert!(is_right(&source), "axe-core {VERSION} is not the one that was looked at");
    fs::rename(work.path().join("package/axe.min.js"), kept).unwrap();
    source
}

fn is_right(source: &str) -> bool {
    Sha256::digest(source).iter().map(|byte| format!("{byte:02x}")).collect::<String>() == SHA_256
}

/// The judge can say no.
#[test]
fn axe_sees_what_is_wrong() {
    let mut browser = Browser::start();
    let html =
        "<html lang=en><title>t</title><main><h1>t</h1><p style='color:#aaa;background:#fff'>pale</p><img src='data:,'></main>";
    browser.call("Page.navigate", json!({ "url": format!("data:text/html,{}", html.replace('#', "%23")) }));
    browser.wait("document.querySelector('img') !== null");
    let found = violations(&mut browser).join("\n");
    assert!(found.contains("color-contrast: p") && found.contains("image-alt: img"), "{found}");
}
