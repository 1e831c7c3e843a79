//! Image configurations (OCI image specification, `config.md`): written anew, or changed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::{
    manifest::{Arch, OciSettings},
    source::apt::{day, time_of_day},
    units::Digest,
};

/// What an image runs on, as OCI names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Go's name of the architecture.
    pub architecture: &'static str,
    /// Which one of it.
    pub variant: &'static str,
}

impl From<Arch> for Platform {
    fn from(architecture: Arch) -> Self {
        match architecture {
            Arch::Armhf => Self { architecture: "arm", variant: "v7" },
            Arch::Arm64 => Self { architecture: "arm64", variant: "v8" },
        }
    }
}

impl Platform {
    /// How well an image for `other` runs on this one: more is better, `None` not at all.
    pub fn suits(self, os: &str, architecture: &str, variant: &str) -> Option<u8> {
        // Every ARMv7 runs what was made for v6 and v5; nothing else is downward compatible here.
        let rank = match (self.architecture, architecture, variant) {
            ("arm", "arm", "v7" | "7" | "") | ("arm64", "arm64", "v8" | "8" | "") => 3,
            ("arm", "arm", "v6" | "6") => 2,
            ("arm", "arm", "v5" | "5") => 1,
            _ => return None,
        };
        (os == "linux").then_some(rank)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("linux/{}/{}", self.architecture, self.variant))
    }
}

/// One layer for the configuration: its digest, and how it was made.
#[derive(Clone, Debug)]
pub struct Step {
    /// SHA-256 of the uncompressed layer.
    pub diff_id: Digest,
    /// What `docker history` shows.
    pub created_by: String,
}

#[derive(Serialize)]
struct Config<'a> {
    architecture: &'a str,
    variant: &'a str,
    os: &'a str,
    created: String,
    config: Run,
    rootfs: RootFs,
    history: Vec<History>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Run {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, Empty>,
    env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<Vec<String>>,
    working_dir: String,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Serialize)]
struct Empty {}

#[derive(Serialize)]
struct RootFs {
    r#type: &'static str,
    #[serde(serialize_with = "digests")]
    diff_ids: Vec<Digest>,
}

#[derive(Serialize)]
struct History {
    created: String,
    created_by: String,
}

fn digests<S: Serializer>(digests: &[Digest], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(digests.iter().map(|digest| format!("sha256:{digest}")))
}

/// `2025-01-01T00:00:00Z`.
fn time(epoch: u64) -> String {
    format!("{}T{}Z", day(epoch), time_of_day(epoch))
}

/// Where programs are looked for, unless the manifest says otherwise: what every image in a registry has.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The labels that say what an image is: reference and version.
fn own_labels(reference: &str) -> [(String, String); 2] {
    let tag = reference.rsplit_once(':').map_or("", |(_, tag)| tag);
    [
        ("org.opencontainers.image.ref.name".to_owned(), reference.to_owned()),
        ("org.opencontainers.image.version".to_owned(), tag.to_owned()),
    ]
}

