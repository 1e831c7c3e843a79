//! The table of endpoints for the docs.

use std::fmt::Write as _;

use super::{Route, TABLE};

/// The table as Markdown; `clients` says which clients an endpoint was run with.
pub fn document(clients: impl Fn(&Route) -> String) -> String {
    let mut text = String::from("| endpoint | what happens | run with |\n| --- | --- | --- |\n");
    for route in TABLE {
        // Writing to a string does not fail.
        let _ = writeln!(text, "| `{} {}` | {} | {} |", route.method.name(), route.pattern, route.what, clients(route));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    /// What it was run with is written by `HCL_WRITE_DOCS=1 make swarm-lab`, which runs it.
    #[test]
    fn the_docs_have_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/swarm-api.md");
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let rows = |text: &str| {
            let rows = text.lines().filter(|line| line.starts_with('|'));
            rows.map(|line| line.splitn(4, '|').take(3).collect::<Vec<_>>().join("|")).collect::<Vec<_>>()
        };
        assert_eq!(rows(&text), rows(&super::document(|_| String::new())), "HCL_WRITE_DOCS=1 make swarm-lab writes it anew");
    }
}
