//! Images booted in QEMU, with this program as the switch between the nodes.
