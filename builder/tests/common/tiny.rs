//! An image whose kernel is a few instructions long, for `-M virt`.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{Cursor, Seek, SeekFrom, Write};

/// What a kernel does after it has said its text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Powers off (PSCI SYSTEM_OFF).
    Off,
    /// Waits for ever.
    Wait,
    /// Says [`TICK`] again and again.
    Tick,
}

/// What [`Then::Tick`] says.
pub const TICK: &str = "@hcl:tick@\n";

/// An arm64 kernel (Documentation/arch/arm64/booting.rst) for `-M virt` that writes `text` to the PL011 at
/// 0x0900_0000, without any operating system.
pub fn kernel(text: &str, then: Then) -> Vec<u8> {
    let mut code: Vec<u32> = vec![
        0x1000_0001, // adr x1, text (offset below)
        0xd2a1_2000, // movz x0, #0x900, lsl #16
        0x3840_1422, // ldrb w2, [x1], #1
        0x3400_0062, // cbz w2, +12
        0x3900_0002, // strb w2, [x0]
        0x17ff_fffd, // b -12
    ];
    if then == Then::Off {
        // movz w0, #8; movk w0, #0x8400, lsl #16; hvc #0
        code.extend([0x5280_0100, 0x72b0_8000, 0xd400_0002]);
    }
    let mut ticks = None;
    if then == Then::Tick {
        ticks = Some(code.len());
        code.extend([
            0x1000_0001, // adr x1, TICK (offset below)
            0x52a0_4003, // movz w3, #0x200, lsl #16
            0x7100_0463, // subs w3, w3, #1
            0x54ff_ffe1, // b.ne -4
            0x3840_1422, // ldrb w2, [x1], #1
            0x34ff_ff62, // cbz w2, -20
            0x3900_0002, // strb w2, [x0]
            0x17ff_fffd, // b -12
        ]);
    }
    code.extend([0xd503_207f, 0x17ff_ffff]); // wfi; b -4
    let bytes = |text: &str| {
        let mut bytes = text.replace('\n', "\r\n").into_bytes();
        bytes.resize(bytes.len() / 4 * 4 + 4, 0);
        bytes
    };
    let text = bytes(text);
    let to_text = code.len() as u32;
    code[0] |= to_text << 5;
    if let Some(at) = ticks {
        code[at] |= (to_text + text.len() as u32 / 4 - at as u32) << 5;
    }
    let mut image = vec![0; 64];
    image[..4].copy_from_slice(&0x1400_0010_u32.to_le_bytes()); // b +64
    image[8..16].copy_from_slice(&0x8_0000_u64.to_le_bytes());
    image[16..24].copy_from_slice(&0x10_0000_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image.extend(code.iter().flat_map(|word| word.to_le_bytes()));
    image.extend(text);
    image.extend(bytes(TICK));
    image
}

/// An image whose boot partition has nothing but that kernel.
pub fn image(kernel: &[u8]) -> Vec<u8> {
    let mut boot = Cursor::new(vec![0; 16 << 20]);
    fatfs::format_volume(&mut boot, fatfs::FormatVolumeOptions::new()).unwrap();
    {
        let fs = fatfs::FileSystem::new(&mut boot, fatfs::FsOptions::new()).unwrap();
        let files: [(&str, &[u8]); 3] = [
            ("config.txt", b"arm_64bit=1\nkernel=tiny.img\n"),
            ("cmdline.txt", b"root=PARTUUID=1234abcd-02 rw\n"),
            ("tiny.img", kernel),
        ];
        for (name, content) in files {
            fs.root_dir().create_file(name).unwrap().write_all(content).unwrap();
        }
    }
    let mut disk = Cursor::new(vec![0; 18 << 20]);
    let mut table = mbrman::MBR::new_from(&mut disk, 512, [0xcd, 0xab, 0x34, 0x12]).unwrap();
    table[1] = mbrman::MBRPartitionEntry {
        boot: mbrman::BOOT_INACTIVE,
        first_chs: mbrman::CHS::empty(),
        sys: 0x0c,
        last_chs: mbrman::CHS::empty(),
        starting_lba: 2048,
        sectors: 32768,
    };
    table.write_into(&mut disk).unwrap();
    disk.seek(SeekFrom::Start(1 << 20)).unwrap();
    disk.write_all(boot.get_ref()).unwrap();
    disk.into_inner()
}
