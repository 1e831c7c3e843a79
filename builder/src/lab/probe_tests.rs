use super::*;
use std::process::{Command, Stdio};

fn expected() -> Expected {
    Expected {
        kernel: "aarch64".into(),
        userland: "armhf".into(),
        vlan: 200,
        disk: Bytes(8 << 30),
        addresses: Addresses::DEFAULT,
        nodes: 2,
    }
}

fn judge(name: &str, code: i32, output: &str) -> Result<String, String> {
    let probe = PROBES.iter().find(|probe| probe.name == name).unwrap();
    (probe.judge)(&Answer { code, output: output.to_owned(), took: Duration::ZERO }, &expected())
}

#[test]
fn judges_say_yes_and_no() {
    let vlan = |id: u64, state: &str| {
        format!(
            "[{{\"ifname\":\"eth0.200\",\"operstate\":\"{state}\",\
             \"linkinfo\":{{\"info_kind\":\"vlan\",\"info_data\":{{\"protocol\":\"802.1Q\",\"id\":{id}}}}}}}]"
        )
    };
    let engine = |driver: &str, limit: bool| {
        format!("{{\"ServerVersion\":\"26.1.5\",\"Driver\":\"{driver}\",\"MemoryLimit\":{limit},\"Architecture\":\"aarch64\"}}")
    };
    let status = |role: &str, last: u8, members: usize, lease: bool| {
        let members: Vec<_> =
            (0..members).map(|number| serde_json::json!({ "address": format!("192.168.200.{}", 10 + number) })).collect();
        let lease = lease.then(|| serde_json::json!({ "ends_uptime_ms": 9000 }));
        let address = format!("192.168.200.{last}");
        serde_json::json!({ "role": role, "uptime_ms": 8000, "address": address, "members": members, "lease": lease }).to_string()
    };
    let interface = |role: &str, own: u8, there: &[u8]| {
        let there: Vec<_> = there.iter().map(|last| serde_json::json!({ "local": format!("192.168.200.{last}") })).collect();
        format!("{}\n{}", status(role, own, 2, true), serde_json::json!([{ "ifname": "eth0.200", "addr_info": there }]))
    };
    let down = "{\"ServerErrors\":[\"Cannot connect to the Docker daemon\"]}".to_owned();
    let rows: Vec<(&str, i32, String, bool)> = vec![
        ("system running", 0, "running".into(), true),
        ("system running", 1, "degraded\nhcl.service".into(), false),
        ("system running", 124, "starting".into(), false),
        ("no failed units", 0, "\n".into(), true),
        ("no failed units", 0, "x docker.service - Docker\n   Active: failed".into(), false),
        ("kernel", 0, "aarch64".into(), true),
        ("kernel", 0, "armv7l".into(), false),
        ("userland", 0, "armhf".into(), true),
        ("userland", 0, "arm64".into(), false),
        ("root has grown", 0, (7_900_000_000_u64).to_string(), true),
        ("root has grown", 0, (1_900_000_000_u64).to_string(), false),
        ("root has grown", 0, "df: no".into(), false),
        ("memory cgroup", 0, "cpuset cpu io memory pids".into(), true),
        ("memory cgroup", 0, "cpuset cpu io pids".into(), false),
        ("memory cgroup", 0, "cpu\t1\nmemory\t0".into(), false),
        ("VLAN up", 0, vlan(200, "UP"), true),
        ("VLAN up", 0, vlan(201, "UP"), false),
        ("VLAN up", 0, vlan(200, "DOWN"), false),
        ("VLAN up", 1, "Device \"eth0.200\" does not exist.".into(), false),
        ("engine answers", 0, engine("overlay2", true), true),
        ("engine answers", 0, engine("vfs", true), false),
        ("engine answers", 0, engine("overlay2", false), false),
        ("engine answers", 0, down, false),
        ("engine answers", 1, "Cannot connect".into(), false),
        ("container runs", 0, "hello from a container".into(), true),
        ("container runs", 125, "docker: Error".into(), false),
        ("node status", 0, "{\"state\":\"ready\",\"vlan\":{\"id\":200}}".into(), true),
        ("node status", 127, "sh: hcl: not found".into(), false),
        ("machine-id", 0, "0123456789abcdef0123456789abcdef".into(), true),
        ("machine-id", 0, "uninitialized".into(), false),
        ("ssh host key", 0, "ssh-ed25519 AAAA".into(), true),
        ("ssh host key", 0, "".into(), false),
        ("cluster role", 0, status("leader", 10, 2, false), true),
        ("cluster role", 0, status("none", 10, 2, false), false),
        ("cluster role", 3, "{\"running\":false}\nhcl: hcl-firstboot is not running".into(), false),
        ("cluster members", 0, status("follower", 10, 2, true), true),
        ("cluster members", 0, status("follower", 10, 1, true), false),
        ("cluster members", 0, status("follower", 10, 3, true), false),
        ("cluster lease", 0, status("leader", 10, 2, false), true),
        ("cluster lease", 0, status("follower", 10, 2, true), true),
        ("cluster lease", 0, status("follower", 10, 2, false), false),
        ("cluster addresses", 0, interface("leader", 10, &[10, 1]), true),
        ("cluster addresses", 0, interface("follower", 10, &[10]), true),
        ("cluster addresses", 0, interface("leader", 10, &[10]), false),
        ("cluster addresses", 0, interface("follower", 10, &[10, 1]), false),
        ("cluster addresses", 0, interface("follower", 10, &[11]), false),
        ("cluster addresses", 0, interface("follower", 200, &[200]), false),
        ("cluster addresses", 1, status("follower", 10, 2, true) + "\nDevice \"eth0.200\" does not exist.", false),
        ("host name", 0, "node-4c0001".into(), true),
        ("host name", 0, "localhost".into(), false),
        ("cluster names", 0, "node-4c0001\nnode-4c0001\n192.168.200.1   master".into(), true),
        ("cluster names", 2, "node-4c0001\nnode-4c0001".into(), false),
        ("cluster names", 0, "node-4c0001\nhcl-node\n192.168.200.1   master".into(), false),
        ("cluster names", 0, "node-4c0001\nnode-4c0001\n192.168.200.2   master".into(), false),
    ];
    for (name, code, output, passes) in &rows {
        assert_eq!(judge(name, *code, output).is_ok(), *passes, "{name}: {output}");
    }
    for probe in PROBES {
        let has = |passes| rows.iter().any(|row| row.0 == probe.name && row.3 == passes);
        assert!(has(true) && has(false), "{} has no row that says yes or none that says no", probe.name);
    }
    for name in UNIQUE {
        assert!(PROBES.iter().any(|probe| probe.name == name), "{name}");
    }
}

