//! Images booted in QEMU, with this program as the switch between the nodes.

pub mod boot;
pub mod capture;
pub mod console;
pub mod frame;
pub mod link;
pub mod machine;
pub mod ports;
pub mod process;
pub mod qmp;
pub mod router;
pub mod snoop;
pub mod switch;
