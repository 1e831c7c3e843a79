//! Reads ahead in a thread: a layer is decompressed and hashed while what came out of it is written.

use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::Scope,
};

/// Bytes of a piece.
const PIECE: usize = 1 << 20;
/// Pieces that wait at most.
const WAITING: usize = 4;

/// What a thread has read.
pub(super) struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl Ahead {
    /// Starts to read `from`, until its end, its first error, or until nobody wants more.
    pub(super) fn new<'scope>(scope: &'scope Scope<'scope, '_>, from: Box<dyn Read + Send>) -> Self {
        let (sender, pieces) = sync_channel(WAITING);
        scope.spawn(move || read(from, &sender));
        Self { pieces, piece: io::Cursor::default(), ended: false }
    }
}

fn read(mut from: Box<dyn Read + Send>, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut from).take(PIECE as u64).read_to_end(&mut piece);
        let last = !matches!(read, Ok(PIECE));
        // An empty piece is the end. Where nobody receives, nobody is left to tell.
        if to.send(read.map(|_| piece)).is_err() || last {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !self.ended && self.piece.position() == self.piece.get_ref().len() as u64 {
            match self.pieces.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece?),
                // The thread sends its last piece, short or an error, and ends.
                Err(_) => self.ended = true,
            }
        }
        self.piece.read(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails after `left` bytes.
    struct Failing {
        left: usize,
    }

    impl Read for Failing {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 {
                return Err(io::Error::other("broken"));
            }
            let count = buf.len().min(self.left).min(70_000);
            buf[..count].fill(7);
            self.left -= count;
            Ok(count)
        }
    }

    #[test]
    fn everything_comes_through_and_errors_too() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 9 * PIECE + 5] {
            let data: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut read = Vec::new();
            std::thread::scope(|scope| {
                Ahead::new(scope, Box::new(io::Cursor::new(data.clone()))).read_to_end(&mut read).unwrap();
            });
            assert!(read == data, "{size}");
            let error = std::thread::scope(|scope| {
                Ahead::new(scope, Box::new(Failing { left: size })).read_to_end(&mut Vec::new()).unwrap_err()
            });
            assert_eq!(error.to_string(), "broken");
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_gave_up() {
        std::thread::scope(|scope| {
            let mut ahead = Ahead::new(scope, Box::new(io::repeat(1).take(100 * PIECE as u64)));
            ahead.read_exact(&mut [0; 10]).unwrap();
        });
    }
}
