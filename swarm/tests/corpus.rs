//! Replays the files of `corpus` through the checks of the fuzz targets, which start from them.
//!
//! A name that begins with `bad-` must be refused, every other one understood.

use std::{fs, path::Path};

#[path = "corpus/create_body.rs"]
mod create_body;
#[path = "corpus/expression.rs"]
mod expression;
#[path = "corpus/request.rs"]
mod request;

fn replay(kind: &str, check: fn(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let mut files = 0;
    for file in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        assert_eq!(check(&fs::read(file.path()).unwrap()), !name.starts_with("bad-"), "{kind}/{name}");
        files += 1;
    }
    assert!(files > 20, "only {files} files in {}", folder.display());
}

#[test]
fn expressions_are_read_or_refused() {
    replay("expression", expression::check);
}

#[test]
fn bodies_are_read_or_refused() {
    replay("create_body", create_body::check);
}

#[test]
fn requests_are_found_or_refused() {
    replay("request", request::check);
}
