//! Image files: partition tables, file systems in place, output.

pub mod overlay;
pub mod sparse;
