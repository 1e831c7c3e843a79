//! Any JSON in the place of what `docker create` sends.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/corpus/create_body.rs"]
mod create_body;

fuzz_target!(|data: &[u8]| {
    create_body::check(data);
});
