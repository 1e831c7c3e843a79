use std::process::{Command, Stdio};

use hcl_firstboot::status::{LeaderStatus, LeaseStatus, MemberStatus, Snapshot, Status};

use super::*;

fn judge(name: &str, code: i32, output: &str) -> Result<String, String> {
    let probe = PROBES.iter().find(|probe| probe.name == name).unwrap();
    (probe.judge)(&Answer { code, output: output.to_owned(), took: Duration::ZERO }, &example())
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
    let health = |healthy: bool, checks: &[bool]| {
        let checks: Vec<_> = checks.iter().map(|pass| serde_json::json!({ "name": "a", "pass": pass, "line": "a" })).collect();
        serde_json::json!({ "healthy": healthy, "running": true, "checks": checks }).to_string()
    };
    let down = "{\"ServerErrors\":[\"Cannot connect to the Docker daemon\"]}".to_owned();
    let rows: Vec<(&str, i32, String, bool)> = vec![
        ("cluster complete", 0, cloud::tests::page(&["leader", "member"], "ready"), true),
        ("cluster complete", 0, cloud::tests::page(&["leader", "server"], "ready"), false),
        ("cluster complete", 0, cloud::tests::page(&["leader", "member"], "gone"), false),
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
        ("boot partition", 0, "/dev/vda1 vfat".into(), true),
        ("boot partition", 0, "".into(), false),
        ("boot partition", 0, "/dev/vda2[/boot] ext4".into(), false),
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
        ("dependencies", 0, "[PASS] /usr/sbin/nft\n[PASS] VLANs".into(), true),
        ("dependencies", 1, "[PASS] /usr/sbin/nft\n[FAIL] no VLANs".into(), false),
        ("dependencies", 0, "".into(), false),
        ("node health", 0, health(true, &[true, true]), true),
        ("node health", 1, health(false, &[true, false]), false),
        ("node health", 0, health(true, &[true, false]), false),
        ("node health", 0, health(true, &[]), false),
        ("node health", 3, "hcl: it does not run".into(), false),
        ("black box", 0, black_box::tests::output(Some(black_box::tests::good()), false), true),
        ("black box", 0, black_box::tests::output(None, false), false),
        ("idle", 0, idle::tests::output(10, 2000, 0, 2 << 20), true),
        ("idle", 0, idle::tests::output(200, 2000, 0, 2 << 20), false),
        ("idle", 0, idle::tests::output(10, 9000, 0, 2 << 20), false),
        ("idle", 0, idle::tests::output(10, 2000, 1 << 20, 2 << 20), false),
        ("idle", 0, idle::tests::output(10, 2000, 0, 5 << 20), false),
        ("idle", 0, "resident 2000 kB".into(), false),
        ("idle", 1, "cat: /proc//io: No such file or directory".into(), false),
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
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script(TABLE, &example()).as_bytes()).unwrap();
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
    // As the program says it.
    let status = |role: &str, address: Option<u8>, leased: bool, members: u8| {
        let at = |last| Ipv4Addr::new(192, 168, 200, last);
        let peer = |last| MemberStatus { name: "node".into(), address: at(last), node: "0".repeat(32), heard_uptime_ms: Some(1) };
        let lease = LeaseStatus { server: at(1), renew_uptime_ms: 7, rebind_uptime_ms: 8, ends_uptime_ms: 9 };
        let status = Status {
            role: role.into(),
            address: address.map(at),
            leader: Some(LeaderStatus { name: "node".into(), address: at(1), heard_uptime_ms: Some(1) }),
            lease: leased.then_some(lease),
            members: (10..10 + members).map(peer).collect(),
            ..Status::default()
        };
        Snapshot { status, host_name: "node".into(), uptime_ms: 1, services: None }.json().to_string()
    };
    for steps in [
        [status("none", None, false, 0), status("leader", Some(10), false, 1), status("leader", Some(10), false, 2)],
        [status("follower", None, true, 2), status("follower", Some(10), false, 2), status("follower", Some(10), true, 2)],
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
        let script = script(&probe, &example()).replace("PATH=", &format!("PATH={at}:")).replace("+ 600", "+ 60");
        let began = Instant::now();
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let mut answers = Answers::default();
        String::from_utf8(output.stdout).unwrap().lines().for_each(|line| {
            answers.feed(line);
        });
        assert_eq!(answers.done.len(), 1);
        assert_eq!(answers.done[0].output, steps[2], "it ended before its time");
        assert!(began.elapsed() < Duration::from_secs(60), "what was wanted was said, and it waited on");
        assert!(answers.done[0].standing().is_ok());
    }
}
