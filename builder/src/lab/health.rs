//! What a node says of its own health.

use serde_json::Value;

use super::probe::{Answer, Expected};

/// Every line of `hcl dependencies` is a pass.
pub(super) fn dependencies(answer: &Answer, _: &Expected) -> Result<String, String> {
    let lines = answer.succeeded()?.lines();
    match (lines.clone().count(), lines.filter(|line| line.starts_with("[PASS] ")).count()) {
        (all, passed) if all == passed && all > 0 => Ok(format!("{all} lines")),
        _ => Err(answer.quoted()),
    }
}

/// What `hcl health --json` says: all is well, or which lines are not.
pub(super) fn judge(answer: &Answer, _: &Expected) -> Result<String, String> {
    let health: Value = serde_json::from_str(answer.first_line()).map_err(|_| answer.quoted())?;
    let checks = health["checks"].as_array().ok_or_else(|| answer.quoted())?;
    let failed: Vec<&str> =
        checks.iter().filter(|check| check["pass"] != true).filter_map(|check| check["line"].as_str()).collect();
    match (answer.code, &health["healthy"]) {
        (0, Value::Bool(true)) if failed.is_empty() && !checks.is_empty() => Ok(format!("{} checks pass", checks.len())),
        (code, _) => Err(format!("exit code {code}: {}", failed.join("; "))),
    }
}
