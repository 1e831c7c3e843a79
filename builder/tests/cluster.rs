//! The life of a cluster: nodes come, go, lose their power and their cables, cards are copied and moved. Each in QEMU, with the image
//! as it was built. `make proof` runs this: `HCL_IMAGE` names the image.

#![cfg(target_os = "linux")]

#[path = "cluster/figures.rs"]
mod figures;
#[path = "cluster/lab.rs"]
mod lab;
#[path = "cluster/orders.rs"]
mod orders;
#[path = "cluster/stranger.rs"]
mod stranger;
#[path = "cluster/strangers.rs"]
mod strangers;
#[path = "cluster/two_keys.rs"]
mod two_keys;
#[path = "cluster/use_cases.rs"]
mod use_cases;

use std::{collections::BTreeSet, time::Duration};

use hcl_image::lab::node::Clock;

use self::lab::{Cluster, SETTLED, image};

/// A service whose containers must come back after everything.
const SERVICE: &str = r#"
    busybox=$(sed -n 's/.*"busybox": *"\([^"]*\)".*/\1/p' /etc/hcl/images.json)
    docker service create --quiet --detach --name kept --replicas 2 --publish 8080:8000 --no-resolve-image "$busybox" \
        sh -c 'mkdir /www; echo kept >/www/greeting; exec httpd -f -p 8000 -h /www'"#;

/// The service answers on this node. The engine reserves the port for IPv6 as well, and serves nobody there (moby).
const SERVED: &str = "curl -sSf -m 20 http://127.0.0.1:8080/greeting";

/// Takes the node's own power, without a word to its disk, as soon as the swarm has a second manager. Nobody outside is quick enough.
const CUT: &str = r#"
    cat >/run/cut <<'END'
