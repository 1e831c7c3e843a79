//! The table of endpoints for the docs.

use std::fmt::Write as _;

use super::TABLE;

/// The table as Markdown.
pub fn document() -> String {
    let mut text = String::from("| endpoint | what happens |\n| --- | --- |\n");
    for route in TABLE {
        // Writing to a string does not fail.
        let _ = writeln!(text, "| `{} {}` | {} |", route.method.name(), route.pattern, route.what);
    }
    text
}
