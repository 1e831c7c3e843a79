//! TLS on a blocking stream, over in bounded time: neither a handshake nor a read lasts longer than it was given, however slowly the
//! other end sends.

use std::{
    cell::Cell,
    fmt,
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use rustls::Connection;

use crate::http::Stream;

/// How long the goodbye at the end may take.
const GOODBYE: Duration = Duration::from_millis(200);

/// A TLS connection on a stream.
pub struct Channel<S: Stream> {
    connection: Connection,
    stream: S,
    /// When what runs must be over.
    until: Cell<Option<Instant>>,
}

impl<S: Stream> Channel<S> {
    /// Shakes hands on `stream`, for `limit` at most.
    pub(super) fn open(mut connection: Connection, mut stream: S, limit: Duration) -> Result<Self, Failed> {
        let until = Instant::now() + limit;
        handshake(&mut connection, &mut stream, until).map_err(|failed| match failed {
            Failed::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Failed::TooSlow,
            failed => failed,
        })?;
        Ok(Self { connection, stream, until: Cell::new(Some(until)) })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The stream below.
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            limit_until(&self.stream, self.until.get())?;
            if self.connection.write_tls(&mut self.stream)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

impl<S: Stream> Read for Channel<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            self.send()?;
            limit_until(&self.stream, self.until.get())?;
            self.connection.read_tls(&mut self.stream)?;
            if let Err(error) = self.connection.process_new_packets() {
                // The other end should hear why; that it cannot is no news.
                let _ = self.send();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

impl<S: Stream> Write for Channel<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.connection.writer().write(bytes)?;
        self.send()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()?;
        self.stream.flush()
    }
}

impl<S: Stream> Stream for Channel<S> {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.until.set(Some(Instant::now() + limit));
        self.stream.limit(limit)
    }
}

impl<S: Stream> Drop for Channel<S> {
    /// Says goodbye, so that the other end knows that nothing was cut off.
    fn drop(&mut self) {
        self.until.set(Some(Instant::now() + GOODBYE));
        self.connection.send_close_notify();
        let _ = self.send();
    }
}

impl<S: Stream> fmt::Debug for Channel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

/// Why there is no connection.
pub(super) enum Failed {
    TooSlow,
    Io(io::Error),
    Tls(rustls::Error),
}

fn handshake<S: Stream>(connection: &mut Connection, stream: &mut S, until: Instant) -> Result<(), Failed> {
    loop {
        while connection.wants_write() {
            limit_until(stream, Some(until)).map_err(Failed::Io)?;
            match connection.write_tls(stream) {
                Ok(0) => return Err(Failed::Io(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failed::Io(error)),
            }
        }
        if !connection.is_handshaking() {
            return stream.flush().map_err(Failed::Io);
        }
        limit_until(stream, Some(until)).map_err(Failed::Io)?;
        match connection.read_tls(stream) {
            Ok(0) => return Err(Failed::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failed::Io(error)),
        }
        if let Err(error) = connection.process_new_packets() {
            // The alert says why.
            let _ = connection.write_tls(stream);
            return Err(Failed::Tls(error));
        }
    }
}

fn limit_until<S: Stream>(stream: &S, until: Option<Instant>) -> io::Result<()> {
    let Some(until) = until else { return Ok(()) };
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { stream.limit(left) }
}
