//! What is asked of a node that came up: a table of commands and how their answers are judged.
//!
//! All run in one login, since each login costs seconds of emulated key exchange. A later command does
//! not depend on an earlier one's success.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use hcl_firstboot::config::Addresses;
use serde_json::Value;

use super::{black_box, cloud, cluster::Standing, health, idle};
use crate::units::Bytes;

/// What the image and the lab promise, for the judges.
#[derive(Clone, Debug)]
pub struct Expected {
    /// `uname -m`.
    pub kernel: String,
    /// `dpkg --print-architecture`.
    pub userland: String,
    /// The cluster's VLAN.
    pub vlan: u16,
    /// Size of the card.
    pub disk: Bytes,
    /// The cluster's addresses, as the image's `node.toml` has them.
    pub addresses: Addresses,
    /// How many nodes there are.
    pub nodes: usize,
}

impl Expected {
    /// How many of the nodes are servers: one, and three as soon as there are three.
    pub(super) fn servers(&self) -> usize {
        if self.nodes < 3 { 1 } else { 3 }
    }
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Its name in reports.
    pub name: &'static str,
    /// What is wanted, in words.
    pub wants: &'static str,
    /// Seconds that it may take on the node.
    pub limit: u64,
    /// The shell commands; `@VLAN@` stands for the VLAN's id, `@NODES@` for how many nodes there are, `@SERVERS@` for how many of them
    /// are servers.
    pub script: &'static str,
    /// What the answer means: what was seen, if it is right; else what is wrong.
    pub judge: fn(&Answer, &Expected) -> Result<String, String>,
}

/// What a node answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Exit code; 124 when the limit was passed.
    pub code: i32,
    /// What was printed, standard error included.
    pub output: String,
    /// How long it took, seen from here.
    pub took: Duration,
}

impl Answer {
    pub(super) fn first_line(&self) -> &str {
        self.output.lines().next().unwrap_or_default().trim()
    }

    /// The whole output for a message, bounded.
    pub(super) fn quoted(&self) -> String {
        let text = self.output.trim().replace('\n', "; ");
        let cut = text.char_indices().nth(2000).map_or(text.len(), |(at, _)| at);
        let more = if cut < text.len() { " …" } else { "" };
        match self.code {
            0 => format!("{}{more}", &text[..cut]),
            124 => format!("not done in time: {}{more}", &text[..cut]),
            code => format!("exit code {code}: {}{more}", &text[..cut]),
        }
    }

    pub(super) fn succeeded(&self) -> Result<&str, String> {
        if self.code == 0 { Ok(self.output.trim()) } else { Err(self.quoted()) }
    }

    fn is(&self, wanted: &str) -> Result<String, String> {
        let seen = self.succeeded()?;
        if seen == wanted { Ok(seen.to_owned()) } else { Err(format!("`{seen}` instead of `{wanted}`")) }
    }

    /// What a status, in the first line, says of the cluster.
    pub(super) fn standing(&self) -> Result<Standing, String> {
        let status = serde_json::from_str(self.first_line()).map_err(|_| self.quoted())?;
        Standing::read(&status)
    }

    fn json(&self) -> Result<Value, String> {
        let text = self.succeeded()?;
        serde_json::from_str(text).map_err(|error| format!("no JSON ({error}): {}", self.quoted()))
    }
}

/// Facts that must differ from node to node; probes of these names deliver them.
pub const UNIQUE: [&str; 3] = ["machine-id", "ssh host key", "host name"];

