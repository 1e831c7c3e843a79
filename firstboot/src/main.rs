//! The program on each card.
fn main() {}
