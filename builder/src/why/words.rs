//! The report in plain words.

use std::fmt::Write;

use hcl_firstboot::{blackbox::Entry, status::duration, trouble::Trouble};

use super::{Boot, Override, Report};

/// How a boot ended, in one line.
pub(super) fn outcome(boot: &Boot) -> String {
    let Boot { number, entry, .. } = boot;
    match &entry.trouble {
        _ if boot.ready => format!("boot {number} was ready: {} at {}", entry.role, known(&entry.address)),
        Some(Trouble { kind, .. }) => format!("boot {number} failed with fault {}: {}", kind.number(), kind.title()),
        None if entry.state != "ready" => format!("boot {number} never had its network: {}", known(&entry.reason)),
        None => format!("boot {number} had its network, but no place in the cluster: {}", known(&entry.doing)),
    }
}

/// What a person can do after such a boot; nothing where all is well.
pub(super) fn advice(entry: &Entry) -> Vec<String> {
    if entry.is_ready() {
        return Vec::new();
    }
    match &entry.trouble {
        // The fix stands in its text.
        Some(Trouble { text, .. }) => vec![text.clone()],
        None if entry.state != "ready" && entry.reason.contains("for a cable") => {
            vec![
                "put in a cable between board and switch: both ends have a light that goes on; else try another cable or port"
                    .to_owned(),
            ]
        }
        None if entry.state != "ready" => {
            vec![format!("see what the node waited for: {}", known(&entry.reason))]
        }
        None if entry.uptime_ms < 60_000 && !entry.stopped => {
            vec!["leave it on for two minutes: a cluster takes its time behind a managed switch".to_owned()]
        }
        None => vec![
            "check that the other nodes are on and on the same switch, and that all cards are of one image".to_owned(),
            "check that the switch lets the VLAN pass, or set vlan = \"off\" in hcl.toml on every card".to_owned(),
        ],
    }
}

impl Report {
    /// The report for a person who has the card of `name` in hand.
    pub fn render(&self, name: &str) -> String {
        let mut text = format!("{name}: {}\n", self.says);
        // Writing to a String cannot fail.
        let mut line = |line: String| {
            let _ = writeln!(text, "{line}");
        };
        match &self.overrides {
            Override::Nothing | Override::Wrong(_) => {}
            Override::Sets(keys) => line(format!("hcl.toml on the card sets {keys}")),
        }
        if !self.advice.is_empty() {
            line("\nWhat to do".to_owned());
            self.advice.iter().for_each(|advice| line(format!("  - {advice}")));
        }
        for (age, boot) in self.boots.iter().enumerate() {
            if age == 0 {
                line(format!("\nBoot {}, the last one", boot.number));
                rows(&boot.entry).into_iter().for_each(|(name, value)| line(format!("  {name:<10} {value}")));
                line("  story".to_owned());
                boot.entry.story.iter().for_each(|step| line(format!("    {step}")));
                if self.boots.len() > 1 {
                    line("\nBefore it".to_owned());
                }
            } else {
                line(format!("  {}; {}", outcome(boot), end(&boot.entry)));
            }
        }
        if self.damaged_slots > 0 {
            let entries = if self.damaged_slots == 1 { "entry" } else { "entries" };
            line(format!("\n{} {entries} of the black box cannot be read: torn by a power cut, or damaged", self.damaged_slots));
        }
        text
    }
}

/// What is known of a boot, by name.
fn rows(entry: &Entry) -> Vec<(&'static str, String)> {
    let with = |what: &str, more: &str, between: &str| match (what, more) {
        ("", _) => String::new(),
        (what, "") => what.to_owned(),
        (what, more) => format!("{what}{between}{more}"),
    };
    let mut rows = vec![
        ("board", entry.board.clone()),
        ("version", entry.version.clone()),
        ("network", with(&entry.state, &entry.reason, ": ")),
        ("interface", entry.interface.clone()),
        ("VLAN", entry.vlan.clone()),
        ("cluster", entry.cluster.clone()),
        ("role", with(&entry.role, &entry.doing, ", ")),
        ("address", entry.address.clone()),
    ];
    if let Some(Trouble { kind, .. }) = &entry.trouble {
        rows.push(("fault", format!("{}: {}", kind.number(), kind.title())));
    }
    rows.extend(entry.notes.iter().map(|note| ("also", note.clone())));
    rows.push(("end", end(entry)));
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

fn end(entry: &Entry) -> String {
    let time = duration(entry.uptime_ms);
    match entry.state.as_str() {
        "stopped" => format!("the node did nothing from {time} after the start on"),
        _ if entry.stopped => format!("stopped in good order {time} after the start"),
        _ => format!("power was cut, some time after the last entry, {time} after the start"),
    }
}

/// A text that a line needs.
fn known(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

#[cfg(test)]
mod tests {
    use hcl_firstboot::trouble::Kind;

    use super::*;

    fn entry(state: &str, role: &str) -> Entry {
        Entry {
            state: state.into(),
            role: role.into(),
            reason: "the reason".into(),
            doing: "browsing: nobody has answered".into(),
            uptime_ms: 90_000,
            ..Entry::default()
        }
    }

    #[test]
    fn each_end_has_its_words_and_a_way_out() {
        let trouble = Some(Trouble::new(Kind::Card, "the card cannot be written: put in another card"));
        let cable = Entry { reason: "waiting for a cable: eth0 has no carrier".into(), ..entry("searching", "none") };
        let early = Entry { uptime_ms: 9_000, ..entry("ready", "none") };
        let table = [
            (entry("ready", "leader"), "boot 7 was ready: leader at unknown", None),
            (
                Entry { trouble, ..entry("ready", "leader") },
                "boot 7 failed with fault 7: the card cannot be written",
                Some("put in another card"),
            ),
            (cable, "boot 7 never had its network: waiting for a cable", Some("put in a cable")),
            (entry("searching", "none"), "boot 7 never had its network: the reason", Some("the reason")),
            (
                entry("ready", "none"),
                "boot 7 had its network, but no place in the cluster: browsing",
                Some("the switch lets the VLAN pass"),
            ),
            (early, "boot 7 had its network, but no place", Some("leave it on for two minutes")),
            (Entry::default(), "boot 7 never had its network: unknown", Some("unknown")),
        ];
        for (entry, says, advice) in table {
            let boot = Boot { number: 7, ready: entry.is_ready(), entry };
            assert!(outcome(&boot).starts_with(says), "{}\nnot\n{says}", outcome(&boot));
            let given = super::advice(&boot.entry).join("\n");
            match advice {
                Some(advice) => assert!(given.contains(advice), "{given}\nnot\n{advice}"),
                None => assert_eq!(given, ""),
            }
        }
    }
}
