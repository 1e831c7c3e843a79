//! A connection on which everything is over by a given time.

use std::{io, time::Instant};

use super::{LONGEST_HEAD, Stream};

/// At most this much is read at once.
const PIECE: usize = 16 << 10;
/// The most digits of a chunk's size: more than any body that we take.
const MOST_DIGITS: usize = 8;

/// A stream with a time by which reads and writes are over, and what came and was not used.
pub(super) struct Timed<'a> {
    stream: &'a mut dyn Stream,
    /// Until when.
    pub(super) until: Instant,
    /// What came and was not used.
    pub(super) buffer: Vec<u8>,
}

/// Why a body is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is longer than we take.
    TooLong,
    /// It does not fit its own framing.
    Malformed(&'static str),
}

/// The system's failure, or what is wrong with what came.
pub(super) type Came<T, E> = io::Result<Result<T, E>>;

impl<'a> Timed<'a> {
    pub(super) fn new(stream: &'a mut dyn Stream, until: Instant) -> Self {
        Self { stream, until, buffer: Vec::new() }
    }

    fn left(&self) -> io::Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.limit(left)
    }

    pub(super) fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.left()?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Over TLS nothing may have left yet.
        self.stream.flush()
    }

    /// Reads once; whether there was more.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; PIECE];
        loop {
            self.left()?;
            match self.stream.read(&mut piece) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once; that nothing more comes is a failure.
    pub(super) fn more(&mut self) -> io::Result<()> {
        if self.fill()? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Takes `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.more()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Takes a chunked body of `longest` bytes at most (RFC 9112, section 7.1). Extensions and trailers are read and dropped.
    pub(super) fn take_chunks(&mut self, longest: usize) -> Came<Vec<u8>, Wrong> {
        let mut body = Vec::new();
        // What is dropped must end as well.
        let mut dropped = 0;
        loop {
            let line = match self.line(&mut dropped)? {
                Ok(line) => line,
                Err(wrong) => return Ok(Err(wrong)),
            };
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let rest = line[digits..].trim_ascii_start();
            if digits == 0 || !(rest.is_empty() || rest.starts_with(b";")) {
                return Ok(Err(Wrong::Malformed("a chunk without a size")));
            }
            if digits > MOST_DIGITS {
                return Ok(Err(Wrong::TooLong));
            }
            let digits = String::from_utf8_lossy(&line[..digits]);
            let size = usize::from_str_radix(&digits, 16).unwrap_or(usize::MAX);
            if size == 0 {
                break;
            }
            if size > longest - body.len() {
                return Ok(Err(Wrong::TooLong));
            }
            let chunk = self.take(size + 2)?;
            let Some(chunk) = chunk.strip_suffix(b"\r\n") else {
                return Ok(Err(Wrong::Malformed("a chunk that does not end where it says")));
            };
            body.extend_from_slice(chunk);
        }
        loop {
            match self.line(&mut dropped)? {
                Ok(line) if line.is_empty() => return Ok(Ok(body)),
                Ok(_) => {}
                Err(wrong) => return Ok(Err(wrong)),
            }
        }
    }

    /// Takes a line without its CRLF; its length counts to `dropped`.
    fn line(&mut self, dropped: &mut usize) -> Came<Vec<u8>, Wrong> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line = self.take(at + 1)?;
                line.pop();
                *dropped += line.len();
                if line.pop() != Some(b'\r') || line.contains(&b'\r') {
                    return Ok(Err(Wrong::Malformed("a line that does not end with CRLF")));
                }
                if *dropped <= LONGEST_HEAD {
                    return Ok(Ok(line));
                }
            }
            if *dropped + self.buffer.len() > LONGEST_HEAD {
                return Ok(Err(Wrong::Malformed("more of chunk sizes and trailers than a head may have")));
            }
            self.more()?;
        }
    }
}