while managers=$(curl -sS --unix-socket /run/docker.sock http://engine/nodes | grep -o '"ManagerStatus"' | wc -l); do
    [ "$managers" != 2 ] || echo o >/proc/sysrq-trigger
    [ "$managers" -lt 3 ] || { echo "$managers" >/run/cut-missed; exit; }
    sleep 0.3
done
END
    setsid sh /run/cut >/dev/null 2>&1 </dev/null &"#;

#[test]
#[ignore = "needs a built image and thirty minutes: make proof"]
fn a_cluster_lives() {
    let mut cluster = Cluster::start("life", &image(), 3, 1, &[]);
    let three = [0, 1, 2];
    cluster.settled(&three);
    let leader = cluster.leader(&three);
    cluster.ask(leader, SERVICE);
    let identities: Vec<_> = three.iter().map(|node| cluster.identity(*node)).collect();
    let same = |cluster: &mut Cluster| {
        for node in three {
            assert_eq!(cluster.identity(node), identities[node], "node-{}", node + 1);
        }
    };

    let follower = three.into_iter().find(|node| *node != leader).unwrap();
    cluster.reboot(follower);
    cluster.settled(&three);
    assert_eq!(cluster.leader(&three), leader, "a follower's reboot moves no role");
    same(&mut cluster);

    cluster.power_off(&three);
    for node in [2, 0, 1] {
        cluster.power_on(node, Clock::Epoch);
        cluster.look(Duration::from_secs(15));
    }
    cluster.settled(&three);
    same(&mut cluster);
    for node in three {
        assert_eq!(cluster.ask_within(node, SERVED, SETTLED), "kept\n");
    }

    // Last: four emulated boards that come back at once are too much for two cores, and miss the engines' time limits for ever.
    cluster.power_on(3, Clock::Host);
    let four = [0, 1, 2, 3];
    cluster.settled(&four);
    same(&mut cluster);
    assert_eq!(cluster.ask_within(3, SERVED, SETTLED), "kept\n");
    cluster.healthy(&four);
    cluster.power_off(&four);
}

#[test]
#[ignore = "needs a built image and twenty minutes: make proof"]
fn cards_are_copied_and_moved() {
    let mut cluster = Cluster::start("cards", &image(), 2, 2, &[]);
    let two = [0, 1];
    cluster.settled(&two);
    let leader = cluster.leader(&two);
    let follower = 1 - leader;
    let identities: Vec<_> = two.iter().map(|node| cluster.identity(*node)).collect();

    // Both cards are in use from now on, one of them in another board.
    cluster.power_off(&[follower]);
    cluster.say(&format!("node-{}'s card is copied for node-3", follower + 1));
    cluster.lab.copy_card(follower, 2).unwrap();
    cluster.power_on(follower, Clock::Host);
    cluster.settled(&two);
    cluster.power_on(2, Clock::Host);
    let three = [0, 1, 2];
    cluster.settled(&three);
    for node in two {
        assert_eq!(cluster.identity(node), identities[node], "node-{}", node + 1);
    }
    let fresh: BTreeSet<_> = cluster.identity(2).into_iter().collect();
    let shared: Vec<_> = identities.iter().flatten().filter(|fact| fresh.contains(*fact)).collect();
    // All of them are of one founding.
    assert!(shared.iter().all(|fact| fact.starts_with("\"incarnation\"")), "the copy kept {shared:?}");

    // A card moves into another board, for good.
    cluster.power_off(&[follower]);
    cluster.say(&format!("node-{}'s card is put into node-4", follower + 1));
    cluster.lab.move_card(follower, 3).unwrap();
    cluster.power_on(3, Clock::Host);
    let now = [leader, 2, 3];
    cluster.settled(&now);
    assert_eq!(cluster.identity(3), identities[follower], "a moved card stays who it was");
    cluster.healthy(&now);
    cluster.power_off(&now);
}

#[test]
#[ignore = "needs a built image and ten minutes: make proof"]
fn one_node_comes_back_without_a_clock() {
    let mut cluster = Cluster::start("one", &image(), 1, 0, &[]);
    cluster.settled(&[0]);
    cluster.ask(0, SERVICE);
    let identity = cluster.identity(0);
    cluster.power_off(&[0]);
    cluster.power_on(0, Clock::Epoch);
    cluster.settled(&[0]);
    assert_eq!(cluster.identity(0), identity);
    assert_eq!(cluster.ask_within(0, SERVED, SETTLED), "kept\n");
    cluster.healthy(&[0]);
    let year = cluster.ask(0, "date +%Y");
    assert!(year.trim().parse::<u32>().is_ok_and(|year| year >= 2024), "the clock is in {year}");
    cluster.power_off(&[0]);
}

#[test]
#[ignore = "needs a built image and twenty minutes: make proof"]
fn a_cut_between_the_two_promotions_is_made_good() {
    let mut cluster = Cluster::start("promotions", &image(), 2, 1, &[]);
    cluster.settled(&[0, 1]);
    let leader = cluster.leader(&[0, 1]);
    cluster.ask(leader, CUT);
    cluster.power_on(2, Clock::Host);
    let deadline = std::time::Instant::now() + SETTLED;
    while !cluster.is_off(leader) {
        let missed = cluster.try_ask(leader, "cat /run/cut-missed").unwrap_or_default();
        assert_eq!(missed, "", "more managers than two between two looks: nothing was shown");
        assert!(std::time::Instant::now() < deadline, "nobody is promoted");
        cluster.look(Duration::from_secs(3));
    }
    cluster.say("the leader had no power any more as soon as there were two managers");
    cluster.look(Duration::from_secs(45));
    cluster.power_on(leader, Clock::Host);
    cluster.settled(&[0, 1, 2]);
    cluster.healthy(&[0, 1, 2]);
    let managers = cluster.ask(0, "docker node ls --filter role=manager --quiet | wc -l");
    assert_eq!(managers.trim(), "3");
    cluster.power_off(&[0, 1, 2]);
}
