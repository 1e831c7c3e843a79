//! What is asked of one follower once all nodes have answered: to leave the cluster with `hcl stop`, and to come back with `hcl start`.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{
    health,
    probe::{Answer, Expected, Probe},
};

/// The questions, in order: each goes on where the one before has ended.
pub const LEAVING: &[Probe] = &[
    Probe {
        name: "leaving",
        wants: "`hcl stop` takes the VLAN interface, the firewall's table and the cluster's names away, and says so",
        limit: 120,
        script: "hcl status --json >/tmp/hcl-lab-before; hcl stop; echo \"exit code $?\"; \
                 ip -o link; nft list tables; cat /etc/hosts; hcl status",
        judge: left,
    },
    Probe {
        name: "coming back",
        wants: "after `hcl start` the VLAN interface is there again, with the address that the node had",
        limit: 180,
        script: r#"
            cat /tmp/hcl-lab-before; hcl start >/dev/null || exit 1
            end=$(($(cut -d. -f1 /proc/uptime) + 120))
            while status=$(hcl status --json 2>&1); [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]; do
                case $status in
                    *'"lease":null'*) ;;
                    *'"role":"follower"'*) break ;;
                esac
                sleep 1
            done
            printf '%s\n' "$status"; ip -j -4 address show dev eth0.@VLAN@"#,
        judge: back,
    },
    Probe {
        name: "health after coming back",
        wants: "every line of `hcl health` is a [PASS] again, once engine and Consul are back",
        limit: 360,
        script: r#"
            end=$(($(cut -d. -f1 /proc/uptime) + 300))
            until hcl health >/dev/null || [ "$(cut -d. -f1 /proc/uptime)" -ge "$end" ]; do sleep 5; done
            hcl health --json"#,
        judge: health::judge,
    },
    Probe {
        name: "story of leaving",
        wants: "`hcl log` tells of leaving and of coming back, in this order",
        limit: 60,
        script: "hcl log",
        judge: |answer, _| {
            let told = answer.succeeded()?;
            let after = told.split_once("`hcl stop` took back").map(|(_, after)| after);
            match after.filter(|after| after.contains(" started, for the cluster ")) {
                Some(_) => Ok(format!("{} lines", told.lines().count())),
                None => Err(answer.quoted()),
            }
        },
    },
];

/// What `hcl stop` said, its exit code, and what is there after it.
fn left(answer: &Answer, expected: &Expected) -> Result<String, String> {
    let vlan = format!("eth0.{}", expected.vlan);
    let (said, after) = answer.output.split_once("exit code 0\n").ok_or_else(|| answer.quoted())?;
    let still = [&vlan, "table inet hcl", "\tmaster"].into_iter().find(|trace| after.contains(*trace));
    if let Some(trace) = still {
        return Err(format!("`{trace}` is still there: {}", answer.quoted()));
    }
    // The last question's exit code is that of `hcl status`: the program does not run.
    if answer.code != 3 || !said.contains(&format!("removed the VLAN {vlan}\n")) {
        return Err(answer.quoted());
    }
    Ok(said.trim().replace('\n', "; "))
}

/// The status before and the one now, a line each, and the interface's addresses behind them.
fn back(answer: &Answer, _: &Expected) -> Result<String, String> {
    let lines: Vec<Value> = answer.output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [before, now, links] = &lines[..] else { return Err(answer.quoted()) };
    let address = |status: &Value| status["address"].as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
    let there = links[0]["addr_info"].as_array().into_iter().flatten().filter_map(|info| info["local"].as_str()?.parse().ok());
    let there: Vec<Ipv4Addr> = there.collect();
    match (address(before), address(now)) {
        (Some(before), Some(now)) if before == now && there == [now] && answer.code == 0 => Ok(now.to_string()),
        (before, now) => Err(format!("{before:?} before, {now:?} now, {there:?} on the interface: {}", answer.quoted())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::probe::example;

    fn judge(name: &str, code: i32, output: &str) -> Result<String, String> {
        let probe = LEAVING.iter().find(|probe| probe.name == name).unwrap();
        (probe.judge)(&Answer { code, output: output.to_owned(), took: Duration::ZERO }, &example())
    }

    #[test]
    fn judges_say_yes_and_no() {
        let stop = "stopped hcl-firstboot\nremoved the VLAN eth0.200\n";
        let rest = "2: eth0: <UP>\n127.0.0.1 localhost\nhcl: hcl-firstboot is not running";
        let returned = |before: &str, now: &str, there: &[&str]| {
            let there: Vec<_> = there.iter().map(|address| serde_json::json!({ "local": address })).collect();
            let status = |address: &str| serde_json::json!({ "address": address, "role": "follower" });
            format!("{}\n{}\n{}", status(before), status(now), serde_json::json!([{ "addr_info": there }]))
        };
        let (one, two) = ("192.168.200.10", "192.168.200.11");
        let health = |pass: bool| {
            serde_json::json!({ "healthy": pass, "checks": [{ "name": "vlan", "pass": pass, "line": "the VLAN" }] }).to_string()
        };
        let told = "0:00:01.0  `hcl stop` took back what was left\n0:00:02.0  hcl-firstboot 0.1.0 started, for the cluster lab";
        let rows: Vec<(&str, i32, String, bool)> = vec![
            ("leaving", 3, format!("{stop}exit code 0\n{rest}"), true),
            ("leaving", 0, format!("{stop}exit code 0\n{rest}"), false),
            ("leaving", 3, format!("{stop}exit code 1\n{rest}"), false),
            ("leaving", 3, format!("stopped hcl-firstboot\nexit code 0\n{rest}"), false),
            ("leaving", 3, format!("{stop}exit code 0\n3: eth0.200@eth0: <UP>\n{rest}"), false),
            ("leaving", 3, format!("{stop}exit code 0\ntable inet hcl\n{rest}"), false),
            ("leaving", 3, format!("{stop}exit code 0\n192.168.200.1\tmaster\n{rest}"), false),
            ("coming back", 0, returned(one, one, &[one]), true),
            ("coming back", 0, returned(one, two, &[two]), false),
            ("coming back", 0, returned(one, one, &[two]), false),
            ("coming back", 0, returned(one, one, &[one, two]), false),
            ("coming back", 1, returned(one, one, &[one]), false),
            ("coming back", 1, "hcl: not started".into(), false),
            ("health after coming back", 0, health(true), true),
            ("health after coming back", 1, health(false), false),
            ("story of leaving", 0, told.into(), true),
            ("story of leaving", 0, told.lines().rev().collect::<Vec<_>>().join("\n"), false),
            ("story of leaving", 3, "hcl: nothing to tell".into(), false),
        ];
        for (name, code, output, passes) in &rows {
            assert_eq!(judge(name, *code, output).is_ok(), *passes, "{name}: {output}");
        }
        for probe in LEAVING {
            let has = |passes| rows.iter().any(|row| row.0 == probe.name && row.3 == passes);
            assert!(has(true) && has(false), "{} has no row that says yes or none that says no", probe.name);
        }
    }
}
