//! How long a cluster takes and what goes wrong on the way, ours beside the original Cluster Lab's method, round by round.

use std::{
    fmt::Write,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use super::{
    lab::{BOUND, LEADER, Lab, Node},
    wire,
};

/// One round: nodes that were powered on together.
#[derive(Clone, Debug)]
pub struct Round {
    pub nodes: usize,
    /// From power-on to the first leader.
    pub leader: Duration,
    /// From the first frame of any of them to the first one from the leader's address, on the wire.
    pub on_the_wire: Option<Duration>,
    /// From the first leader to each follower.
    pub followers: Vec<Duration>,
    pub leaders: usize,
    /// Nodes that know a leader and got no address from it.
    pub stranded: usize,
    /// Addresses other than the leader's as which two nodes or more spoke.
    pub shared: Vec<Ipv4Addr>,
}

/// Powers `nodes` on and waits until they are one cluster.
#[track_caller]
pub fn ours(lab: &mut Lab, nodes: &[Node]) -> Round {
    let on = lab.power(nodes);
    let (leader, statuses) = lab.until_formed(nodes);
    lab.until_named(nodes, leader);
    let since = |place: usize| Duration::from_millis(statuses[place]["phase_since_uptime_ms"].as_u64().unwrap());
    let followers = (0..nodes.len()).filter(|place| *place != leader);
    let sent = of_round(lab, nodes);
    let led = sent.iter().find(|sent| wire::speaker(sent, 200) == Some(LEADER)).expect("a leader announces itself").at;
    Round {
        nodes: nodes.len(),
        leader: since(leader).saturating_sub(on),
        on_the_wire: Some(led - sent[0].at),
        followers: followers.map(|place| since(place).saturating_sub(since(leader))).collect(),
        leaders: 1,
        stranded: 0,
        shared: shared(&sent),
    }
}

/// The same with the original's method; they are done when each has told what it is.
#[track_caller]
pub fn original(lab: &mut Lab, nodes: &[Node]) -> Round {
    lab.as_original(nodes);
    let on = lab.power(nodes);
    let end = Instant::now() + BOUND;
    let told = loop {
        let told = lab.told(nodes);
        if told.iter().all(|lines| ["leader ", "follower ", "stranded "].iter().any(|role| lines.contains(role))) {
            break told;
        }
        assert!(Instant::now() < end, "{told:?}\n{}", lab.story(nodes, &vec![serde_json::Value::Null; nodes.len()]));
        thread::sleep(Duration::from_millis(100));
    };
    let at = |role: &str| {
        let lines = told.iter().flat_map(|lines| lines.lines()).filter_map(|line| line.strip_prefix(role)?.split(' ').nth(1));
        lines.map(|seconds| Duration::from_secs_f64(seconds.parse().unwrap())).collect::<Vec<_>>()
    };
    let leaders = at("leader");
    let first = leaders.iter().min().copied().expect("a follower has a leader");
    Round {
        nodes: nodes.len(),
        leader: first.saturating_sub(on),
        on_the_wire: None,
        followers: at("follower").into_iter().map(|at| at.saturating_sub(first)).collect(),
        leaders: leaders.len(),
        stranded: at("stranded").len(),
        shared: shared(&of_round(lab, nodes)),
    }
}

/// What `nodes` sent: their hardware addresses are of this round alone.
fn of_round(lab: &Lab, nodes: &[Node]) -> Vec<wire::Sent> {
    lab.sent().into_iter().filter(|sent| nodes.iter().any(|node| node.mac == sent.by)).collect()
}

fn shared(sent: &[wire::Sent]) -> Vec<Ipv4Addr> {
    let speakers = wire::speakers(sent, 200).into_iter();
    speakers.filter(|(address, by)| *address != LEADER && by.len() > 1).map(|(address, _)| address).collect()
}

/// A table of both.
pub fn table(ours: &[Round], original: &[Round]) -> String {
    let mut table = "\
| method | nodes | rounds | power-on to leader: median, p99 | first frame to leader: median, p99 | leader to follower: median, p99 | rounds with two leaders or more | rounds with another address at two nodes | nodes without an address |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    for (method, rounds) in [("hcl-firstboot", ours), ("the original's", original)] {
        let mut counts: Vec<_> = rounds.iter().map(|round| round.nodes).collect();
        counts.sort_unstable();
        counts.dedup();
        for nodes in counts {
            let rounds: Vec<_> = rounds.iter().filter(|round| round.nodes == nodes).collect();
            let number = |which: &dyn Fn(&Round) -> bool| rounds.iter().filter(|round| which(round)).count();
            let _ = writeln!(
                table,
                "| {method} | {nodes} | {} | {} | {} | {} | {} | {} | {} |",
                rounds.len(),
                figures(rounds.iter().map(|round| round.leader)),
                figures(rounds.iter().filter_map(|round| round.on_the_wire)),
                figures(rounds.iter().flat_map(|round| round.followers.iter().copied())),
                number(&|round| round.leaders > 1),
                number(&|round| !round.shared.is_empty()),
                rounds.iter().map(|round| round.stranded).sum::<usize>(),
            );
        }
    }
    table
}

/// Median and 99th percentile by nearest rank.
fn figures(durations: impl Iterator<Item = Duration>) -> String {
    let mut all: Vec<_> = durations.collect();
    all.sort_unstable();
    let rank = |percent: usize| all[(all.len() * percent).div_ceil(100) - 1].as_secs_f64();
    if all.is_empty() { "none".to_owned() } else { format!("{:.2}, {:.2} s", rank(50), rank(99)) }
}

/// What `make proof` keeps.
pub fn report(ours: &[Round], original: &[Round]) -> String {
    let rounds = ours.len() / 3;
    format!(
        "# Real VLAN tags, {}

`make vlan SCENARIO=powered_on_together ROUNDS={rounds} REPORT=FILE`, commit {}, in a QEMU machine of two emulated Cortex-A53 on {}. A Linux bridge that filters by VLAN is the
switch, VLAN 1 untagged (the home network, on which a television asks for something once a second) and VLAN 200 tagged on every port; each node is
the armhf `hcl-firstboot` in a namespace. Nodes of a round are powered on (their processes started) together, none was on before.

{}
With {rounds} rounds the p99 of leaders is the slowest. \"First frame\" is the first one of any node of the round, \"leader\" on the wire the first frame from
192.168.200.1. The last but one column counts addresses but 192.168.200.1 as which two nodes of a round spoke (ARP senders and IPv4 sources in the
capture).

The original's method is `builder/tests/vlan/original.pl`: VLAN, one of eleven temporary addresses at random and not probed, two seconds of sleep, one
browse of a second for `_cluster._tcp`, no answer means leader. Nodes that were powered on together all sleep through the same two seconds, so none
has published anything when the others ask; a busy machine starts some of them late enough to hear one. Perl, `ip` and busybox are emulated too, which
makes the original's times longer than a board's.
",
        words("date", &["-u", "+%F"]),
        words("git", &["rev-parse", "--short", "HEAD"]),
        words("sh", &["-c", "echo \"$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), load $(cut -d' ' -f1 /proc/loadavg)\""]),
        table(ours, original),
    )
}

fn words(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

mod tests {
    use super::*;

    #[test]
    fn ranks() {
        assert_eq!(figures((1..=10).map(Duration::from_secs)), "5.00, 10.00 s");
        assert_eq!(figures([Duration::from_millis(1500)].into_iter()), "1.50, 1.50 s");
        assert_eq!(figures([].into_iter()), "none");
    }
}
