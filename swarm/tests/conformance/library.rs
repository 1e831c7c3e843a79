//! docker-py: a client that is not Docker's own and checks what it is told by other means.

use super::{IMAGE, Rows, Stage};

pub const ROWS: Rows = &[("docker_py", docker_py)];

fn docker_py(stage: &Stage) {
    // Debian's own interpreter is the one that has Debian's package.
    let line = format!("/usr/bin/python3 -B {}/tests/conformance/library.py {IMAGE} 2>&1", env!("CARGO_MANIFEST_DIR"));
    let said = stage.docker.run(&line);
    assert!(said.code == 0 && said.out.ends_with("serves"), "{said}");
}
