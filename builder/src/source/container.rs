//! Where container images come from: Debian packages, a static program, a saved image, a registry. All of them end in
//! [`crate::oci::ContainerImage`].

mod applets;
pub mod archive;
pub mod binary;
mod challenge;
pub mod debian;
pub mod layers;
pub mod licence;
pub mod registry;