/// `8500` is `8500/tcp`.
fn port(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

/// The configuration of an image of our own making. Same input, same bytes.
///
/// # Errors
///
/// None that a real image could have.
pub fn new(reference: &str, settings: &OciSettings, platform: Platform, steps: &[Step], epoch: u64) -> Result<Vec<u8>> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    env.extend(settings.env.clone());
    let mut labels = BTreeMap::from(own_labels(reference));
    labels.extend(settings.labels.clone());
    let config = Config {
        architecture: platform.architecture,
        variant: platform.variant,
        os: "linux",
        created: time(epoch),
        config: Run {
            user: settings.user.clone(),
            exposed_ports: settings.ports.iter().map(|text| (port(text.as_str()), Empty {})).collect(),
            env: env.into_iter().map(|(key, value)| format!("{key}={value}")).collect(),
            entrypoint: settings.entrypoint.clone(),
            cmd: settings.cmd.clone(),
            working_dir: settings.workdir.as_ref().map_or_else(|| "/".to_owned(), ToString::to_string),
            labels,
        },
        rootfs: RootFs { r#type: "layers", diff_ids: steps.iter().map(|step| step.diff_id).collect() },
        history: steps.iter().map(|step| History { created: time(epoch), created_by: step.created_by.clone() }).collect(),
    };
    serde_json::to_vec(&config).context("writing the configuration of a container image")
}

/// The digests of the layers that a configuration names, lowest first.
///
/// # Errors
///
/// It is no configuration of an image.
pub fn diff_ids(config: &[u8]) -> Result<Vec<Digest>> {
    let config: Value = serde_json::from_slice(config).context("its configuration is no JSON")?;
    let ids = config.pointer("/rootfs/diff_ids").and_then(Value::as_array).context("its configuration names no layers")?;
    ids.iter()
        .map(|id| id.as_str().and_then(|id| id.strip_prefix("sha256:")?.parse().ok()).context("its configuration is damaged"))
        .collect()
}

/// The platform that a configuration says its image runs on: system, architecture, variant.
///
/// # Errors
///
/// It is no configuration of an image.
pub fn platform(config: &[u8]) -> Result<(String, String, String)> {
    let config: Value = serde_json::from_slice(config).context("its configuration is no JSON")?;
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((text("os"), text("architecture"), text("variant")))
}

/// The configuration of a finished image with what the manifest says otherwise, and with one layer more if there is one.
/// Where it says nothing, the bytes stay what they are.
///
/// # Errors
///
/// The configuration is none.
pub fn amend(config: Vec<u8>, settings: &OciSettings, step: Option<&Step>, epoch: u64) -> Result<Vec<u8>> {
    if settings.is_empty() && step.is_none() {
        return Ok(config);
    }
    let mut root: Value = serde_json::from_slice(&config).context("its configuration is no JSON")?;
    let root_map = root.as_object_mut().context("its configuration is no JSON object")?;
    let run = root_map.entry("config").or_insert_with(|| json!({}));
    if run.is_null() {
        *run = json!({});
    }
    let run = run.as_object_mut().context("its configuration is damaged")?;
    let OciSettings { entrypoint, cmd, env, labels, ports, user, workdir } = settings;
    if let Some(entrypoint) = entrypoint {
        run.insert("Entrypoint".to_owned(), json!(entrypoint));
        // As `docker run --entrypoint` does: the arguments were meant for the other program.
        run.remove("Cmd");
    }
    if let Some(cmd) = cmd {
        run.insert("Cmd".to_owned(), json!(cmd));
    }
    if let Some(user) = user {
        run.insert("User".to_owned(), json!(user));
    }
    if let Some(workdir) = workdir {
        run.insert("WorkingDir".to_owned(), json!(workdir.to_string()));
    }
    if !env.is_empty() {
        let mut lines: Vec<String> =
            run.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        lines.retain(|line| !env.contains_key(line.split_once('=').map_or(line.as_str(), |(key, _)| key)));
        lines.extend(env.iter().map(|(key, value)| format!("{key}={value}")));
        run.insert("Env".to_owned(), json!(lines));
    }
    extend(run, "Labels", labels.iter().map(|(key, value)| (key.clone(), json!(value))))?;
    extend(run, "ExposedPorts", ports.iter().map(|text| (port(text.as_str()), json!({}))))?;
    if let Some(step) = step {
        let ids = root_map.get_mut("rootfs").and_then(|rootfs| rootfs.get_mut("diff_ids")).and_then(Value::as_array_mut);
        ids.context("its configuration names no layers")?.push(json!(format!("sha256:{}", step.diff_id)));
        if let Some(history) = root_map.get_mut("history").and_then(Value::as_array_mut) {
            history.push(json!({ "created": time(epoch), "created_by": step.created_by }));
        }
    }
    serde_json::to_vec(&root).context("writing the configuration of a container image")
}

fn extend(run: &mut Map<String, Value>, key: &str, more: impl Iterator<Item = (String, Value)>) -> Result<()> {
    let mut more = more.peekable();
    if more.peek().is_none() {
        return Ok(());
    }
    let map = run.entry(key).or_insert_with(|| json!({}));
    if map.is_null() {
        *map = json!({});
    }
    ensure!(map.is_object(), "its configuration is damaged: {key} is no object");
    if let Some(map) = map.as_object_mut() {
        map.extend(more);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        Step { diff_id: Digest::of(b"layer"), created_by: "hcl-image".to_owned() }
    }

    #[test]
    fn a_new_configuration_is_always_the_same_bytes() {
        let settings = OciSettings {
            entrypoint: Some(vec!["/usr/bin/consul".to_owned()]),
            env: BTreeMap::from([("A".to_owned(), "b=c".to_owned())]),
            ports: vec!["8500".parse().unwrap(), "8600/udp".parse().unwrap()],
            ..OciSettings::default()
        };
        let config = new("hcl/consul:1.8.7", &settings, Arch::Armhf.into(), &[step()], 1_700_000_000).unwrap();
        assert_eq!(
            String::from_utf8(config.clone()).unwrap(),
            format!(
                "{{\"architecture\":\"arm\",\"variant\":\"v7\",\"os\":\"linux\",\"created\":\"2023-11-14T22:13:20Z\",\"config\":{{\
                 \"ExposedPorts\":{{\"8500/tcp\":{{}},\"8600/udp\":{{}}}},\"Env\":[\"A=b=c\",\"PATH={PATH}\"],\
                 \"Entrypoint\":[\"/usr/bin/consul\"],\"WorkingDir\":\"/\",\"Labels\":{{\
                 \"org.opencontainers.image.ref.name\":\"hcl/consul:1.8.7\",\"org.opencontainers.image.version\":\"1.8.7\"}}}},\
                 \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{0}\"]}},\
                 \"history\":[{{\"created\":\"2023-11-14T22:13:20Z\",\"created_by\":\"hcl-image\"}}]}}",
                Digest::of(b"layer")
            )
        );
        assert_eq!(diff_ids(&config).unwrap(), [Digest::of(b"layer")]);
        assert_eq!(platform(&config).unwrap(), ("linux".to_owned(), "arm".to_owned(), "v7".to_owned()));
    }

    #[test]
    fn a_finished_configuration_keeps_its_bytes_until_something_is_said() {
        let odd =
            br#"{ "rootfs": {"diff_ids":["sha256:aa"] }, "config":{"Env":["PATH=/bin","A=1"],"Cmd":["sh"],"Labels":null},"x":1}"#;
        assert_eq!(amend(odd.to_vec(), &OciSettings::default(), None, 0).unwrap(), odd);
        let settings = OciSettings {
            entrypoint: Some(vec!["/a".to_owned()]),
            env: BTreeMap::from([("A".to_owned(), "2".to_owned())]),
            labels: BTreeMap::from([("l".to_owned(), "m".to_owned())]),
            ..OciSettings::default()
        };
        let amended: Value = serde_json::from_slice(&amend(odd.to_vec(), &settings, Some(&step()), 0).unwrap()).unwrap();
        let digest = format!("sha256:{}", Digest::of(b"layer"));
        assert_eq!(
            amended,
            json!({ "rootfs": { "diff_ids": ["sha256:aa", digest] }, "x": 1,
                    "config": { "Env": ["PATH=/bin", "A=2"], "Labels": { "l": "m" }, "Entrypoint": ["/a"] } })
        );
        for bad in ["", "[]", "{\"config\":1}", "{\"config\":{\"Labels\":1}}"] {
            assert!(amend(bad.into(), &settings, None, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_best_platform_is_found() {
        let armhf = Platform::from(Arch::Armhf);
        assert!(armhf.suits("linux", "arm", "v7") > armhf.suits("linux", "arm", "v6"));
        assert!(armhf.suits("linux", "arm", "v6") > armhf.suits("linux", "arm", "v5"));
        for (os, architecture, variant) in
            [("linux", "arm64", "v8"), ("windows", "arm", "v7"), ("linux", "arm", "v8"), ("", "", "")]
        {
            assert_eq!(armhf.suits(os, architecture, variant), None, "{os}/{architecture}/{variant}");
        }
        assert_eq!(Platform::from(Arch::Arm64).suits("linux", "arm64", ""), Some(3));
        assert_eq!(
            Platform::from(Arch::Arm64).suits("linux", "arm", "v7"),
            None,
            "a 64-bit userland may have no 32-bit kernel support"
        );
    }
}
