//! Containers that did not come back on their overlay networks.
//!
//! After a reboot or its own restart the engine starts containers by their restart policy, those on overlay networks once it is in the
//! swarm again, and each of them **once**: where the overlay is not there yet, since no manager is reached, the container stays
//! `exited` for good, whatever its policy (moby issue 32607; `RestartSwarmContainers` in moby's daemon/daemon.go). The same happens to
//! one whose process ends while no manager is reached. So we start them again, with back-off.
//!
//! Which ones: those that would be running by the engine's own rule (`ShouldRestart` in daemon/internal/restartmanager):
//!
//! - it ran before, and is neither running, nor paused, nor about to be started again;
//! - it has an endpoint on a network of the swarm's, or shares the network of a container and could not be started;
//! - its policy is `always`; or `unless-stopped`, and nobody has stopped it; or `on-failure`, and it failed, with tries left.
//!
//! Whether somebody has stopped it (`docker stop`, `docker kill`) no call of the API tells. The engine's own record on disk does:
//! `HasBeenManuallyStopped`, in containers/ID/config.v2.json below its root folder; so does it of the endpoint, `HasSwarmEndpoint`.
//! With `always` the engine starts even a stopped one, but only when it starts itself: that it tried and failed is what the error in
//! its state tells, since to stop a container takes that away. Without a record that can be read nothing is started.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{Engine, Error, Inspected, SwarmState};

/// The wait after a first failure; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Starts what did not come back. Call [`Reviver::look`] every few seconds.
#[derive(Debug, Default)]
pub struct Reviver {
    /// By container id.
    tried: BTreeMap<String, Tried>,
}

#[derive(Debug)]
struct Tried {
    next: Instant,
    wait: Duration,
}

/// A container that was started, or not.
#[derive(Debug)]
pub struct Revival {
    /// Its name.
    pub name: String,
    /// How it went. After a failure it is tried again later.
    pub started: Result<(), Error>,
}

impl Reviver {
    /// Looks for containers that should run and starts them, each when its time has come; what was tried.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn look(&mut self, engine: &Engine, now: Instant) -> Result<Vec<Revival>, Error> {
        let info = engine.info()?;
        // Without a swarm there is no overlay.
        if !SwarmState::of(info.swarm).is_active() {
            return Ok(Vec::new());
        }
        let mut down = Vec::new();
        for container in engine.containers()? {
            if !["exited", "created"].contains(&container.state.as_str()) {
                continue;
            }
            // It may be gone by now.
            let Some(container) = engine.container(&container.id)? else { continue };
            if should_run(&container, &Record::read(&info.docker_root_dir, &container.id)) {
                down.push(container);
            }
        }
        self.tried.retain(|id, _| down.iter().any(|container| container.id == *id));
        let mut revivals = Vec::new();
        for container in down {
            let wait = match self.tried.get(&container.id) {
                Some(tried) if now < tried.next => continue,
                Some(tried) => (tried.wait * 2).min(LONGEST_WAIT),
                None => FIRST_WAIT,
            };
            let started = engine.start_container(&container.id);
            // One that starts and ends at once has to wait as well.
            self.tried.insert(container.id.clone(), Tried { next: now + wait, wait });
            revivals.push(Revival { name: container.name().to_owned(), started });
        }
        Ok(revivals)
    }
}

/// What only the engine's own record tells.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    has_been_manually_stopped: bool,
    network_settings: NetworkSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    has_swarm_endpoint: bool,
}

impl Record {
    fn read(root: &Path, id: &str) -> io::Result<Self> {
        let path: PathBuf = [root, "containers".as_ref(), id.as_ref(), "config.v2.json".as_ref()].iter().collect();
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
    }
}

