//! Image files: partition tables, file systems in place, output.

pub mod disk;
pub mod output;
pub mod overlay;
pub mod sparse;
pub mod table;
