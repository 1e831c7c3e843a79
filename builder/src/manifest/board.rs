//! The boards an image may be for, and what each needs from it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::base::Arch;

/// A Raspberry Pi. Facts come from Debian's kernel package (device trees) and Raspberry Pi's boot documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Board {
    /// Raspberry Pi 2 Model B v1.1 (BCM2836): 32-bit only
    Pi2,
    /// Raspberry Pi 3 Model B (BCM2837)
    Pi3,
    /// Raspberry Pi 3 Model B+ (BCM2837B0)
    Pi3Plus,
    /// Raspberry Pi 3 Model A+ (BCM2837B0): no Ethernet
    Pi3A,
    /// Raspberry Pi Zero 2 W (BCM2710A1): no Ethernet
    Zero2W,
    /// Compute Module 3 (BCM2837) on its IO board: no Ethernet
    Cm3,
    /// Raspberry Pi 4 Model B (BCM2711)
    Pi4,
    /// Raspberry Pi 400 (BCM2711)
    Pi400,
    /// Compute Module 4 (BCM2711) on its IO board
    Cm4,
    /// Raspberry Pi 5 (BCM2712): Debian 13's kernel has no driver for its Ethernet and USB ports
    Pi5,
}

/// The wired network of a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ethernet {
    /// On the board and driven by Debian's kernel: the chip and its module.
    Chip {
        /// The chip.
        chip: &'static str,
        /// The kernel module that drives it.
        module: &'static str,
    },
    /// On the board, but Debian 13's kernel (6.12) has no driver for the chip that it hangs on.
    NoDriver(&'static str),
    /// None on the board.
    None,
}

impl Board {
    /// Every board there is, in the order of the documentation.
    pub const ALL: [Self; 10] =
        [Self::Pi2, Self::Pi3, Self::Pi3Plus, Self::Pi3A, Self::Zero2W, Self::Cm3, Self::Pi4, Self::Pi400, Self::Cm4, Self::Pi5];

    /// USB adapters whose drivers are in the image's kernel and initrd.
    pub const USB_ETHERNET: &'static str =
        "ASIX AX88772, AX88178 and AX88179, Realtek RTL8152 and RTL8153, SMSC LAN95xx, LAN78xx";