fn should_run(container: &Inspected, record: &io::Result<Record>) -> bool {
    let (state, policy) = (&container.state, container.restart_policy());
    let Ok(record) = record else { return false };
    let failed = !state.error.is_empty();
    let on_overlay = record.network_settings.has_swarm_endpoint;
    let beside_another = container.host_config.network_mode.starts_with("container:") && failed;
    if !state.ran_before() || state.running || state.restarting || !(on_overlay || beside_another) {
        return false;
    }
    match policy.name.as_str() {
        "always" => !record.has_been_manually_stopped || failed,
        "unless-stopped" => !record.has_been_manually_stopped,
        "on-failure" => {
            let left = policy.maximum_retry_count == 0 || container.restart_count < policy.maximum_retry_count;
            !record.has_been_manually_stopped && state.exit_code != 0 && left
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A container on an overlay that could not be started, and its record, after `change`.
    fn judged(policy: &str, change: impl Fn(&mut serde_json::Value, &mut serde_json::Value)) -> bool {
        let mut container = json!({
            "Id": "0", "Name": "/web", "Image": "sha256:1", "RestartCount": 3,
            "State": {
                "Status": "exited", "Running": false, "Restarting": false, "ExitCode": 128, "Error": "network ov not found",
                "StartedAt": "2026-11-24T18:20:54Z",
            },
            "Config": { "Labels": {} },
            "HostConfig": { "NetworkMode": "ov", "RestartPolicy": { "Name": policy, "MaximumRetryCount": 0 } },
        });
        let mut record = json!({ "HasBeenManuallyStopped": false, "NetworkSettings": { "HasSwarmEndpoint": true } });
        change(&mut container, &mut record);
        should_run(&serde_json::from_value(container).unwrap(), &serde_json::from_value(record).map_err(io::Error::from))
    }

    #[test]
    fn by_policy() {
        for (policy, wanted) in [("always", true), ("unless-stopped", true), ("on-failure", true), ("no", false), ("", false)] {
            assert_eq!(judged(policy, |_, _| ()), wanted, "{policy}");
            // The engine went down with the container running, and has not tried.
            assert_eq!(judged(policy, |container, _| container["State"]["Error"] = "".into()), wanted, "{policy}");
        }
    }

    #[test]
    fn not_what_somebody_stopped() {
        let stopped = |container: &mut serde_json::Value, record: &mut serde_json::Value| {
            container["State"]["Error"] = "".into();
            record["HasBeenManuallyStopped"] = true.into();
        };
        let failed = |_: &mut serde_json::Value, record: &mut serde_json::Value| record["HasBeenManuallyStopped"] = true.into();
        for policy in ["always", "unless-stopped", "on-failure", "no"] {
            assert!(!judged(policy, stopped), "{policy}");
            assert!(!judged(policy, |_, record| *record = json!({})), "{policy}: nobody knows");
            // The engine starts such a one with itself, and only with this policy.
            assert_eq!(judged(policy, failed), policy == "always", "{policy}");
        }
    }

    #[test]
    fn not_what_is_none_of_ours() {
        let changes: [fn(&mut serde_json::Value, &mut serde_json::Value); 4] = [
            |container, _| container["State"]["Running"] = true.into(),
            |container, _| container["State"]["Restarting"] = true.into(),
            |container, _| container["State"]["StartedAt"] = "0001-01-01T00:00:00Z".into(),
            |_, record| record["NetworkSettings"]["HasSwarmEndpoint"] = false.into(),
        ];
        for change in changes {
            assert!(!judged("always", change));
        }
        assert!(!judged("on-failure", |container, _| container["State"]["ExitCode"] = 0.into()), "it was done");
        let tries = |most: u32| {
            move |container: &mut serde_json::Value, _: &mut serde_json::Value| {
                container["HostConfig"]["RestartPolicy"]["MaximumRetryCount"] = most.into();
            }
        };
        assert!(!judged("on-failure", tries(3)) && judged("on-failure", tries(4)));
    }

    #[test]
    fn with_the_container_whose_network_it_shares() {
        let beside = |container: &mut serde_json::Value, record: &mut serde_json::Value| {
            container["HostConfig"]["NetworkMode"] = "container:1".into();
            record["NetworkSettings"]["HasSwarmEndpoint"] = false.into();
        };
        assert!(judged("always", beside));
        assert!(!judged("always", |container, record| {
            beside(container, record);
            container["State"]["Error"] = "".into();
        }));
    }
}
