//! `.xz`: streams of blocks, decoded on all cores where the blocks state their sizes.

use std::{io::BufRead, thread};

use liblzma::stream::{Action, Error, MtStreamBuilder, Status, Stream};

use super::{DecodeError, PIECE, Sink};

/// Above it fewer threads are used, in bytes. Two blocks of `xz -6 -T0` fit.
const MEMORY_FOR_THREADS: u64 = 96 << 20;
/// Above it the file is refused, in bytes: `xz -9` takes 65 MiB.
const MEMORY: u64 = 160 << 20;
const MAGIC: u8 = 0xfd;

/// Unpacks all streams of `input`.
pub(super) fn unpack(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    let mut out = vec![0; PIECE];
    loop {
        stream(input, sink, &mut out)?;
        if !next(input)? {
            return Ok(());
        }
    }
}

fn stream(input: &mut dyn BufRead, sink: &mut Sink<'_>, out: &mut [u8]) -> Result<(), DecodeError> {
    let mut stream = decoder().map_err(reason)?;
    loop {
        let data = input.fill_buf().map_err(DecodeError::Read)?;
        let end = data.is_empty();
        let action = if end { Action::Finish } else { Action::Run };
        let (taken, given) = (stream.total_in(), stream.total_out());
        let status = stream.process(data, out, action).map_err(reason)?;
        let (taken, given) = (stream.total_in() - taken, stream.total_out() - given);
        input.consume(taken as usize);
        sink.take(&out[..given as usize])?;
        match status {
            Status::StreamEnd => return Ok(()),
            // Neither room nor data is missing, and yet it does not go on: there should have been more.
            Status::MemNeeded if end && given == 0 => return Err(DecodeError::bad("it ends too early")),
            _ => {}
        }
    }
}

fn decoder() -> Result<Stream, Error> {
    let threads = thread::available_parallelism().map_or(1, |count| count.get() as u32);
    MtStreamBuilder::new().threads(threads).memlimit_threading(MEMORY_FOR_THREADS).memlimit_stop(MEMORY).decoder()
}

/// Skips the zeros that may follow a stream; true if another stream follows them.
fn next(input: &mut dyn BufRead) -> Result<bool, DecodeError> {
    let mut padding = 0;
    loop {
        let data = input.fill_buf().map_err(DecodeError::Read)?;
        let zeros = data.iter().take_while(|byte| **byte == 0).count();
        padding += zeros;
        let following = data.get(zeros).copied();
        let end = data.is_empty();
        input.consume(zeros);
        match following {
            Some(MAGIC) if padding.is_multiple_of(4) => return Ok(true),
            None if !end => {}
            None if padding.is_multiple_of(4) => return Ok(false),
            _ => return Err(DecodeError::bad("something follows its end")),
        }
    }
}

fn reason(error: Error) -> DecodeError {
    DecodeError::bad(match error {
        Error::Data => "a checksum does not match".into(),
        Error::Format => "it is not in that format".into(),
        Error::Options => "it uses options that this decoder does not know".into(),
        Error::MemLimit => format!("unpacking it takes more than {} MiB of memory", MEMORY >> 20),
        other => format!("the decoder failed ({other})"),
    })
}