/// All questions, in order.
pub const PROBES: &[Probe] = &[
    Probe {
        name: "system running",
        wants: "`systemctl is-system-running` says `running`",
        limit: 600,
        script: "systemctl is-system-running --wait; systemctl list-jobs --no-legend --no-pager | head -5",
        judge: |answer, _| match answer.first_line() {
            "running" => Ok("running".into()),
            _ => Err(answer.quoted()),
        },
    },
    Probe {
        name: "no failed units",
        wants: "`systemctl --failed` is empty",
        limit: 120,
        script: "for unit in $(systemctl --failed --no-legend --plain --no-pager | cut -d' ' -f1); do \
                 systemctl status --no-pager --lines 15 --full \"$unit\"; done",
        judge: |answer, _| if answer.output.trim().is_empty() { Ok("none".into()) } else { Err(answer.quoted()) },
    },
    Probe {
        name: "kernel",
        wants: "the kernel is what the image's boot partition holds",
        limit: 30,
        script: "uname -m",
        judge: |answer, expected| answer.is(&expected.kernel),
    },
    Probe {
        name: "userland",
        wants: "the userland is of the architecture that the image is for",
        limit: 60,
        script: "dpkg --print-architecture",
        judge: |answer, expected| answer.is(&expected.userland),
    },
    Probe {
        name: "root has grown",
        wants: "the root file system fills the card",
        limit: 60,
        script: "df -B1 --output=size / | tail -1",
        judge: |answer, expected| {
            let size: u64 = answer.succeeded()?.parse().map_err(|_| answer.quoted())?;
            // Boot partition, journal and inode tables take the rest.
            let share = size as f64 / expected.disk.0 as f64;
            let seen = format!("{} of {} ({:.0} %)", Bytes(size), expected.disk, share * 100.0);
            if share > 0.85 { Ok(seen) } else { Err(format!("only {seen}")) }
        },
    },
    Probe {
        name: "boot partition",
        wants: "the boot partition is mounted on /boot/firmware, if after everything else",
        limit: 150,
        // The boot does not wait for it.
        script: r#"
            end=$(($(cut -d. -f1 /proc/uptime) + 120))
            until findmnt -n -o SOURCE,FSTYPE /boot/firmware || [ "$(cut -d. -f1 /proc/uptime)" -ge "$end" ]; do sleep 1; done"#,
        judge: |answer, _| match answer.succeeded()? {
            mounted if mounted.ends_with(" vfat") => Ok(mounted.to_owned()),
            "" => Err("not mounted".into()),
            _ => Err(answer.quoted()),
        },
    },
    Probe {
        name: "memory cgroup",
        wants: "memory can be limited: the controller is there",
        limit: 30,
        script: "cat /sys/fs/cgroup/cgroup.controllers || cut -f1,4 /proc/cgroups",
        judge: |answer, _| {
            let text = answer.succeeded()?;
            let unified = text.split_whitespace().any(|word| word == "memory");
            if unified && !text.contains("memory\t0") { Ok(text.replace('\n', "; ")) } else { Err(format!("not among {text}")) }
        },
    },
    Probe {
        name: "VLAN up",
        wants: "the wired interface has a VLAN interface of the cluster's id, and it is up",
        limit: 60,
        script: "ip -d -j link show dev eth0.@VLAN@",
        judge: |answer, expected| vlan_up(&answer.json()?, expected.vlan),
    },
    Probe {
        name: "engine answers",
        wants: "`docker info` answers with the overlay2 driver and memory limits",
        limit: 180,
        script: "docker info --format '{{json .}}' 2>/dev/null || docker info",
        judge: |answer, _| engine(&answer.json()?),
    },
    Probe {
        name: "container runs",
        wants: "a container made of the image's own busybox prints a line",
        limit: 300,
        script: "set -e; tar -C / -ch bin/busybox | docker import - hcl-probe:1 >/dev/null; \
                 docker run --rm --network none hcl-probe:1 /bin/busybox echo hello from a container; \
                 docker rmi hcl-probe:1 >/dev/null",
        judge: |answer, _| answer.is("hello from a container"),
    },
    Probe {
        name: "node status",
        wants: "`hcl status --json` prints JSON",
        limit: 60,
        script: "hcl status --json",
        judge: |answer, _| answer.json().map(|status| summary(&status)),
    },
    Probe {
        name: "machine-id",
        wants: "there is a machine id",
        limit: 30,
        script: "cat /etc/machine-id",
        judge: |answer, _| {
            let id = answer.succeeded()?;
            let right = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            if right { Ok(id.to_owned()) } else { Err(format!("`{id}` is none")) }
        },
    },
    Probe {
        name: "ssh host key",
        wants: "there are SSH host keys",
        limit: 30,
        script: "cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f1,2",
        judge: |answer, _| {
            let key = answer.succeeded()?;
            if key.starts_with("ssh-") { Ok(key.to_owned()) } else { Err(answer.quoted()) }
        },
    },
    Probe {
        name: "host name",
        wants: "the node has a name of its own",
        limit: 30,
        script: "cat /proc/sys/kernel/hostname",
        judge: |answer, _| match answer.succeeded()? {
            "" | "localhost" | "(none)" => Err(answer.quoted()),
            name => Ok(name.to_owned()),
        },
    },
    // The cluster comes last: by then the other nodes have had the time that all the questions above took.
    Probe { name: STANDING, wants: "the node leads or follows", limit: 660, script: STANDING_SCRIPT, judge: standing },
    Probe {
        name: "cluster members",
        wants: "the node knows as many members as there are nodes",
        limit: 60,
        script: "hcl status --json",
        judge: |answer, expected| {
            let count = answer.standing()?.members.len();
            let seen = format!("{count} of {}", expected.nodes);
            if count == expected.nodes { Ok(seen) } else { Err(seen) }
        },
    },
    Probe {
        name: "cluster lease",
        wants: "a follower has a lease that has not ended; the leader needs none",
        limit: 60,
        script: "hcl status --json",
        judge: |answer, _| match answer.standing()? {
            Standing { leads: true, .. } => Ok("the leader".into()),
            Standing { leased: true, .. } => Ok(answer.json()?["lease"].to_string()),
            _ => Err("a follower without a lease".into()),
        },
    },
    Probe {
        name: "cluster addresses",
        wants: "the VLAN interface has the node's address, out of the members' range, and the leader's where the node leads and only there",
        limit: 60,
        script: "hcl status --json; ip -j -4 address show dev eth0.@VLAN@",
        judge: addresses,
    },
    Probe {
        name: "cluster names",
        wants: "`/etc/hostname` has the node's name, and `master` is the leader's address",
        limit: 60,
        script: "cat /proc/sys/kernel/hostname /etc/hostname; getent hosts master",
        judge: names,
    },
    Probe {
        name: "cluster complete",
        wants: "the cluster's page shows every node ready, alive in Consul and in the swarm",
        limit: 960,
        script: cloud::COMPLETE_SCRIPT,
        judge: cloud::complete,
    },
    Probe {
        name: "dependencies",
        wants: "every line of `hcl dependencies` is a [PASS]",
        limit: 60,
        script: "hcl dependencies",
        judge: health::dependencies,
    },
    Probe {
        name: "node health",
        wants: "every line of `hcl health` is a [PASS]",
        limit: 120,
        script: "hcl health --json",
        judge: health::judge,
    },
    Probe {
        name: "black box",
        wants: "the boot partition's black box says that this boot was ready, on the cluster's VLAN",
        limit: 180,
        script: black_box::SCRIPT,
        judge: black_box::judge,
    },
    Probe {
        name: "idle",
        wants: "a program of 4 MiB at most, 8 MiB resident, 5 wake-ups a second and 64 KiB written in 20 s",
        limit: 90,
        script: idle::SCRIPT,
        judge: idle::judge,
    },
];

