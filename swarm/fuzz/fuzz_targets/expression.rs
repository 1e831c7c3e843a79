//! Any text in the place of an expression.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/corpus/expression.rs"]
mod expression;

fuzz_target!(|data: &[u8]| {
    expression::check(data);
});