/// The script in a real shell, with commands that quote, read their input, fail and hang.
#[test]
fn the_script_survives_what_its_commands_do() {
    const TABLE: &[Probe] = &[
        Probe { name: "quotes", wants: "", limit: 60, script: "echo 'a b' \"$((1+1))\" @VLAN@", judge: |_, _| Ok(String::new()) },
        Probe { name: "eats", wants: "", limit: 60, script: "cat; exit 3", judge: |_, _| Ok(String::new()) },
        Probe { name: "hangs", wants: "", limit: 1, script: "echo before; sleep 600", judge: |_, _| Ok(String::new()) },
        Probe { name: "no newline", wants: "", limit: 60, script: "printf end; echo err >&2", judge: |_, _| Ok(String::new()) },
    ];
    let mut child = Command::new("sh").arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script(TABLE, &expected()).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let mut answers = Answers::default();
    let done: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().filter_map(|line| answers.feed(line)).collect();
    assert_eq!(done, [0, 1, 2, 3]);
    let seen: Vec<_> = answers.done.iter().map(|answer| (answer.code, answer.output.as_str())).collect();
    assert_eq!(seen, [(0, "a b 2 200"), (3, ""), (124, "before"), (0, "enderr")]);
}

/// The waiting script in a real shell, with a `hcl` that takes a while to say what is wanted.
#[test]
fn the_cluster_is_waited_for() {
    use std::os::unix::fs::PermissionsExt;
    let member = r#"{"address":"192.168.200.10","heard_uptime_ms":null}"#;
    let status = |role: &str, address: &str, lease: &str, members: usize| {
        let members = vec![member; members].join(",");
        format!(r#"{{"address":{address},"lease":{lease},"members":[{members}],"role":"{role}","uptime_ms":1}}"#)
    };
    let (address, lease) = (r#""192.168.200.10""#, r#"{"ends_uptime_ms":9}"#);
    for steps in [
        [status("none", "null", "null", 0), status("leader", address, "null", 1), status("leader", address, "null", 2)],
        [status("follower", "null", lease, 2), status("follower", address, "null", 2), status("follower", address, lease, 2)],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        for (number, step) in steps.iter().enumerate() {
            std::fs::write(folder.path().join(number.to_string()), step).unwrap();
        }
        let hcl = folder.path().join("hcl");
        std::fs::write(
            &hcl,
            format!("#!/bin/sh\ncd {at}\nfor n in 0 1 2; do [ -f $n ] && cat $n && {{ [ $n = 2 ] || rm $n; }} && exit 1; done\n"),
        )
        .unwrap();
        std::fs::set_permissions(&hcl, std::fs::Permissions::from_mode(0o755)).unwrap();
        let probe = [*PROBES.iter().find(|probe| probe.name == STANDING).unwrap()];
        let script = script(&probe, &expected()).replace("PATH=", &format!("PATH={at}:"));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let mut answers = Answers::default();
        String::from_utf8(output.stdout).unwrap().lines().for_each(|line| {
            answers.feed(line);
        });
        assert_eq!(answers.done.len(), 1);
        assert_eq!(answers.done[0].output, steps[2], "it ended before its time, or not at all");
        assert!(answers.done[0].standing().is_ok());
    }
}
