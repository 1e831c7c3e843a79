//! The Swarm API against the engines themselves, side by side in one run. Prints a Markdown table for docs/proof/.
//!
//! `cargo bench -p hcl-swarm` (or `scripts/bench-swarm`, which keeps the text). The lab is that of the conformance table: three real
//! engines, `join` on each, `manage` on two, a laptop on the wire with Docker's CLI 26.1.5. Figures, never a test: nothing here fails
//! for being slow. RUNS=N says how often each short command is measured (15), QUICK=1 leaves the long ones out.

#![cfg(target_os = "linux")]

#[path = "../tests/lab/lab.rs"]
mod lab;

use std::{
    env, fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use lab::{Client, Cluster, IMAGE, Machine, programs::carried, simulated::Simulated, until};

/// Three ways to the same engine, and the whole cluster.
struct Ways {
    /// The unix socket of `node-2`.
    engine: Client,
    /// `join` of `node-2`, with a node's certificate.
    carrier: Client,
    /// `manage` of `node-1`.
    cluster: Client,
}

fn main() {
    // `cargo test --benches` is no request for figures.
    if !env::args().any(|argument| argument == "--bench") {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return;
    }
    let (runs, quick) = (env::var("RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(15), env::var("QUICK").is_ok());
    about();
    let cluster = Cluster::serving();
    let second = &cluster.nodes[1];
    let ways = Ways {
        engine: cluster.direct(carried(), second),
        carrier: carrier(&cluster, second),
        cluster: cluster.client(carried(), &cluster.nodes[0]),
    };
    memory(&cluster, "at the start");
    commands(&cluster, &ways, runs);
    streams(&ways, if quick { 50 } else { 500 });
    memory(&cluster, "after the streams");
    cluster.clean();
    many_containers(&cluster, &ways, if quick { 60 } else { 1000 }, runs);
    memory(&cluster, "with those containers");
    many_engines(&cluster, &ways, if quick { 10 } else { 100 }, runs);
    cluster.clean();
}

fn about() {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(": unknown")
        .trim_start_matches(['\t', ' ', ':'])
        .to_owned();
    println!("# The Swarm API against the engines, {} UTC\n", run("date", &["-u", "+%F %H:%M"]));
    println!(
        "Commit {}; {cpu}, {} cores, Linux {}, load at the start {}. Engines: {}; client: Docker CLI {}.",
        run("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
        thread::available_parallelism().map_or(0, usize::from),
        run("uname", &["-r"]),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or("?"),
        run("dockerd", &["--version"]),
        carried().version
    );
    println!(
        "\nCommand: `make bench-swarm`. *Engine*: the client at the engine's unix socket. *join*: at `hcl-swarm join` of that node, mutual TLS."
    );
    println!(
        "*:2378*: at `hcl-swarm manage` of another node, mutual TLS, which goes through `join`. Every run of a row takes the ways in turn."
    );
}

/// The client with a node's certificate, at the port at which nodes carry their engines.
fn carrier(cluster: &Cluster, node: &Machine) -> Client {
    let folder = cluster.laptop.folder.join("as-node");
    lab::certificates::as_node(&cluster.trust, &cluster.laptop, &folder);
    Client::new(carried(), &cluster.laptop, &cluster.laptop.folder)
        .asking(&format!("tcp://{}:{}", node.address, lab::cluster::CARRIER), &folder)
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn took(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

/// What each way takes for a shell command, in turn, `runs` times: medians and the least and most of each, in milliseconds.
fn row(name: &str, runs: usize, clients: &[&Client], line: impl Fn(usize) -> String) {
    let mut seconds = vec![Vec::new(); clients.len()];
    for number in 0..=runs {
        for turn in 0..clients.len() {
            let way = (turn + number) % clients.len();
            let line = line(way);
            let taken = took(|| drop(clients[way].ok(&line)));
            // The first one of all warms caches.
            if number > 0 {
                seconds[way].push(taken * 1000.0);
            }
        }
    }
    let medians: Vec<_> = seconds.iter_mut().map(|list| (median(list), list[0], list[list.len() - 1])).collect();
    let shown: Vec<_> = medians.iter().map(|(middle, least, most)| format!("{middle:.0} ({least:.0}–{most:.0})")).collect();
    let ratio = medians.last().unwrap().0 / medians[0].0;
    println!("| {name} | {} | {ratio:.2} |", shown.join(" | "));
}

fn commands(cluster: &Cluster, ways: &Ways, runs: usize) {
    println!("\n## Commands: ms, median (least–most) of {runs}\n");
    println!("| command | engine | join | :2378 | :2378 / engine |\n| --- | --- | --- | --- | --- |");
    let all = [&ways.engine, &ways.carrier, &ways.cluster];
    // What the client itself takes, whoever answers.
    row("`docker version`", runs, &all, |_| "docker version".to_owned());
    for node in 1..=3 {
        ways.cluster.ok(&format!("docker run -d --name idle-{node} -e constraint:node==node-{node} {IMAGE} sleep 1000"));
    }
    row("`docker ps`, 1 container on each of 3", runs, &all, |_| "docker ps".to_owned());
    row("`docker inspect`", runs, &all, |_| "docker inspect idle-2".to_owned());
    row("`docker images`", runs, &all, |_| "docker images".to_owned());
    row("`docker exec true`", runs, &all, |_| "docker exec idle-2 true".to_owned());
    let on = |way: usize| if way == 2 { "-e constraint:node==node-2 " } else { "" };
    row("`docker create` + `start` + `rm -f`", runs, &all, |way| {
        format!("docker create --name made {}{IMAGE} sleep 1000 && docker start made && docker rm -f made", on(way))
    });
    row("`docker run --rm`", runs, &all, |way| format!("docker run --rm {}{IMAGE} true", on(way)));
    cluster.clean();
}

fn streams(ways: &Ways, megabytes: usize) {
    let all = [&ways.engine, &ways.carrier, &ways.cluster];
    println!("\n## Streams: MB/s, medians of 3\n");
    println!("| stream | engine | join | :2378 | :2378 / engine |\n| --- | --- | --- | --- | --- |");
    let cluster = &ways.cluster;
    cluster.ok(&format!("docker run -d --name big -e constraint:node==node-2 {IMAGE} sh -c 'head -c {megabytes}000000 /dev/urandom >/big; sleep 10000'"));
    until("the file", || (cluster.run("docker exec big stat -c %s /big").out == format!("{megabytes}000000")).then_some(()));
    let lines = megabytes * 2000;
    cluster.ok(&format!("docker run -d --name talks -e constraint:node==node-2 {IMAGE} seq 1 {lines} && docker wait talks"));
    cluster.ok(&format!("docker run --name saves -e constraint:node==node-2 {IMAGE} sh -c 'head -c {megabytes}000000 /dev/urandom >/big' && docker commit saves hcl/big:1"));
    cluster.ok("docker cp big:/big /tmp/hcl-bench-big");
    for (name, line, size) in [
        ("`docker cp` out of a container", "docker cp big:/big - >/dev/null", megabytes as f64),
        ("`docker cp` into a container", "docker cp /tmp/hcl-bench-big big:/in && docker exec big rm /in", megabytes as f64),
        ("`docker logs`, lines of 8 bytes", "docker logs talks >/dev/null", lines as f64 * 7.9 / 1e6),
        ("`docker save`", "docker save hcl/big:1 >/dev/null", megabytes as f64),
        ("`docker exec -i cat`, there and back", "docker exec -i big cat </tmp/hcl-bench-big >/dev/null", megabytes as f64),
    ] {
        let mut rates = vec![Vec::new(); all.len()];
        for number in 0..3 {
            for turn in 0..all.len() {
                let way = (turn + number) % all.len();
                rates[way].push(size / took(|| drop(all[way].ok(line))));
            }
        }
        let medians: Vec<_> = rates.iter_mut().map(|rates| median(rates)).collect();
        let shown: Vec<_> = medians.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("| {name} | {} | {:.2} |", shown.join(" | "), medians[2] / medians[0]);
    }
    let _ = fs::remove_file("/tmp/hcl-bench-big");
}

fn many_containers(cluster: &Cluster, ways: &Ways, count: usize, runs: usize) {
    println!("\n## {count} containers (created) over 3 engines: ms, median (least–most) of {runs}\n");
    // From four at a time, as scripts do.
    let create = format!("seq 1 {} | xargs -P 4 -n 1 sh -c 'docker create --name many-$0 {IMAGE} sleep 1000 >/dev/null'", count);
    let parts: Vec<_> = (0..count)
        .step_by(50)
        .map(|from| create.replace(&format!("seq 1 {count}"), &format!("seq {} {}", from + 1, count.min(from + 50))))
        .collect();
    let seconds = took(|| parts.iter().for_each(|part| drop(ways.cluster.ok(part))));
    let spread = cluster.spread();
    println!(
        "Made in {seconds:.0} s with four clients at a time; on the nodes: {}.\n",
        spread.values().map(usize::to_string).collect::<Vec<_>>().join(", ")
    );
    println!("| command | engine (a third of them) | :2378 (all) | :2378 / engine |\n| --- | --- | --- | --- |");
    let two = [&ways.engine, &ways.cluster];
    row("`docker ps -a`", runs, &two, |_| "docker ps -a".to_owned());
    row("`docker ps -aq --filter name=…`", runs, &two, |_| "docker ps -aq --filter name=many-1$".to_owned());
    let name = ways.engine.ok("docker ps -aq --no-trunc | head -n 1");
    row("`docker inspect`", runs, &two, |_| format!("docker inspect {name}"));
    row("`docker create` + `rm`", runs, &two, |way| {
        let on = if way == 1 { "-e constraint:node==node-2 " } else { "" };
        format!("docker create --name made {on}{IMAGE} true && docker rm made")
    });
}

fn many_engines(cluster: &Cluster, ways: &Ways, count: usize, runs: usize) {
    println!("\n## {count} simulated engines with 10 containers each: ms, median (least–most) of {runs}\n");
    let second = &cluster.nodes[1];
    ways.cluster.ok(&format!("docker run -d --name model -e constraint:node==node-2 {IMAGE} sleep 1000"));
    let simulated = Simulated::like(second, "model", count, 10, &cluster.folder().join("simulated"));
    let last = &cluster.nodes[2];
    let engines: String =
        simulated.engines.iter().map(|(name, socket)| format!(" --engine {name}=unix://{}", socket.display())).collect();
    let started = Instant::now();
    cluster.manage(last, &engines);
    cluster.answers(last);
    let client = cluster.client(carried(), last);
    until("all engines", || (client.ok("docker info -f '{{.Containers}}'") == (count * 10).to_string()).then_some(()));
    println!("All known {:.1} s after the start of `manage`.\n", started.elapsed().as_secs_f32());
    println!("| command | :2378, {count} engines | to the real three |\n| --- | --- | --- |");
    row("`docker ps`", runs, &[&client], |_| "docker ps".to_owned());
    row("`docker info`", runs, &[&client], |_| "docker info".to_owned());
    row("`docker images`", runs, &[&client], |_| "docker images".to_owned());
    thread::sleep(Duration::from_secs(5));
    println!("\nmanage with {count} engines: {}.", resident(cluster.process("manage", last).expect("it runs")));
    cluster.end("manage", last, "TERM");
}

fn memory(cluster: &Cluster, when: &str) {
    let of = |what: &str, node: &Machine| cluster.process(what, node).map_or_else(|| "gone".to_owned(), resident);
    println!("\nResident {when}: manage {}, join {}.", of("manage", &cluster.nodes[0]), of("join", &cluster.nodes[1]));
}

/// Resident memory of a process now, and the most that it was.
fn resident(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB").trim();
        line.trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1000.0
    };
    format!("{:.1} MB (at most {:.1} MB)", mb("VmRSS:"), mb("VmHWM:"))
}
