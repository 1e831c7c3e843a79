//! What would keep an image from booting or clustering.
//!
//! [`Evidence`] holds the facts of an image; each [`Rule`] is a pure function over it that says what is
//! wrong, where, and what to do. The two never mix: a rule reads no file, and gathering judges nothing.

mod evidence;
mod rules;
mod system;

use serde::Serialize;

pub(crate) use self::{
    evidence::boards_on,
    system::{ENGINES, NODE_PROGRAM},
};
pub use self::{
    evidence::{Boot, Evidence},
    rules::RULES,
    system::{ClusterKeyFact, System},
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the image does its work all the same.
    Warning,
    /// It does not boot, does not cluster, or must not be flashed on more than one card.
    Error,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Stable name, such as `boot.cgroup-order`.
    pub id: &'static str,
    /// What a finding counts as.
    pub severity: Severity,
    /// What must hold, in one sentence.
    pub holds: &'static str,
    /// Looks for what is wrong: one line each with what, where, and what to do.
    pub check: fn(&Evidence) -> Vec<String>,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// Applies every rule.
pub fn run(evidence: &Evidence) -> Vec<Finding> {
    RULES
        .iter()
        .flat_map(|rule| {
            (rule.check)(evidence).into_iter().map(|message| Finding { rule: rule.id, severity: rule.severity, message })
        })
        .collect()
}

/// The rules as a table in Markdown, for `docs/checks.md`.
pub fn table() -> String {
    let mut table = String::from("| rule | severity | what must hold |\n| --- | --- | --- |\n");
    for rule in RULES {
        let severity = if rule.severity == Severity::Error { "error" } else { "warning" };
        table.push_str(&format!("| `{}` | {severity} | {} |\n", rule.id, rule.holds));
    }
    table
}
