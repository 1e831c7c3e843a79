//! How QEMU is called for a node. Pure: paths in, arguments out.

use std::path::Path;

use super::{
    boot::{Arch, Board, BootFiles},
    frame::Mac,
    node::Clock,
    router::escaped,
    thaw,
};
use crate::units::Bytes;

/// The board that QEMU plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// QEMU's own ARM board with virtio: fast, any number of nodes
    #[default]
    Virt,
    /// A Raspberry Pi 3 Model B with its own device tree: slow, nearer to the real thing
    Raspi3b,
}

impl Machine {
    /// As QEMU calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virt => "virt",
            Self::Raspi3b => "raspi3b",
        }
    }

    /// The boards whose files on the boot partition fit, best first.
    pub fn boards(self) -> &'static [Board] {
        match self {
            Self::Virt => &[Board::Pi3, Board::Pi2],
            Self::Raspi3b => &[Board::Pi3],
        }
    }

    /// It needs the board's device tree; `virt` describes itself.
    pub fn wants_device_tree(self) -> bool {
        self == Self::Raspi3b
    }

    /// The console to add to the command line: where QEMU's serial port comes out.
    pub fn console(self) -> &'static str {
        match self {
            Self::Virt => "console=ttyAMA0",
            // The mini UART; the PL011 is wired to Bluetooth on a Pi 3.
            Self::Raspi3b => "console=ttyS1,115200",
        }
    }

    /// The address under which node number `node` (from 1) is seen on the wire. QEMU's `usb-net` tells the
    /// guest the configured address with 0x40 in place of its first byte (`usb_desc_mac` in dev-network.c).
    pub fn mac_of_node(self, node: u16) -> Mac {
        let Mac(mut bytes) = Mac::of_node(node);
        if self == Self::Raspi3b {
            bytes[0] = 0x40;
        }
        Mac(bytes)
    }

    /// How many seconds a node may take until it can be logged into: three times what one takes on two
    /// busy cores, and more for each further node, since they share them.
    pub fn patience(self, nodes: usize) -> u64 {
        let (one, more) = match self {
            Self::Virt => (360, 150),
            Self::Raspi3b => (1200, 900),
        };
        one + more * (nodes as u64).saturating_sub(1)
    }
}

/// Everything that QEMU needs to know of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeSpec<'a> {
    /// The board.
    pub machine: Machine,
    /// What it boots.
    pub boot: &'a BootFiles,
    /// The board's device tree; QEMU makes one where none is named.
    pub device_tree: Option<&'a Path>,
    /// Its own layer over the image.
    pub disk: &'a Path,
    /// What is written may be lost with the host's power: the disk is thrown away afterwards.
    pub throwaway: bool,
    /// Memory; a raspi3b always has 1 GiB.
    pub memory: Bytes,
    /// Processors; a raspi3b always has four.
    pub processors: usize,
    /// Its one network card's address.
    pub mac: Mac,
    /// Its clock when it is switched on.
    pub clock: Clock,
    /// Its memory and devices, where it does not boot but goes on.
    pub state: Option<&'a Path>,
    /// The switch's port.
    pub wire: &'a Path,
    /// Where we listen for its console.
    pub console: &'a Path,
    /// Where we listen for its control connection.
    pub qmp: &'a Path,
}