/// The probe that waits for the cluster, and whose answer is the node's [`Standing`].
pub const STANDING: &str = "cluster role";

/// Prints the last status once it says what is wanted, or after ten minutes: the others may still boot.
pub(super) const STANDING_SCRIPT: &str = r#"
    end=$(($(cut -d. -f1 /proc/uptime) + 600))
    while status=$(hcl status --json 2>&1); [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]; do
        members=$(printf %s "$status" | grep -o '"members":\[[^]]*' | grep -o '"address"' | wc -l)
        case $status in
            *'"address":null'*) ;;
            *'"role":"leader"'*) [ "$members" -ne @NODES@ ] || break ;;
            *'"lease":null'*) ;;
            *'"role":"follower"'*) [ "$members" -ne @NODES@ ] || break ;;
        esac
        sleep 1
    done
    printf '%s\n' "$status""#;

/// What the node says of its place in the cluster.
pub(super) fn standing(answer: &Answer, _: &Expected) -> Result<String, String> {
    let standing = answer.standing()?;
    Ok(format!("{}, {} members", if standing.leads { "leader" } else { "follower" }, standing.members.len()))
}

/// The kernel's name of the node, the file's, and what `master` resolves to.
fn names(answer: &Answer, expected: &Expected) -> Result<String, String> {
    let lines: Vec<&str> = answer.output.lines().map(str::trim).collect();
    let [kernel, file, master] = lines[..] else { return Err(answer.quoted()) };
    let address = master.split_whitespace().next().and_then(|text| text.parse().ok());
    if !kernel.is_empty() && kernel == file && address == Some(expected.addresses.leader()) {
        Ok(format!("{file}, {master}"))
    } else {
        Err(answer.quoted())
    }
}

/// The status in the first line, the interface's addresses behind it.
fn addresses(answer: &Answer, expected: &Expected) -> Result<String, String> {
    let standing = answer.standing()?;
    let (_, links) = answer.output.split_once('\n').ok_or_else(|| answer.quoted())?;
    let links: Value = serde_json::from_str(links.trim()).map_err(|_| answer.quoted())?;
    let there: Vec<Ipv4Addr> = links
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|link| link["addr_info"].as_array().into_iter().flatten())
        .filter_map(|info| info["local"].as_str()?.parse().ok())
        .collect();
    let own = standing.address.ok_or("the node has no address in the cluster")?;
    let (subnet, leader) = (expected.addresses.subnet(), expected.addresses.leader());
    let seen = there.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    if !(subnet.contains(own) && expected.addresses.member_range().contains(subnet.number(own))) {
        Err(format!("{own} is not among the numbers {} of {subnet}", expected.addresses.member_range()))
    } else if !there.contains(&own) {
        Err(format!("{own} is not on the interface, which has {seen}"))
    } else if there.contains(&leader) != standing.leads {
        Err(format!("a {} whose interface has {seen}", if standing.leads { "leader" } else { "follower" }))
    } else {
        Ok(seen)
    }
}