    /// The name in a manifest.
    pub fn id(self) -> &'static str {
        match self {
            Self::Pi2 => "pi2",
            Self::Pi3 => "pi3",
            Self::Pi3Plus => "pi3plus",
            Self::Pi3A => "pi3a",
            Self::Zero2W => "zero2w",
            Self::Cm3 => "cm3",
            Self::Pi4 => "pi4",
            Self::Pi400 => "pi400",
            Self::Cm4 => "cm4",
            Self::Pi5 => "pi5",
        }
    }

    /// The name as people say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pi2 => "Pi 2",
            Self::Pi3 => "Pi 3",
            Self::Pi3Plus => "Pi 3 B+",
            Self::Pi3A => "Pi 3 A+",
            Self::Zero2W => "Zero 2 W",
            Self::Cm3 => "Compute Module 3",
            Self::Pi4 => "Pi 4",
            Self::Pi400 => "Pi 400",
            Self::Cm4 => "Compute Module 4",
            Self::Pi5 => "Pi 5",
        }
    }

    /// The system on a chip.
    pub fn soc(self) -> &'static str {
        match self {
            Self::Pi2 => "BCM2836",
            Self::Pi3 | Self::Cm3 => "BCM2837",
            Self::Pi3Plus | Self::Pi3A => "BCM2837B0",
            Self::Zero2W => "BCM2710A1",
            Self::Pi4 | Self::Pi400 | Self::Cm4 => "BCM2711",
            Self::Pi5 => "BCM2712",
        }
    }

    /// File name of the device tree in Debian's kernel package and on the boot partition.
    pub fn dtb(self) -> &'static str {
        match self {
            Self::Pi2 => "bcm2836-rpi-2-b.dtb",
            Self::Pi3 => "bcm2837-rpi-3-b.dtb",
            Self::Pi3Plus => "bcm2837-rpi-3-b-plus.dtb",
            Self::Pi3A => "bcm2837-rpi-3-a-plus.dtb",
            Self::Zero2W => "bcm2837-rpi-zero-2-w.dtb",
            Self::Cm3 => "bcm2837-rpi-cm3-io3.dtb",
            Self::Pi4 => "bcm2711-rpi-4-b.dtb",
            Self::Pi400 => "bcm2711-rpi-400.dtb",
            Self::Cm4 => "bcm2711-rpi-cm4-io.dtb",
            Self::Pi5 => "bcm2712-rpi-5-b.dtb",
        }
    }

    /// File name of the device tree in Raspberry Pi's own kernel, which stock images carry.
    pub fn vendor_dtb(self) -> &'static str {
        match self {
            Self::Pi2 => "bcm2709-rpi-2-b.dtb",
            Self::Pi3 => "bcm2710-rpi-3-b.dtb",
            // Raspberry Pi's kernel has one device tree for A+ and B+.
            Self::Pi3Plus | Self::Pi3A => "bcm2710-rpi-3-b-plus.dtb",
            Self::Zero2W => "bcm2710-rpi-zero-2-w.dtb",
            Self::Cm3 => "bcm2710-rpi-cm3.dtb",
            Self::Pi4 => "bcm2711-rpi-4-b.dtb",
            Self::Pi400 => "bcm2711-rpi-400.dtb",
            Self::Cm4 => "bcm2711-rpi-cm4.dtb",
            Self::Pi5 => "bcm2712-rpi-5-b.dtb",
        }
    }

    /// Whether Debian's kernel of this architecture runs on the board.
    pub fn runs(self, kernel: Arch) -> bool {
        match (self, kernel) {
            // ARMv7 has no 64-bit mode.
            (Self::Pi2, Arch::Arm64) => false,
            // Debian's 32-bit kernel package has no device tree for it.
            (Self::Pi5, Arch::Armhf) => false,
            _ => true,
        }
    }

    /// Whether the boot ROM (or the boot loader in its EEPROM) reads a GUID partition table.
    ///
    /// The ROM of BCM2836 and BCM2837 reads MBR only; the EEPROM loader of BCM2711 and BCM2712 reads both.
    pub fn boots_gpt(self) -> bool {
        matches!(self, Self::Pi4 | Self::Pi400 | Self::Cm4 | Self::Pi5)
    }

    /// The wired network.
    pub fn ethernet(self) -> Ethernet {
        match self {
            Self::Pi2 | Self::Pi3 => Ethernet::Chip { chip: "LAN9514 (100 Mbit/s, on USB)", module: "smsc95xx" },
            Self::Pi3Plus => Ethernet::Chip { chip: "LAN7515 (1 Gbit/s, on USB 2)", module: "lan78xx" },
            Self::Pi4 | Self::Pi400 | Self::Cm4 => Ethernet::Chip { chip: "BCM54213PE (1 Gbit/s)", module: "genet" },
            Self::Pi5 => Ethernet::NoDriver("RP1 chip"),
            Self::Pi3A | Self::Zero2W | Self::Cm3 => Ethernet::None,
        }
    }

    /// Whether a cable can be plugged in and works with Debian's kernel.
    pub fn has_ethernet(self) -> bool {
        matches!(self.ethernet(), Ethernet::Chip { .. })
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_the_manifest_says() {
        for board in Board::ALL {
            assert_eq!(serde_json::to_value(board).unwrap(), board.id());
        }
    }

    #[test]
    fn old_roms_read_mbr_only() {
        for (board, gpt, arm64) in [(Board::Pi2, false, false), (Board::Pi3, false, true), (Board::Pi4, true, true)] {
            assert_eq!((board.boots_gpt(), board.runs(Arch::Arm64)), (gpt, arm64), "{board}");
        }
    }
}
