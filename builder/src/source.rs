//! Everything that comes from outside: the only part that touches the network.

pub mod apt;
pub mod bootstrap;
pub mod container;
mod deb;
pub mod decode;
pub mod download;
pub mod overlay;
pub mod tool;
