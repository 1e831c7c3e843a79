//! One connection of QEMU's `-netdev stream`: a 32-bit big-endian length, then the frame.

use std::{
    collections::VecDeque,
    io::{ErrorKind, IoSlice, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
};

use super::frame::LONGEST;

/// Bytes of the length in front of each frame.
pub const PREFIX: usize = 4;
/// Read at one go, so that one busy port does not starve the others.
const CHUNK: usize = 128 << 10;

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The peer is there still.
    Open,
    /// The peer went away, or sent what is no frame.
    Closed,
}

/// A connected peer. Never blocks.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    /// Received, not yet a whole frame.
    inbox: Vec<u8>,
    scratch: Box<[u8]>,
    /// To be sent; of the first one `sent` bytes are gone, prefix included.
    outbox: VecDeque<Arc<[u8]>>,
    sent: usize,
    queued: usize,
}

impl Link {
    /// Takes over a fresh connection.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, inbox: Vec::new(), scratch: vec![0; CHUNK].into(), outbox: VecDeque::new(), sent: 0, queued: 0 })
    }

    /// Appends `frame` to what is to be sent. The caller bounds it by [`Self::queued`].
    pub fn queue(&mut self, frame: Arc<[u8]>) {
        self.queued += frame.len();
        self.outbox.push_back(frame);
    }

    /// Bytes of frames that wait.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// There is something to send.
    pub fn wants_to_send(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends as much as the peer takes now; `false` when it has gone.
    pub fn send(&mut self) -> bool {
        while let Some(frame) = self.outbox.front() {
            let prefix = (frame.len() as u32).to_be_bytes();
            let in_prefix = self.sent.min(PREFIX);
            let slices = [IoSlice::new(&prefix[in_prefix..]), IoSlice::new(&frame[self.sent - in_prefix..])];
            match self.stream.write_vectored(&slices) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if self.sent == PREFIX + frame.len() {
                self.sent = 0;
                self.queued -= frame.len();
                self.outbox.pop_front();
            }
        }
        true
    }

    /// Reads what is there and hands each whole frame to `take`.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8])) -> Received {
        match self.stream.read(&mut self.scratch) {
            Ok(0) => return Received::Closed,
            Ok(count) => self.inbox.extend_from_slice(&self.scratch[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Received::Open,
            Err(_) => return Received::Closed,
        }
        let mut at = 0;
        while let Some(prefix) = self.inbox.get(at..at + PREFIX) {
            let length = u32::from_be_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
            if length > LONGEST {
                return Received::Closed;
            }
            let Some(frame) = self.inbox.get(at + PREFIX..at + PREFIX + length) else { break };
            take(frame);
            at += PREFIX + length;
        }
        self.inbox.drain(..at);
        Received::Open
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(link: &mut Link) -> (Vec<Vec<u8>>, Received) {
        let mut seen = Vec::new();
        let state = link.receive(|frame| seen.push(frame.to_vec()));
        (seen, state)
    }

    #[test]
    fn frames_are_cut_out_of_the_stream_wherever_it_breaks() {
        let whole = [&[0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0], &[0, 0, 0, 2, 9, 9]].concat();
        for cut in 0..whole.len() {
            let (peer, ours) = UnixStream::pair().unwrap();
            let mut link = Link::new(ours).unwrap();
            let mut seen = Vec::new();
            for part in [&whole[..cut], &whole[cut..]] {
                (&peer).write_all(part).unwrap();
                let (frames, state) = frames(&mut link);
                assert_eq!(state, Received::Open);
                seen.extend(frames);
            }
            assert_eq!(seen, [vec![1, 2, 3], vec![], vec![9, 9]], "cut at {cut}");
        }
    }

    #[test]
    fn a_length_that_is_none_closes_and_so_does_the_end() {
        let (peer, ours) = UnixStream::pair().unwrap();
        let mut link = Link::new(ours).unwrap();
        (&peer).write_all(&(LONGEST as u32 + 1).to_be_bytes()).unwrap();
        assert_eq!(frames(&mut link), (vec![], Received::Closed));

        let (peer, ours) = UnixStream::pair().unwrap();
        let mut link = Link::new(ours).unwrap();
        drop(peer);
        assert_eq!(frames(&mut link), (vec![], Received::Closed));
    }

    #[test]
    fn what_does_not_fit_now_goes_later_and_in_order() {
        let (peer, ours) = UnixStream::pair().unwrap();
        let mut link = Link::new(ours).unwrap();
        let count = 100;
        for index in 0..count {
            link.queue(vec![index as u8; 60_000].into());
        }
        assert!(link.send() && link.wants_to_send(), "6 MB do not fit into a socket buffer");
        let mut other = Link::new(peer).unwrap();
        let mut seen = Vec::new();
        for _ in 0..10_000 {
            let (frames, _) = frames(&mut other);
            seen.extend(frames.iter().map(|frame| (frame[0], frame.len())));
            assert!(link.send());
            if seen.len() == count {
                break;
            }
        }
        assert_eq!(seen, (0..count).map(|index| (index as u8, 60_000)).collect::<Vec<_>>());
        assert_eq!(link.queued(), 0);
    }
}
