//! `hcl-image`: builds, inspects, checks and boots SD card images for a Hypriot Cluster Lab.
//!
//! The two types to start from are [`manifest::Manifest`] (what the user asked for, already
//! checked) and [`image::disk::Disk`] (an image file seen as partitions and file systems).
//! Data flows `Manifest → Lock → Plan → Image`: only [`source`] touches the network, [`plan`] is
//! pure, and only [`image`] writes.

pub mod accounts;
pub mod advisory;
pub mod bootfiles;
pub mod build;
pub mod cache;
pub mod check;
pub mod cmd;
pub mod engine_store;
pub mod error;
pub mod image;
pub mod inspect;
pub mod interrupt;
pub mod keys;
pub mod lab;
pub mod lock;
pub mod manifest;
pub mod oci;
pub mod plan;
pub mod progress;
pub mod source;
pub mod units;
pub mod why;
