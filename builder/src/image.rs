//! Image files: partition tables, file systems in place, output.

pub mod base;
pub mod disk;
pub mod edit;
pub mod ext4;
pub mod fat;
pub mod grow;
pub mod output;
pub mod overlay;
pub mod sparse;
pub mod table;
pub mod tree;
