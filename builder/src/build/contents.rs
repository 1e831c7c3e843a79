//! What the image says of itself: `/usr/share/hcl/image.json` and a bill of materials in SPDX.

mod containers;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{images::Preloaded, inputs::Gathered};
use crate::{
    image::tree::{Content, Entry, Meta, Node},
    lock::{BaseLock, PackageLock},
    manifest::Manifest,
    plan::Edit,
    source::apt::{day, time_of_day},
};

/// Folder in the image.
const FOLDER: &str = "/usr/share/hcl";

/// The edits that lay both files. No key and no password is in either.
pub(super) fn describe(manifest: &Manifest, gathered: &Gathered, images: &[Preloaded]) -> Result<Vec<Edit>> {
    let file = |name: &str, value: &Value| -> Result<Edit> {
        let mut text = serde_json::to_string_pretty(value).with_context(|| format!("writing {name}"))?;
        text.push('\n');
        Ok(Edit::Put(Entry {
            path: PathBuf::from(FOLDER).join(name),
            node: Node::File(Content::Bytes(text.into_bytes())),
            meta: Meta::root(0o644, gathered.lock.epoch as i64),
        }))
    };
    Ok(vec![file("image.json", &image(manifest, gathered, images))?, file("image.spdx.json", &spdx(manifest, gathered, images))?])
}

fn image(manifest: &Manifest, gathered: &Gathered, images: &[Preloaded]) -> Value {
    let lock = &gathered.lock;
    let overlays: Vec<Value> = gathered
        .inputs
        .overlays
        .iter()
        .map(|(name, entries)| {
            let files: Vec<String> =
                entries.iter().filter(|entry| entry.node != Node::Dir).map(|entry| entry.path.display().to_string()).collect();
            json!({ "name": name, "sha256": lock.overlays.get(name), "files": files })
        })
        .collect();
    let base = match &lock.base {
        BaseLock::Download { sha256 } => json!({ "kind": "download", "sha256": sha256 }),
        BaseLock::Bootstrap(base) => json!({
            "kind": "bootstrap", "suite": base.suite, "codename": base.codename, "release": base.release,
            "architecture": base.architecture,
            "packages": base.packages.iter().map(|package| json!({
                "name": package.name, "version": package.version, "architecture": package.architecture, "sha256": package.sha256,
            })).collect::<Vec<_>>(),
        }),
    };
    json!({
        "format": 1,
        "name": manifest.name.to_string(),
        "cluster": manifest.cluster().to_string(),
        "builder": env!("CARGO_PKG_VERSION"),
        "time": lock.epoch,
        "manifest": { "sha256": lock.manifest },
        "boards": manifest.boards.iter().map(|board| board.id()).collect::<Vec<_>>(),
        "node-program": { "path": "/usr/sbin/hcl-firstboot", "sha256": lock.node_program },
        "overlays": overlays,
        "files": manifest.files.iter().map(|file| file.path.to_string()).collect::<Vec<_>>(),
        "ssh-keys": lock.ssh_keys,
        "base": base,
        "images": images.iter().map(containers::summary).collect::<Vec<_>>(),
    })
}

/// SPDX 2.3 (ISO/IEC 5962): one package for each Debian package, one for the node program, and those of the
/// container images.
fn spdx(manifest: &Manifest, gathered: &Gathered, images: &[Preloaded]) -> Value {
    let lock = &gathered.lock;
    let debian: &[PackageLock] = match &lock.base {
        BaseLock::Bootstrap(base) => &base.packages,
        BaseLock::Download { .. } => &[],
    };
    let mut packages = vec![
        json!({
            "SPDXID": "SPDXRef-image", "name": format!("hcl-{}", manifest.name), "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false, "primaryPackagePurpose": "OPERATING-SYSTEM",
        }),
        json!({
            "SPDXID": "SPDXRef-hcl-firstboot", "name": "hcl-firstboot", "versionInfo": env!("CARGO_PKG_VERSION"),
            "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "licenseDeclared": "MIT OR Apache-2.0",
            "checksums": [{ "algorithm": "SHA256", "checksumValue": lock.node_program }],
        }),
    ];
    let mut relationships = vec![
        json!({ "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-image" }),
        json!({ "spdxElementId": "SPDXRef-image", "relationshipType": "CONTAINS", "relatedSpdxElement": "SPDXRef-hcl-firstboot" }),
    ];
    for package in debian {
        let id = format!("SPDXRef-deb-{}-{}", identifier(&package.name), package.architecture);
        let comment = format!("licence in /usr/share/doc/{}/copyright of the image", package.name);
        packages.push(deb(&id, package, "NOASSERTION", &comment));
        relationships.push(json!({ "spdxElementId": "SPDXRef-image", "relationshipType": "CONTAINS", "relatedSpdxElement": id }));
    }
    let mut licences = BTreeMap::new();
    for preloaded in images {
        containers::elements(preloaded, &mut packages, &mut relationships, &mut licences);
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("hcl-{}", manifest.name),
        "documentNamespace": format!("urn:hcl-image:{}:{}", lock.manifest, lock.base.digest()),
        "creationInfo": {
            "created": format!("{}T{}Z", day(lock.epoch), time_of_day(lock.epoch)),
            "creators": [format!("Tool: hcl-image-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relationships,
    });
    if !licences.is_empty() {
        document["hasExtractedLicensingInfos"] =
            licences.into_iter().map(|(id, text)| json!({ "licenseId": id, "name": id, "extractedText": text })).collect();
    }
    document
}

/// A Debian package as SPDX describes it.
fn deb(id: &str, package: &PackageLock, licence: &str, comment: &str) -> Value {
    let purl = format!("pkg:deb/debian/{}@{}?arch={}", package.name, purl_escape(&package.version), package.architecture);
    json!({
        "SPDXID": id, "name": package.name, "versionInfo": package.version, "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false, "licenseDeclared": licence, "comment": comment,
        "checksums": [{ "algorithm": "SHA256", "checksumValue": package.sha256 }],
        "externalRefs": [{ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl }],
    })
}

/// SPDX identifiers hold letters, digits, `.` and `-` only.
fn identifier(name: &str) -> String {
    name.replace('+', ".p")
}

fn purl_escape(version: &str) -> String {
    version.replace('+', "%2B").replace(':', "%3A").replace('~', "%7E")
}
