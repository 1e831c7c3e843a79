//! Figures of a cluster that does nothing, and how long it takes to be one, against the same image with everything done by hand.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use crate::lab::{Cluster, SETTLED, image};

/// How long the card is watched. Whoever reads it as an hour's figure multiplies.
const WATCHED: Duration = Duration::from_secs(900);
/// After this, what begins with the cluster has ended.
const QUIET: Duration = Duration::from_secs(180);

/// No program of ours: engine, network and SSH come up as on any Debian.
const BARE: &str = "systemd.mask=hcl-firstboot.service systemd.mask=hcl-cluster.service";

/// Three nodes ready in the swarm, three alive in Consul; what stands on a manager that is a Consul server.
const READY: &str = r#"
    [ "$(docker node ls --format '{{.Status}}' | grep -c Ready)" = 3 ] &&
    [ "$(curl -sSf -m 20 http://localhost:8500/v1/health/state/passing | grep -o '"CheckID":"serfHealth"' | wc -l)" = 3 ]"#;

/// Consul as people start it: servers that look for each other, in the host's network.
const CONSUL: &str = r#"
    image=$(sed -n 's/.*"consul": *"\([^"]*\)".*/\1/p' /etc/hcl/images.json)
    docker run --detach --name consul --network host --restart always --volume consul:/consul --entrypoint consul "$image" \
        agent -server -bootstrap-expect=3 -data-dir=/consul -node="$NAME" -bind="$OWN" -client=0.0.0.0 $JOIN"#;

/// Memory by process: what it has for itself and its share of the rest (PSS), in KiB, and its name.
const MEMORY: &str = r#"
    for process in /proc/[0-9]*; do
        pss=$(sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' "$process/smaps_rollup" 2>/dev/null)
        [ -z "$pss" ] || echo "$pss $(cat "$process/comm")"
    done
    free -k | sed -n 's/^Mem: *[0-9]* *\([0-9]*\).*/\1 USED/p'
    grep -E '^(Slab|KernelStack|PageTables|Percpu):' /proc/meminfo | sed 's/^\([A-Za-z]*\): *\([0-9]*\).*/\2 KERNEL-\1/'"#;

/// Bytes written to the card since boot, and by which process, in bytes.
const WRITTEN: &str = r#"
    set -- $(cat /sys/block/vda/stat); echo $(($7 * 512)) CARD
    for process in /proc/[0-9]*; do
        bytes=$(sed -n 's/^write_bytes: //p' "$process/io" 2>/dev/null)
        [ "${bytes:-0}" = 0 ] || echo "$bytes $(cat "$process/comm")"
    done"#;

/// All images of the image, out of the store and back into it by `docker load`; seconds, images and MiB. The engine must come to the
/// same ids, names and sizes by itself.
const LOAD: &str = r#"
    set -e
    docker rm --force consul >/dev/null
    listed() { docker images --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}} {{.Size}}' | sort; }
    images=$(docker images --format '{{.Repository}}:{{.Tag}}')
    seeded=$(listed)
    docker save --output /var/tmp/images.tar $images
    docker rmi $images >/dev/null
    sync; echo 3 >/proc/sys/vm/drop_caches
    began=$(cut -d' ' -f1 /proc/uptime)
    docker load --quiet --input /var/tmp/images.tar >/dev/null
    sync
    ended=$(cut -d' ' -f1 /proc/uptime)
    [ "$seeded" = "$(listed)" ] || { echo "seeded: $seeded"; echo "loaded: $(listed)"; exit 1; } >&2
    echo "$began $ended $(echo $images | wc -w) $(($(stat -c %s /var/tmp/images.tar) >> 20))"
    rm /var/tmp/images.tar"#;

