//! What a real engine says of its images: to be compared with what another one says of the same.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use hcl_image::units::Digest;
use serde_json::Value;

use crate::{engine::Engine, folder};

/// Shows what a container finds: content, permissions, owners, links, what is gone. What the engine itself lays into it is left out.
const LOOK: &str = "cd /; own='-path ./proc -o -path ./sys -o -path ./dev -o -path ./.dockerenv'
     own=\"$own -o -path ./etc/hosts -o -path ./etc/hostname -o -path ./etc/resolv.conf -o -path ./etc/mtab\"
     busybox find . -xdev \\( $own \\) -prune -o -type d -exec busybox stat -c '%n %a %u:%g' {} + \
         -o -exec busybox stat -c '%N %F %a %u:%g %s %h %t:%T %Y' {} + | busybox sort
     busybox find . -xdev \\( $own \\) -prune -o -type f -exec busybox sha256sum {} + | busybox sort";

/// Everything that an engine says of an image.
#[derive(Debug, PartialEq)]
pub struct Said {
    pub inspect: Value,
    pub history: String,
    /// SHA-256 of what `docker save` gives for each layer.
    pub layers: Vec<Digest>,
    /// What a container of it finds; the error where it has no shell.
    pub found: Result<String, String>,
}

/// What an engine says of all its images by name, and of what they take up.
pub type Heard = (BTreeMap<String, Said>, String);

/// All images of `engine`.
pub fn hear(engine: &Engine, work: &Path) -> Result<Heard, String> {
    let mut all = BTreeMap::new();
    let names = engine.try_docker(&["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}}"])?;
    for name in names.lines() {
        let mut inspect: Value = serde_json::from_str(&engine.try_docker(&["image", "inspect", name])?).unwrap();
        // Where it lies and when it came is the engine's own.
        for part in ["GraphDriver", "Metadata"] {
            inspect[0].as_object_mut().unwrap().remove(part);
        }
        let look = ["run", "--rm", "--network", "none", name, "/bin/busybox", "sh", "-c", LOOK];
        let said = Said {
            layers: save(engine, name, work)?,
            history: engine.try_docker(&["history", "--no-trunc", name])?,
            found: engine.try_docker(&look).map_err(|error| error.lines().next().unwrap_or_default().to_owned()),
            inspect,
        };
        all.insert(name.to_owned(), said);
    }
    let usage = engine.try_docker(&["system", "df", "-v", "--format", "{{json .Images}}"])?;
    let mut usage: Vec<Value> = serde_json::from_str(&usage).unwrap();
    usage.sort_by_key(|image| image["ID"].to_string());
    Ok((all, serde_json::to_string_pretty(&usage).unwrap()))
}

/// The digests of the layers that `docker save` gives, in order. They must be what the configuration names.
fn save(engine: &Engine, name: &str, work: &Path) -> Result<Vec<Digest>, String> {
    let path = work.join("saved.tar");
    engine.try_docker(&["save", "-o", path.to_str().unwrap(), name])?;
    let mut archive = tar::Archive::new(File::open(&path).unwrap());
    let (mut digests, mut small) = (BTreeMap::new(), BTreeMap::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if path.extension().is_some_and(|extension| extension == "json") {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            small.insert(path, content);
        } else if entry.header().entry_type().is_symlink() {
            let target = path.parent().unwrap().join(entry.link_name().unwrap().unwrap());
            let target = target.components().fold(PathBuf::new(), |path, part| match part {
                std::path::Component::ParentDir => path.parent().unwrap().to_owned(),
                part => path.join(part),
            });
            digests.insert(path, digests[&target]);
        } else if entry.header().entry_type().is_file() {
            digests.insert(path, Digest::of_reader(&mut entry).unwrap());
        }
    }
    let manifest: Value = serde_json::from_slice(&small[Path::new("manifest.json")]).unwrap();
    let text = |value: &Value| PathBuf::from(value.as_str().unwrap());
    let layers: Vec<Digest> = manifest[0]["Layers"].as_array().unwrap().iter().map(|layer| digests[&text(layer)]).collect();
    let config: Value = serde_json::from_slice(&small[&text(&manifest[0]["Config"])]).unwrap();
    let named = config["rootfs"]["diff_ids"].as_array().unwrap();
    let named: Vec<Digest> = named.iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect();
    if layers == named { Ok(layers) } else { Err(format!("docker save {name}: layers {layers:?} are not {named:?}")) }
}

/// What a store holds of a layer, without what an engine draws or leaves open.
pub struct Layer {
    /// Digest, size and parent.
    pub facts: String,
    /// tar-split without the borders between segments.
    pub split: Vec<Value>,
    /// The files.
    pub files: BTreeMap<PathBuf, String>,
}

/// Layers by chain id.
pub type Layers = BTreeMap<String, Layer>;

/// All layers in the store in `data`.
pub fn layers(data: &Path) -> Layers {
    let known = data.join("image/overlay2/layerdb/sha256");
    let mut all = BTreeMap::new();
    for entry in known.read_dir().unwrap() {
        let folder = entry.unwrap().path();
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let split = File::open(folder.join("tar-split.json.gz")).unwrap();
        let mut lines = String::new();
        flate2::read::GzDecoder::new(split).read_to_string(&mut lines).unwrap();
        let layer = Layer {
            facts: format!("{} {} {}", text("diff"), text("size"), text("parent")),
            split: joined(&lines),
            files: folder::tree(&data.join("overlay2").join(text("cache-id")).join("diff")),
        };
        all.insert(folder.file_name().unwrap().to_str().unwrap().to_owned(), layer);
    }
    all
}

/// Segments that follow each other are one: how an engine cuts them depends on how it read.
fn joined(lines: &str) -> Vec<Value> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let mut joined: Vec<Value> = Vec::new();
    for (position, line) in lines.lines().enumerate() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["position"], position);
        line.as_object_mut().unwrap().remove("position");
        if line["type"] == 2 {
            let bytes = BASE64_STANDARD.decode(line["payload"].as_str().unwrap()).unwrap();
            match joined.last_mut() {
                Some(last) if last["type"] == 2 => {
                    let mut before = hex::decode(last["bytes"].as_str().unwrap()).unwrap();
                    before.extend(bytes);
                    last["bytes"] = hex::encode(before).into();
                }
                _ => joined.push(serde_json::json!({ "type": 2, "bytes": hex::encode(bytes) })),
            }
        } else {
            joined.push(line);
        }
    }
    joined
}
