//! What is in an image: the readers of single files, and the report that `hcl-image inspect` shows.

pub mod accounts;
pub mod cmdline;
pub mod dpkg;
pub mod elf;
pub mod firmware;
pub mod initrd;
pub mod kernel;
pub mod listing;
mod render;
pub mod report;

pub use self::{render::render, report::Report};
