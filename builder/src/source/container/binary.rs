//! One static program as a layer: nothing else is in it but what the manifest lays beside.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    image::tree::{Content, Entry, Meta, Node},
    inspect::elf::{Elf, HEAD, Machine},
    manifest::Arch,
    oci::layer::LayerBuilder,
    units::{Bytes, Digest},
};

/// Makes the layer of the program at `program`, laid at `install`, and writes it to `to`.
///
/// # Errors
///
/// The program is none, needs a loader, is for another machine, or cannot be read.
pub fn layer(
    program: &Path,
    install: &Path,
    files: &[Entry],
    architecture: Arch,
    epoch: u64,
    spool: &Path,
    to: impl Write,
) -> Result<(Digest, Bytes)> {
    runs_alone(program, architecture)?;
    let mut builder = LayerBuilder::new(spool)?;
    let meta = Meta::root(0o755, epoch as i64);
    let node = Node::File(Content::Host(program.to_owned()));
    builder.put(&Entry { path: install.to_owned(), node, meta }).with_context(|| format!("reading {}", program.display()))?;
    for entry in files {
        builder.put(entry).with_context(|| format!("laying {} into a container image", entry.path.display()))?;
    }
    builder.complete(epoch as i64);
    builder.write(to).context("writing a layer")
}

/// Whether it starts where there is nothing but it.
fn runs_alone(program: &Path, architecture: Arch) -> Result<()> {
    let mut head = Vec::new();
    File::open(program)
        .and_then(|file| file.take(HEAD).read_to_end(&mut head))
        .with_context(|| format!("reading {}", program.display()))?;
    let Some(elf) = Elf::parse(&head).filter(|elf| !elf.relocatable) else { bail!("it is no program (ELF)") };
    let fits = match architecture {
        // Static programs of Go do not say how they pass floats.
        Arch::Armhf => matches!(elf.machine, Machine::Armhf | Machine::Arm),
        Arch::Arm64 => elf.machine == Machine::Arm64,
    };
    ensure!(fits, "it is a program for {}, and the userland is {architecture}", elf.machine);
    if let Some(interpreter) = elf.interpreter {
        bail!(
            "it is not static: it asks for {interpreter}, which is not there; link it statically, or use `debian` for what it needs"
        );
    }
    Ok(())
}
