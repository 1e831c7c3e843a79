//! What a person orders for all nodes at once, a log-in that asks nothing, and a lab that goes on without its only server.

use std::{process::Command, time::Duration};

use hcl_image::lab::node::Clock;

use crate::lab::{Cluster, image};

const BOOT: &str = "cat /proc/sys/kernel/random/boot_id";

/// By the certificate of its host key, and nothing else: `hcl-image ssh` against the node's own sshd.
fn log_in(port: u16) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hcl-image"));
    let output = command.args(["ssh", "--port", &port.to_string(), "127.0.0.1", "hostname"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
#[ignore = "needs a built image and twenty minutes: make proof"]
fn orders_reach_all_and_a_lab_goes_on_alone() {
    let mut cluster = Cluster::start("orders", &image(), 2, 0, &[]);
    let two = [0, 1];
    cluster.settled(&two);
    for node in two {
        let name = cluster.ask(node, "cat /proc/sys/kernel/hostname");
        assert_eq!(log_in(cluster.port(node)), name.trim());
    }
    let leader = cluster.leader(&two);
    let follower = 1 - leader;
    let identities = two.map(|node| cluster.identity(node));

    let boots = two.map(|node| cluster.ask(node, BOOT));
    let said = cluster.ask(follower, "hcl reboot --all");
    cluster.say(&said);
    for node in two {
        cluster.until(node, BOOT, |boot| boot.trim() != boots[node].trim());
    }
    cluster.settled(&two);
    assert_eq!(two.map(|node| cluster.identity(node)), identities);
    cluster.healthy(&two);

    let leader = cluster.leader(&two);
    let follower = 1 - leader;
    // Refused while there is a leader.
    let refused = cluster.try_ask(follower, "hcl recover --yes").unwrap_err();
    cluster.say(&refused);
    assert!(refused.starts_with("exit code 1"), "{refused}");
    cluster.pull(leader);
    cluster.look(Duration::from_secs(90));
    let said = cluster.ask_within(follower, "hcl recover --yes", Duration::from_secs(300));
    cluster.say(&said);
    cluster.settled(&[follower]);
    cluster.healthy(&[follower]);
    // It was not gone for good after all.
    cluster.power_on(leader, Clock::Host);
    cluster.settled(&two);
    cluster.healthy(&two);
    // The swarm is another one, with other ids; all else stays on both.
    for node in two {
        let kept = |facts: &[String]| [&facts[1..4], &facts[5..]].concat();
        assert_eq!(kept(&cluster.identity(node)), kept(&identities[node]), "node-{}", node + 1);
    }

    let said = cluster.ask(follower, "hcl poweroff --all");
    cluster.say(&said);
    cluster.until_off(&two);
}