impl NodeSpec<'_> {
    /// The program, by name.
    pub fn program(&self) -> &'static str {
        match (self.machine, self.boot.arch) {
            (Machine::Virt, Arch::Arm32) => "qemu-system-arm",
            _ => "qemu-system-aarch64",
        }
    }

    /// The kernel command line: cmdline.txt as it is, then the console. The last one named is
    /// `/dev/console`, on which systemd and our markers speak.
    pub fn command_line(&self) -> String {
        format!("{} {}", self.boot.command_line, self.machine.console())
    }

    /// The arguments.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
        let path = |path: &Path| path.display().to_string();
        add(&["-S", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg,thread=multi,tb-size=256"]);
        add(&["-kernel", &path(&self.boot.kernel)]);
        if let Some(initrd) = &self.boot.initrd {
            add(&["-initrd", &path(initrd)]);
        }
        if let Some(tree) = self.device_tree {
            add(&["-dtb", &path(tree)]);
        }
        add(&["-append", &self.command_line()]);
        if let Some(state) = self.state {
            add(&["-incoming", &thaw::incoming(state)]);
        }
        let cache = if self.throwaway { "unsafe" } else { "writeback" };
        let drive = format!("file={},format=qcow2,cache={cache},discard=unmap", escaped(self.disk));
        let nic = format!("netdev=wire,mac={}", self.mac);
        add(&["-netdev", &format!("stream,id=wire,server=off,addr.type=unix,addr.path={}", escaped(self.wire))]);
        add(&["-chardev", &format!("socket,id=console,path={}", escaped(self.console))]);
        add(&["-chardev", &format!("socket,id=qmp,path={}", escaped(self.qmp)), "-mon", "chardev=qmp,mode=control"]);
        match self.machine {
            Machine::Virt => {
                arguments.extend(self.virt(""));
                let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
                if self.clock == Clock::Epoch {
                    add(&["-rtc", "base=1970-01-01T00:00:00"]);
                }
                add(&["-drive", &format!("if=none,id=card,{drive}"), "-device", "virtio-blk-device,drive=card"]);
                add(&["-device", &format!("virtio-net-device,{nic}"), "-device", "virtio-rng-device"]);
                add(&["-serial", "chardev:console"]);
            }
            Machine::Raspi3b => {
                add(&["-M", "raspi3b", "-drive", &format!("if=sd,{drive}"), "-device", &format!("usb-net,{nic}")]);
                // The first serial port is the PL011.
                add(&["-serial", "null", "-serial", "chardev:console"]);
            }
        }
        arguments
    }

    /// The arguments that make the board `virt` as it is, with more `properties` such as `,dumpdtb=FILE`.
    pub(super) fn virt(&self, properties: &str) -> Vec<String> {
        // A 32-bit kernel cannot reach what `virt` puts above 4 GiB.
        let (machine, cpu) = match self.boot.arch {
            Arch::Arm64 => ("virt", "cortex-a53"),
            Arch::Arm32 => ("virt,highmem=off", "cortex-a15"),
        };
        let memory = format!("{}M", self.memory.0 / Bytes::MIB);
        let arguments =
            ["-M", &format!("{machine}{properties}"), "-cpu", cpu, "-m", &memory, "-smp", &self.processors.to_string()];
        arguments.map(str::to_owned).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_card_and_nothing_added_to_the_command_line_but_the_console() {
        let mut boot = BootFiles {
            kernel: "/l/kernel".into(),
            kernel_name: "vmlinuz".into(),
            arch: Arch::Arm64,
            initrd: Some("/l/initrd".into()),
            device_tree: None,
            command_line: "root=PARTUUID=ab-02 rw".into(),
        };
        for (machine, arch, program, console) in [
            (Machine::Virt, Arch::Arm64, "qemu-system-aarch64", "ttyAMA0"),
            (Machine::Virt, Arch::Arm32, "qemu-system-arm", "ttyAMA0"),
            (Machine::Raspi3b, Arch::Arm64, "qemu-system-aarch64", "ttyS1,115200"),
        ] {
            boot.arch = arch;
            let spec = NodeSpec {
                machine,
                boot: &boot,
                device_tree: None,
                disk: Path::new("/l/a,b.qcow2"),
                throwaway: true,
                memory: Bytes(768 * Bytes::MIB),
                processors: 1,
                mac: Mac::of_node(1),
                clock: Clock::Host,
                state: None,
                wire: Path::new("/l/wire"),
                console: Path::new("/l/console"),
                qmp: Path::new("/l/qmp"),
            };
            assert_eq!(spec.program(), program);
            assert_eq!(spec.command_line(), format!("root=PARTUUID=ab-02 rw console={console}"));
            let arguments = spec.arguments();
            assert_eq!(arguments.iter().filter(|argument| argument.contains("mac=b8:27:eb:4c:00:01")).count(), 1);
            assert_eq!(arguments.iter().filter(|argument| *argument == "-netdev").count(), 1);
            assert!(arguments.iter().any(|argument| argument.contains("file=/l/a,,b.qcow2,format=qcow2,cache=unsafe")));
            assert!(!arguments.iter().any(|argument| argument.contains("snapshot")));
        }
    }
}
