//! Bodies that are written here piece by piece, and streams of JSON read line by line.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HyperBody, Frame};
use tokio::sync::mpsc;

use crate::transport::{Body, BoxError};

/// A longer line is no message.
const LINE_BYTES: usize = 1 << 20;
/// How many pieces wait for a reader that is slow, before its writers wait.
const PIECES: usize = 16;

/// Where the pieces of a body go in. Whoever has it ends the body by dropping all of them.
pub type Pieces = mpsc::Sender<Result<Bytes, BoxError>>;

/// A body, and where its pieces go in.
pub fn body() -> (Pieces, Body) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (sender, Streamed(receiver).boxed_unsync())
}

struct Streamed(mpsc::Receiver<Result<Bytes, BoxError>>);

impl HyperBody for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Why a body was not taken in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWhole {
    /// It is longer than this many bytes.
    #[error("it is longer than {0} bytes")]
    Long(usize),
    /// It was cut.
    #[error("it did not come whole: {0}")]
    Cut(String),
}

/// A whole body of at most `limit` bytes.
///
/// # Errors
///
/// It is longer, or cut.
pub async fn whole<B>(mut body: B, limit: usize) -> Result<Bytes, NotWhole>
where
    B: HyperBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut taken = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| NotWhole::Cut(error.to_string()))?;
        let Some(bytes) = frame.data_ref() else { continue };
        if bytes.len() > limit - taken.len() {
            return Err(NotWhole::Long(limit));
        }
        taken.extend_from_slice(bytes);
    }
    Ok(taken.freeze())
}

/// Cuts a stream into lines.
#[derive(Default)]
pub struct Lines(BytesMut);

/// A line has no end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than 1 MiB")]
pub struct TooLong;

impl Lines {
    /// The lines that `bytes` complete, without their ends and without empty ones.
    ///
    /// # Errors
    ///
    /// [`TooLong`]
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, TooLong> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.0.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            lines.extend(trimmed(self.0.split().freeze()));
        }
        self.0.extend_from_slice(rest);
        match self.0.len() > LINE_BYTES {
            true => Err(TooLong),
            false => Ok(lines),
        }
    }

    /// What is left when the stream has ended.
    pub fn rest(&mut self) -> Option<Bytes> {
        trimmed(self.0.split().freeze())
    }
}

fn trimmed(line: Bytes) -> Option<Bytes> {
    let line = line.slice_ref(line.trim_ascii());
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_across_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"{\"a\":1}\r\n\r\n{\"b"), Ok(vec![Bytes::from_static(b"{\"a\":1}")]));
        assert_eq!(lines.push(b"\":2}\n{\"c\":3}"), Ok(vec![Bytes::from_static(b"{\"b\":2}")]));
        assert_eq!(lines.push(b""), Ok(vec![]));
        assert_eq!(lines.rest(), Some(Bytes::from_static(b"{\"c\":3}")));
        assert_eq!(lines.rest(), None);
        assert_eq!(lines.push(&vec![b'x'; LINE_BYTES + 1]), Err(TooLong));
    }

    #[tokio::test]
    async fn a_body_in_pieces() {
        let (pieces, body) = body();
        tokio::spawn(async move {
            for piece in ["a", "b"] {
                pieces.send(Ok(Bytes::from(piece))).await.expect("a reader");
            }
        });
        assert_eq!(whole(body, 2).await, Ok(Bytes::from("ab")));
    }

    #[tokio::test]
    async fn a_body_that_is_cut() {
        let (pieces, body) = body();
        pieces.send(Err("gone".into())).await.expect("a reader");
        drop(pieces);
        assert_eq!(whole(body, 9).await, Err(NotWhole::Cut("gone".to_owned())));
        assert_eq!(whole(crate::transport::full("abc"), 2).await, Err(NotWhole::Long(2)));
    }
}
