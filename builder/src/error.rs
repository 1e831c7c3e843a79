//! Errors as the command line sees them, and the exit codes that stand for them.
//!
//! Inside the crate errors are `anyhow` chains with context ("opening …", "unpacking …"). Where
//! the exit code depends on the kind, [`UsageError`] is somewhere in the chain.

use std::process::ExitCode;

/// The input was wrong: manifest, option or argument. Ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// An `anyhow` error that ends with exit code 2.
    #[allow(clippy::new_ret_no_self, reason = "nobody wants the bare type: it travels in a chain")]
    pub fn new(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(message.into()))
    }
}

/// A check or test ran to its end and said no; the findings were already printed. Exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The exit code for an error chain: 2 for wrong input, 1 for everything else.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(|cause| cause.is::<UsageError>()) { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// The whole chain on one line, outermost first, repeated texts dropped.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.trim().replace('\n', "; ");
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line
}

/// What to print: one line, but a line each where the input has several faults.
pub fn lines(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref::<UsageError>() {
        Some(UsageError(faults)) if faults.contains('\n') => faults.lines().map(str::to_owned).collect(),
        _ => vec![one_line(error)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn usage_is_found_anywhere_in_the_chain() {
        let error = Err::<(), _>(UsageError::new("no such key")).context("reading a.toml").unwrap_err();
        assert_eq!(format!("{:?}", exit_code(&error)), format!("{:?}", ExitCode::from(2)));
        assert_eq!(one_line(&error), "reading a.toml: no such key");
        assert_eq!(lines(&UsageError::new("a:1: wrong\nb:2: wrong too")), ["a:1: wrong", "b:2: wrong too"]);
        let error = anyhow::anyhow!("disk full");
        assert_eq!(format!("{:?}", exit_code(&error)), format!("{:?}", ExitCode::FAILURE));
    }
}
