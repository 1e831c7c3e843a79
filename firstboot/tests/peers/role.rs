//! The leader's role among real nodes, granted through their sockets, as `hcl-firstboot cluster` does it.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use hcl_firstboot::{driver::ROLE_SOCKET, status};
use serde_json::{Value, json};

use super::lab::{Lab, formed, is_member, leads};

/// The longest grant that a node believes.
const LONG: u64 = 60_000;

/// What grants the role to one node, and keeps its ledger.
struct Granter(BufReader<UnixStream>);

impl Granter {
    fn of(lab: &Lab, host: usize) -> Self {
        let stream = UnixStream::connect(lab.at(host, "run").join(ROLE_SOCKET)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(BufReader::new(stream))
    }

    fn say(&mut self, line: impl std::fmt::Display) {
        writeln!(self.0.get_mut(), "{line}").unwrap();
    }

    fn grant(&mut self, index: u64, valid_ms: u64, ledger: &Value) {
        let asked_at_ms = status::uptime_ms();
        self.say(json!({"granted": {"index": index, "asked_at_ms": asked_at_ms, "valid_ms": valid_ms, "ledger": ledger}}));
    }

    /// The ledger that the node wants kept for `index`, and its number.
    #[track_caller]
    fn asked(&mut self, index: u64) -> (u64, Value) {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("nothing is to be replicated");
        let asked: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(asked["replicate"]["index"], index, "{line}");
        (asked["replicate"]["seq"].as_u64().unwrap(), asked["replicate"]["ledger"].clone())
    }

    /// Keeps what it is asked to until that has `members`, and that, too.
    #[track_caller]
    fn keep(&mut self, index: u64, members: usize) -> Value {
        for _ in 0..20 {
            let (seq, ledger) = self.asked(index);
            self.say(json!({"replicated": seq}));
            if count(&ledger) == members {
                return ledger;
            }
        }
        panic!("never {members} members");
    }
}

fn count(ledger: &Value) -> usize {
    ledger["members"].as_array().unwrap().len()
}

fn has_leaders_address(lab: &mut Lab, host: usize) -> bool {
    lab.on(host, "ip -4 -o address show dev eth0").contains("192.168.200.1/")
}

/// The status is written before what it says is done.
#[track_caller]
fn until_leaders_address(lab: &mut Lab, host: usize, wanted: bool) {
    lab.until_said(host, "ip -4 -o address show dev eth0", |shown| shown.contains("192.168.200.1/") == wanted);
}

#[test]
fn the_role_moves_and_the_ledger_goes_with_it() {
    let mut lab = Lab::new();
    let first = lab.node("5a");
    lab.until(first, leads);
    let second = lab.node("5a");
    assert_eq!(formed(&lab, &[first, second]), first);
    let addresses =
        |lab: &Lab, hosts: &[usize]| hosts.iter().map(|host| lab.status(*host)["address"].clone()).collect::<Vec<_>>();
    let before = addresses(&lab, &[first, second]);
    let mut of_first = Granter::of(&lab, first);
    of_first.say("nonsense");
    lab.until_line(first, "log", "a line on role.sock that is none of its");
    // A grant that nobody renews ends the right of founding as well.
    of_first.grant(1, 4000, &Value::Null);
    of_first.keep(1, 2);
    let status = lab.until(first, |status| status["role"] == "follower");
    assert_eq!(status["waits_for_grant"], true, "{status:#}");
    until_leaders_address(&mut lab, first, false);
    // The same one again: nobody else can have led meanwhile.
    of_first.grant(1, LONG, &Value::Null);
    lab.until(first, |status| leads(status) && status["grant"]["index"] == 1);
    // A new member is one once the quorum knows of it.
    of_first.keep(1, 2);
    let third = lab.node("5a");
    let (seq, ledger) = of_first.asked(1);
    assert_eq!((count(&ledger), lab.status(third)["address"].is_null()), (3, true));
    of_first.say(json!({"replicated": seq}));
    lab.until(third, is_member);
    // It moves.
    of_first.say(json!({"lost": true}));
    lab.until(first, |status| status["role"] == "follower");
    until_leaders_address(&mut lab, first, false);
    let mut of_second = Granter::of(&lab, second);
    of_second.grant(2, LONG, &ledger);
    lab.until(second, leads);
    assert_eq!(formed(&lab, &[first, second, third]), second);
    until_leaders_address(&mut lab, second, true);
    assert!(!has_leaders_address(&mut lab, first));
    of_second.keep(2, 3);
    let name = lab.status(second)["leader"]["name"].clone();
    for host in [first, third] {
        lab.until(host, |status| status["leader"]["name"] == name && !status["lease"].is_null());
        assert!(lab.text(host, "etc/hosts").contains("192.168.200.1\tmaster\n"));
    }
    let fourth = lab.node("5a");
    of_second.keep(2, 4);
    lab.until(fourth, is_member);
    assert_eq!(addresses(&lab, &[first, second]), before);
}

#[test]
fn a_founder_that_was_granted_the_role_waits_for_it_after_a_reboot() {
    let mut lab = Lab::new();
    let node = lab.node("5a");
    let address = lab.until(node, |status| leads(status) && !status["address"].is_null())["address"].clone();
    let mut granter = Granter::of(&lab, node);
    granter.grant(1, LONG, &Value::Null);
    let ledger = granter.keep(1, 1);
    lab.kill(node);
    lab.on(node, "ip address flush dev eth0");
    lab.run(node);
    let status = lab.until(node, |status| status["waits_for_grant"] == true);
    assert_eq!(
        (&status["role"], &status["address"], &status["leader"]),
        (&json!("follower"), &address, &Value::Null),
        "{status:#}"
    );
    assert!(!has_leaders_address(&mut lab, node));
    let mut granter = Granter::of(&lab, node);
    granter.grant(2, LONG, &ledger);
    lab.until(node, leads);
    until_leaders_address(&mut lab, node, true);
    assert_eq!(lab.status(node)["address"], address);
}
