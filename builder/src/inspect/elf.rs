//! ELF headers: for which machine a program is, and whether it needs a loader.

use std::fmt;

use serde::Serialize;

/// How much of a file to read for [`Elf::parse`]: header, program headers and the loader's name.
pub const HEAD: u64 = 4096;

const ET_REL: u16 = 1;
const EM_386: u16 = 3;
const EM_ARM: u16 = 40;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const EM_RISCV: u16 = 243;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const EF_ARM_ABI_FLOAT_HARD: u32 = 0x400;

/// The machine that a program runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// 32-bit ARM with floats in registers: Debian's armhf.
    Armhf,
    /// 32-bit ARM that does not say so: Debian's armel, and static programs of some tools.
    Arm,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit x86.
    I386,
    /// 64-bit x86.
    Amd64,
    /// RISC-V.
    Riscv,
    /// `e_machine` of something else.
    Other(u16),
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Armhf => f.pad("armhf"),
            Self::Arm => f.pad("arm"),
            Self::Arm64 => f.pad("arm64"),
            Self::I386 => f.pad("i386"),
            Self::Amd64 => f.pad("amd64"),
            Self::Riscv => f.pad("riscv"),
            Self::Other(number) => f.pad(&format!("machine {number}")),
        }
    }
}

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Elf {
    /// For which machine.
    pub machine: Machine,
    /// 32 or 64.
    pub bits: u8,
    /// An object file such as a kernel module, no program.
    pub relocatable: bool,
    /// The loader it asks for. A program without one is static, a library has none either.
    pub interpreter: Option<String>,
    /// It has a dynamic section, as libraries and static position-independent programs do.
    pub dynamic: bool,
}

impl Elf {
    /// Reads the header out of the first [`HEAD`] bytes of a file. `None` if it is no ELF.
    pub fn parse(head: &[u8]) -> Option<Self> {
        let ident = head.get(..16)?;
        if !ident.starts_with(b"\x7fELF") {
            return None;
        }
        let wide = ident[4] == 2;
        let big = ident[5] == 2;
        let number = |at: usize, length: usize| -> Option<u64> {
            let bytes = head.get(at..at.checked_add(length)?)?;
            let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
            Some(if big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
        };
        let word = if wide { 8 } else { 4 };
        let e_type = number(16, 2)? as u16;
        let e_machine = number(18, 2)? as u16;
        let e_phoff = number(24 + word, word)?;
        let after = 24 + 3 * word;
        let e_flags = number(after, 4)? as u32;
        let e_phentsize = number(after + 6, 2)?;
        let e_phnum = number(after + 8, 2)?;
        let mut elf = Self {
            machine: match e_machine {
                EM_ARM if e_flags & EF_ARM_ABI_FLOAT_HARD != 0 => Machine::Armhf,
                EM_ARM => Machine::Arm,
                EM_AARCH64 => Machine::Arm64,
                EM_386 => Machine::I386,
                EM_X86_64 => Machine::Amd64,
                EM_RISCV => Machine::Riscv,
                other => Machine::Other(other),
            },
            bits: if wide { 64 } else { 32 },
            relocatable: e_type == ET_REL,
            interpreter: None,
            dynamic: false,
        };
        for index in 0..e_phnum {
            let Some(at) = index.checked_mul(e_phentsize).and_then(|offset| offset.checked_add(e_phoff)) else { break };
            let at = usize::try_from(at).ok()?;
            let Some(p_type) = number(at, 4) else { break };
            match p_type as u32 {
                PT_DYNAMIC => elf.dynamic = true,
                PT_INTERP => {
                    let (offset, size) =
                        if wide { (number(at + 8, 8), number(at + 32, 8)) } else { (number(at + 4, 4), number(at + 16, 4)) };
                    let name = offset.zip(size).and_then(|(offset, size)| {
                        let start = usize::try_from(offset).ok()?;
                        head.get(start..start.checked_add(usize::try_from(size).ok()?)?)
                    });
                    let name = name.map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
                    elf.interpreter = Some(name.unwrap_or_default());
                }
                _ => {}
            }
        }
        Some(elf)
    }

    /// Whether it is a program that needs no loader.
    pub fn is_static(&self) -> bool {
        !self.relocatable && self.interpreter.is_none()
    }
}

impl fmt::Display for Elf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let linked = if self.is_static() { "static" } else { "dynamically linked" };
        write!(f, "{}, {}-bit, {linked}", self.machine, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program() {
        let exe = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(&exe[..HEAD as usize]).unwrap();
        assert_eq!(elf.bits as usize, usize::BITS as usize);
        assert!(elf.interpreter.unwrap().contains("ld-linux"));
    }

    #[test]
    fn nonsense_is_no_elf_and_never_panics() {
        assert_eq!(Elf::parse(b""), None);
        assert_eq!(Elf::parse(b"#!/bin/sh\n"), None);
        let mut cut = b"\x7fELF\x02\x01\x01".to_vec();
        cut.resize(64, 0xff);
        let _ = Elf::parse(&cut);
        for length in 0..cut.len() {
            let _ = Elf::parse(&cut[..length]);
        }
    }
}