fn vlan_up(links: &Value, vlan: u16) -> Result<String, String> {
    let link = &links[0];
    let kind = link["linkinfo"]["info_kind"].as_str().unwrap_or_default();
    let id = link["linkinfo"]["info_data"]["id"].as_u64().unwrap_or_default();
    let state = link["operstate"].as_str().unwrap_or_default();
    let seen = format!("{} is a {kind} of id {id}, {state}", link["ifname"].as_str().unwrap_or("nothing"));
    if kind == "vlan" && id == u64::from(vlan) && state == "UP" { Ok(seen) } else { Err(seen) }
}

fn engine(info: &Value) -> Result<String, String> {
    let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
    let (version, driver) = (text("ServerVersion"), text("Driver"));
    let errors = info["ServerErrors"].as_array().filter(|errors| !errors.is_empty());
    if let Some(errors) = errors {
        return Err(errors.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "));
    }
    if version.is_empty() {
        return Err("no server version".into());
    }
    if driver != "overlay2" {
        return Err(format!("engine {version} with storage driver `{driver}`"));
    }
    if info["MemoryLimit"] != Value::Bool(true) {
        return Err(format!("engine {version} without memory limits"));
    }
    Ok(format!("engine {version}, {driver}, {}", text("Architecture")))
}

/// The scalars of an object, for a cell of a table.
fn summary(status: &Value) -> String {
    let Some(object) = status.as_object() else { return status.to_string() };
    let scalars = object.iter().filter(|(_, value)| !value.is_object() && !value.is_array() && !value.is_null());
    let text = scalars.map(|(key, value)| format!("{key} {}", value.to_string().trim_matches('"'))).collect::<Vec<_>>();
    if text.is_empty() { "an object".into() } else { text.join(", ") }
}

/// The marker lines around each answer start with this.
const MARK: &str = "%%hcl-probe";

/// The script that asks everything, for `sh` as root.
pub fn script(probes: &[Probe], expected: &Expected) -> String {
    // In a function, so that a command that reads its input does not eat the rest of the script.
    let mut script =
        String::from("export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nmain() {\n");
    for (index, probe) in probes.iter().enumerate() {
        let words = [("@VLAN@", usize::from(expected.vlan)), ("@NODES@", expected.nodes), ("@SERVERS@", expected.servers())];
        let commands =
            words.iter().fold(probe.script.to_owned(), |script, (word, number)| script.replace(word, &number.to_string()));
        let commands = commands.replace('\'', r"'\''");
        // Writing to a String cannot fail.
        let _ = write!(
            script,
            "echo '{MARK} begin {index}'\ntimeout -k 5 {} sh -c '{commands}' 2>&1\ncode=$?; echo; echo \"{MARK} end {index} $code\"\n",
            probe.limit
        );
    }
    script.push_str("}\nmain </dev/null\nexit 0\n");
    script
}

/// Takes the script's output line by line and cuts it into answers.
#[derive(Debug, Default)]
pub struct Answers {
    current: Option<(usize, Instant, String)>,
    /// By probe, as far as they have come.
    pub done: Vec<Answer>,
}

/// An answer longer than this is cut; nobody reads more in a report.
const LONGEST: usize = 64 << 10;

impl Answers {
    /// The script runs: at least one question was put.
    pub fn under_way(&self) -> bool {
        self.current.is_some() || !self.done.is_empty()
    }

    /// Takes a line; the index of the probe that it completes, if it does.
    pub fn feed(&mut self, line: &str) -> Option<usize> {
        if let Some(rest) = line.strip_prefix(MARK) {
            let words: Vec<_> = rest.split_whitespace().collect();
            match words[..] {
                ["begin", index] => {
                    self.current = Some((index.parse().ok()?, Instant::now(), String::new()));
                }
                ["end", index, code] => {
                    let (started, since, output) = self.current.take()?;
                    let index: usize = index.parse().ok()?;
                    if index != started || index != self.done.len() {
                        return None;
                    }
                    let output = output.trim_end().to_owned();
                    self.done.push(Answer { code: code.parse().unwrap_or(-1), output, took: since.elapsed() });
                    return Some(index);
                }
                _ => {}
            }
        } else if let Some((_, _, output)) = &mut self.current
            && output.len() < LONGEST
        {
            output.push_str(line);
            output.push('\n');
        }
        None
    }
}

/// What is expected of the image in tests of judges.
#[cfg(test)]
pub(super) fn example() -> Expected {
    Expected {
        kernel: "aarch64".into(),
        userland: "armhf".into(),
        vlan: 200,
        disk: Bytes(8 << 30),
        addresses: Addresses::DEFAULT,
        nodes: 2,
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