#[test]
#[ignore = "needs a built image, a quiet machine and an hour: make proof"]
fn figures_of_a_cluster() {
    let nodes = [0, 1, 2];
    let mut report = String::new();

    let mut cluster = Cluster::start("figures-ours", &image(), 3, 0, &[]);
    let ours = ready(&mut cluster, &nodes);
    cluster.settled(&nodes);
    let settled = cluster.elapsed();
    cluster.look(QUIET);
    let leader = cluster.leader(&nodes);
    let before = nodes.map(|node| table(&cluster.ask(node, WRITTEN)));
    let began = Instant::now();
    cluster.look(WATCHED);
    let after = nodes.map(|node| table(&cluster.ask(node, WRITTEN)));
    let watched = began.elapsed();
    let memory = nodes.map(|node| table(&cluster.ask(node, MEMORY)));
    drop(cluster);

    let mut cluster = Cluster::start_with("figures-by-hand", &image(), 3, 0, &[], BARE);
    by_hand(&mut cluster);
    let by_hand = ready(&mut cluster, &nodes);
    let loaded: Vec<f64> = cluster.ask(2, LOAD).split_whitespace().map(|word| word.parse().unwrap()).collect();
    drop(cluster);

    let [began, ended, images, mib] = loaded[..] else { panic!("{loaded:?}") };
    let (ours, settled, by_hand) = (ours.as_secs_f64(), settled.as_secs_f64(), by_hand.as_secs_f64());
    writeln!(report, "From power-on, three nodes together:\n").unwrap();
    writeln!(report, "| | seconds |\n|---|---|").unwrap();
    writeln!(report, "| three ready in `docker node ls` and three alive in Consul | {ours:.0} |").unwrap();
    writeln!(report, "| the same by hand: no program of ours, swarm and Consul scripted over SSH | {by_hand:.0} |").unwrap();
    writeln!(report, "| ratio | {:.2} |", ours / by_hand).unwrap();
    writeln!(report, "| every node ready with all checks, three servers | {settled:.0} |").unwrap();
    writeln!(
        report,
        "| `docker load` of the {images:.0} images ({mib:.0} MiB), which no node has to do | {:.0} |\n",
        ended - began
    )
    .unwrap();
    writeln!(
        report,
        "Memory after {:.0} minutes without work, MiB (PSS; node-{} leads):\n",
        (QUIET + watched).as_secs_f64() / 60.0,
        leader + 1
    )
    .unwrap();
    report += &rows(&memory, 512, 1024.0, 1.0);
    writeln!(report, "\nWritten to the card in an hour, MiB, from {:.0} s:\n", watched.as_secs_f64()).unwrap();
    let written = [0, 1, 2].map(|node| difference(&before[node], &after[node]));
    report += &rows(&written, 1, 1048576.0, 3600.0 / watched.as_secs_f64());
    println!("{report}");
    if let Some(path) = std::env::var_os("HCL_FIGURES").filter(|path| !path.is_empty()) {
        std::fs::write(path, &report).unwrap();
    }
    assert!(ours <= 1.25 * by_hand, "{ours:.0} s, by hand {by_hand:.0} s");
    for node in &memory {
        let programs: u64 =
            node.iter().filter(|(name, _)| !name.starts_with("KERNEL") && *name != "USED").map(|(_, kib)| kib).sum();
        assert!(programs < 250 << 10, "{programs} KiB");
    }
}

/// Until somebody sees three ready; seconds since power-on.
fn ready(cluster: &mut Cluster, nodes: &[usize]) -> Duration {
    while cluster.elapsed() < SETTLED {
        for node in nodes {
            if cluster.try_ask(*node, READY).is_ok() {
                cluster.say(&format!("three ready, says node-{}", node + 1));
                return cluster.elapsed();
            }
        }
        cluster.look(Duration::from_secs(1));
    }
    panic!("not three ready after {} s", SETTLED.as_secs());
}

/// What a person with a good script does, as soon as each node lets them in.
fn by_hand(cluster: &mut Cluster) {
    let own = "ip -4 -o addr show dev eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'";
    let up = format!("systemctl is-active --quiet docker && {own}");
    let first = cluster.ask_within(0, &up, SETTLED).trim().to_owned();
    let init = format!("docker swarm init --advertise-addr {first} >/dev/null && docker swarm join-token --quiet worker");
    let token = cluster.ask(0, &init).trim().to_owned();
    cluster.ask(0, &format!("NAME=node-1 OWN={first} JOIN=\n{CONSUL}"));
    for node in [1, 2] {
        let address = cluster.ask_within(node, &up, SETTLED).trim().to_owned();
        cluster.ask(node, &format!("docker swarm join --token {token} {first}:2377"));
        cluster.ask(node, &format!("NAME=node-{} OWN={address} JOIN=-retry-join={first}\n{CONSUL}", node + 1));
    }
}

/// Numbers by name; processes of one name together.
fn table(text: &str) -> BTreeMap<String, u64> {
    let mut table = BTreeMap::new();
    for line in text.lines() {
        let (number, name) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        *table.entry(name.to_owned()).or_default() += number.parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
    }
    table
}

/// Processes that ended meanwhile take their figures with them: the card's own line has it all.
fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    after.iter().map(|(name, bytes)| (name.clone(), bytes.saturating_sub(before.get(name).copied().unwrap_or(0)))).collect()
}

/// A Markdown table of what has at least `least` on some node, the largest first.
fn rows(nodes: &[BTreeMap<String, u64>; 3], least: u64, unit: f64, factor: f64) -> String {
    let mut names: Vec<_> = nodes.iter().flat_map(BTreeMap::keys).collect();
    let most = |name: &String| nodes.iter().filter_map(|node| node.get(name)).max().copied().unwrap_or(0);
    names.sort_by_key(|name| (std::cmp::Reverse(most(name)), *name));
    names.dedup();
    let mut text = "| | node-1 | node-2 | node-3 |\n|---|---|---|---|\n".to_owned();
    for name in names.into_iter().filter(|name| most(name) >= least) {
        let cell = |node: &BTreeMap<String, u64>| format!("{:.1}", *node.get(name).unwrap_or(&0) as f64 / unit * factor);
        writeln!(text, "| {name} | {} | {} | {} |", cell(&nodes[0]), cell(&nodes[1]), cell(&nodes[2])).unwrap();
    }
    text
}
