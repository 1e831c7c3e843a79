//! What the image says of the container images in it: each with its layers, each layer with what is in it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{deb, identifier};
use crate::{
    build::images::{Contents, Preloaded},
    oci::Layer,
    source::container::licence,
};

/// For `image.json`.
pub(super) fn summary(preloaded: &Preloaded) -> Value {
    let Preloaded { name, image, contents } = preloaded;
    let layers: Vec<Value> = image
        .layers
        .iter()
        .zip(contents)
        .map(|(layer, contents)| {
            let mut value = json!({ "diff-id": layer.diff_id, "size": layer.size.0 });
            match contents {
                Contents::Packages(packages) => {
                    value["packages"] = packages
                        .iter()
                        .map(|(package, licences)| {
                            json!({ "name": package.name, "version": package.version, "architecture": package.architecture,
                                    "sha256": package.sha256, "licences": licences })
                        })
                        .collect();
                }
                Contents::Program { path, sha256, .. } => value["program"] = json!({ "path": path, "sha256": sha256 }),
                Contents::Files(paths) => value["files"] = json!(paths),
                Contents::Foreign => {}
            }
            value
        })
        .collect();
    json!({ "name": name, "reference": image.reference, "id": image.id(), "layers": layers })
}

/// For the bill of materials: the image, in it its layers, in them the packages. `licences` are those that SPDX has no name for.
pub(super) fn elements(
    preloaded: &Preloaded,
    packages: &mut Vec<Value>,
    relationships: &mut Vec<Value>,
    licences: &mut BTreeMap<String, String>,
) {
    let Preloaded { name, image, contents } = preloaded;
    let (repository, tag) = image.reference.rsplit_once(':').unwrap_or((&image.reference, ""));
    let own = format!("SPDXRef-oci-{name}");
    packages.push(json!({
        "SPDXID": own, "name": repository, "versionInfo": tag, "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "licenseDeclared": declared(&image.config).unwrap_or_else(|| "NOASSERTION".to_owned()),
        "primaryPackagePurpose": "CONTAINER", "checksums": [{ "algorithm": "SHA256", "checksumValue": image.id() }],
        "comment": "the checksum is that of the image's configuration: the image's id in the engine",
    }));
    relationships.push(contains("SPDXRef-image", &own));
    for (index, (layer, contents)) in image.layers.iter().zip(contents).enumerate() {
        let id = format!("{own}-layer-{index}");
        packages.push(element(&id, layer));
        relationships.push(contains(&own, &id));
        match contents {
            Contents::Packages(debs) => {
                for (package, names) in debs {
                    let deb_id = format!("{own}-deb-{}-{}", identifier(&package.name), package.architecture);
                    let parts: Vec<String> = names.iter().map(|name| licence::expression(name)).collect();
                    for (expression, name) in parts.iter().zip(names) {
                        note_references(expression, name, licences);
                    }
                    let declared = if parts.is_empty() { "NOASSERTION".to_owned() } else { parts.join(" AND ") };
                    let comment = format!("licence in /usr/share/doc/{}/copyright of the container image", package.name);
                    packages.push(deb(&deb_id, package, &declared, &comment));
                    relationships.push(contains(&id, &deb_id));
                }
            }
            Contents::Program { path, sha256, own: ours } => {
                let program = format!("{own}-program");
                let mut element = json!({
                    "SPDXID": program, "name": path, "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
                    "licenseDeclared": "NOASSERTION", "primaryPackagePurpose": "APPLICATION",
                    "checksums": [{ "algorithm": "SHA256", "checksumValue": sha256 }],
                });
                if let Some(ours) = ours {
                    element["name"] = json!(ours.name());
                    element["versionInfo"] = json!(env!("CARGO_PKG_VERSION"));
                    element["licenseDeclared"] = json!(env!("CARGO_PKG_LICENSE"));
                }
                packages.push(element);
                relationships.push(contains(&id, &program));
            }
            Contents::Foreign | Contents::Files(_) => {}
        }
    }
}

/// What an image says of its own licence, if that is an SPDX expression by its letters.
fn declared(config: &[u8]) -> Option<String> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let label = config.pointer("/config/Labels/org.opencontainers.image.licenses")?.as_str()?.trim();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-.+() ".contains(letter);
    (!label.is_empty() && label.chars().all(fits)).then(|| label.to_owned())
}

fn element(id: &str, layer: &Layer) -> Value {
    json!({
        "SPDXID": id, "name": format!("layer {}", layer.diff_id.short()), "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false, "licenseDeclared": "NOASSERTION", "primaryPackagePurpose": "ARCHIVE",
        "checksums": [{ "algorithm": "SHA256", "checksumValue": layer.diff_id }],
    })
}

fn contains(whole: &str, part: &str) -> Value {
    json!({ "spdxElementId": whole, "relationshipType": "CONTAINS", "relatedSpdxElement": part })
}

/// SPDX wants a word about every `LicenseRef-…` that is used.
fn note_references(expression: &str, name: &str, licences: &mut BTreeMap<String, String>) {
    for word in expression.split([' ', '(', ')']).filter(|word| word.starts_with("LicenseRef-")) {
        licences.entry(word.to_owned()).or_insert_with(|| {
            format!("What the copyright files of Debian's packages call `{name}`; its text is in those of the packages that declare it.")
        });
    }
}
