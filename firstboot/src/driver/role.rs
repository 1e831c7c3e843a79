//! `/run/hcl/role.sock`: where `hcl-firstboot cluster`, which knows Consul, tells of the leader's role, and keeps the ledger for us.
//!
//! One client, one JSON object a line, in both directions:
//!
//! ```text
//! to us    {"granted":{"index":7,"asked_at_ms":81234,"valid_ms":10000,"ledger":{…}|null,"incarnation":"…"}}
//!          {"lost":true}   {"established":true}   {"replicated":41}
//! from us  {"replicate":{"seq":41,"index":7,"ledger":{…}}}
//! ```
//!
//! `asked_at_ms` is `CLOCK_BOOTTIME` from before the grant was asked for, so that no wait on the way makes it longer. The first
//! `granted` of each index, and the first on each connection, carries the ledger that the quorum keeps; null: it keeps none yet.
//! `replicated` answers once the quorum has that ledger, written while the grant of that index stood. A grant without a renewal ends
//! by itself, so nothing depends on this connection's end.

use std::{
    collections::VecDeque,
    fs::{self, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::PermissionsExt,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    time::Duration,
};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::{identity::Incarnation, node::Event, record::Ledger};

/// The socket's name in the run folder.
pub const SOCKET: &str = "role.sock";
/// The longest line, in bytes, and the most that waits for a client that does not read. A ledger of 190 members has 25,000.
const LONGEST: usize = 1 << 20;
/// The longest grant, in milliseconds: what is longer is a mistake, and would keep the role where nobody has it.
const LONGEST_GRANT: u64 = 60_000;

/// What the client says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Granted(Granted),
    Lost(True),
    Established(True),
    Replicated(u64),
}

#[derive(Debug, Deserialize)]
struct Granted {
    index: u64,
    asked_at_ms: u64,
    valid_ms: u64,
    ledger: Option<Ledger>,
    incarnation: Option<Incarnation>,
}

/// The word `true`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "bool")]
struct True;

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        value.then_some(Self).ok_or("only true is said")
    }
}

/// What we say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Say<'a> {
    Replicate { seq: u64, index: u64, ledger: &'a Ledger },
}

/// The socket and its client.
#[derive(Debug)]
pub(super) struct RoleSocket {
    listener: UnixListener,
    client: Option<Client>,
    /// What it said and nobody has asked for yet.
    said: VecDeque<Said>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    /// The line that has come in part.
    line: Vec<u8>,
    /// Whether that line is too long, and its rest is left out.
    skips: bool,
    /// What it has not taken yet.
    out: VecDeque<u8>,
}

impl RoleSocket {
    /// Makes the socket in `folder`, in place of one that an earlier run left. Only the owner of this process may connect.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        // Nobody can connect before it listens.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        net::listen(&socket, 4)?;
        Ok(Self { listener: socket.into(), client: None, said: VecDeque::new() })
    }

    /// What may have something to say.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let client = self.client.iter().map(|client| client.stream.as_fd());
        std::iter::once(self.listener.as_fd()).chain(client)
    }

    /// Takes connections and lines; what is wrong with them, a line each for the log.
    pub(super) fn receive(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(client) = &mut self.client {
            let (lines, goes_on) = client.receive();
            for line in lines {
                match line.and_then(|line| serde_json::from_slice(&line).map_err(|error| error.to_string())) {
                    Ok(said) => self.said.push_back(said),
                    Err(error) => wrong.push(format!("a line on {SOCKET} that is none of its: {error}")),
                }
            }
            if !goes_on || !client.flush() {
                self.client = None;
            }
        }
        // Connections that were taken back before we looked are no news.
        while let Ok((stream, _)) = self.listener.accept() {
            if self.client.is_some() {
                wrong.push(format!("a second client on {SOCKET} was sent away"));
            } else if stream.set_nonblocking(true).is_ok() {
                self.client = Some(Client { stream, line: Vec::new(), skips: false, out: VecDeque::new() });
            }
        }
        wrong
    }

    /// The next thing that was said, as it is `now_ms` after the boot; or what is wrong with it.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<Result<Event, String>> {
        self.said.pop_front().map(|said| event(said, now_ms))
    }

    /// Asks the client to have the quorum keep `ledger`; whether there is a client. The node asks again where no answer comes.
    pub(super) fn replicate(&mut self, seq: u64, index: u64, ledger: &Ledger) -> bool {
        let Some(client) = &mut self.client else { return false };
        // Nothing in it can fail: no maps.
        let mut line = serde_json::to_vec(&Say::Replicate { seq, index, ledger }).unwrap_or_default();
        line.push(b'\n');
        client.out.extend(line);
        if !client.flush() {
            self.client = None;
        }
        self.client.is_some()
    }
}

fn event(said: Said, now_ms: u64) -> Result<Event, String> {
    let Granted { index, asked_at_ms, valid_ms, ledger, incarnation } = match said {
        Said::Granted(granted) => granted,
        Said::Lost(True) => return Ok(Event::RoleLost),
        Said::Established(True) => return Ok(Event::Established),
        Said::Replicated(seq) => return Ok(Event::Replicated { seq }),
    };
    if index == 0 || valid_ms > LONGEST_GRANT || asked_at_ms > now_ms {
        return Err(format!(
            "a grant on {SOCKET} that cannot be: index {index}, asked for at {asked_at_ms} ms, for {valid_ms} ms; it is {now_ms} ms now"
        ));
    }
    let valid_for = Duration::from_millis((asked_at_ms + valid_ms).saturating_sub(now_ms));
    Ok(Event::RoleGranted { index, valid_for, ledger, incarnation })
}

impl Client {
    /// The lines that are whole now, and whether more may come.
    fn receive(&mut self) -> (Vec<Result<Vec<u8>, String>>, bool) {
        let (mut lines, mut buffer) = (Vec::new(), [0; 16 << 10]);
        // Bounded, so that a client that never stops keeps nobody waiting.
        for _ in 0..LONGEST / buffer.len() {
            let mut read = match self.stream.read(&mut buffer) {
                Ok(0) => return (lines, false),
                Ok(length) => &buffer[..length],
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return (lines, error.kind() == ErrorKind::WouldBlock),
            };
            while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                self.line.extend(&read[..end]);
                read = &read[end + 1..];
                let line = std::mem::take(&mut self.line);
                lines.push(if std::mem::take(&mut self.skips) { Err(format!("longer than {LONGEST} bytes")) } else { Ok(line) });
            }
            self.line.extend(read);
            if self.line.len() > LONGEST {
                self.line.clear();
                self.skips = true;
            }
        }
        (lines, true)
    }

    /// Gives it what it takes; whether it is worth going on with.
    fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.stream.write(self.out.as_slices().0) {
                Ok(0) => return false,
                Ok(length) => drop(self.out.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock && self.out.len() <= LONGEST,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        time::Instant,
    };

    use super::*;
    use crate::{identity::NodeId, record::MemberEntry};

    fn bench() -> (tempfile::TempDir, RoleSocket, UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let mut socket = RoleSocket::open(&run).unwrap();
        let client = UnixStream::connect(run.join(SOCKET)).unwrap();
        assert_eq!(socket.receive(), [] as [String; 0]);
        (folder, socket, client)
    }

    fn ledger() -> Ledger {
        let entry = MemberEntry { node: NodeId([7; 16]), address: [192, 168, 200, 77].into(), name: "node-1".into() };
        Ledger { members: vec![entry], strangers: Vec::new() }
    }

    fn all(socket: &mut RoleSocket, now_ms: u64) -> Vec<Result<Event, String>> {
        std::iter::from_fn(|| socket.next(now_ms)).collect()
    }

    #[test]
    fn what_is_said() {
        let (_folder, mut socket, mut client) = bench();
        let ledger_text = serde_json::to_string(&ledger()).unwrap();
        let incarnation = Incarnation([3; 16]);
        let lines = format!(
            r#"{{"granted":{{"index":7,"asked_at_ms":5000,"valid_ms":10000,"ledger":{ledger_text},"incarnation":"{incarnation}"}}}}
{{"granted":{{"index":8,"asked_at_ms":4000,"valid_ms":1000,"ledger":null}}}}
{{"lost":true}}
{{"established":true}}
{{"replicated":41}}
"#
        );
        // In two parts, as it may come.
        let (first, second) = lines.split_at(100);
        client.write_all(first.as_bytes()).unwrap();
        assert_eq!(socket.receive(), [] as [String; 0]);
        assert_eq!(all(&mut socket, 6000), []);
        client.write_all(second.as_bytes()).unwrap();
        assert_eq!(socket.receive(), [] as [String; 0]);
        let granted = |index, ms, ledger, incarnation| {
            Ok(Event::RoleGranted { index, valid_for: Duration::from_millis(ms), ledger, incarnation })
        };
        let wanted = [
            granted(7, 9000, Some(ledger()), Some(incarnation)),
            granted(8, 0, None, None),
            Ok(Event::RoleLost),
            Ok(Event::Established),
            Ok(Event::Replicated { seq: 41 }),
        ];
        assert_eq!(all(&mut socket, 6000), wanted);
    }

    #[test]
    fn a_bad_line_is_one_line_in_the_log() {
        let good = r#"{"granted":{"index":7,"asked_at_ms":5000,"valid_ms":10000,"ledger":null}}"#;
        let bad = [
            "",
            "{",
            "[]",
            r#"{"lost":false}"#,
            r#"{"lost":true,"established":true}"#,
            r#"{"replicated":-1}"#,
            r#"{"granted":true}"#,
            &good.replace('7', "-7"),
            &good.replace("null", r#"{"members":7}"#),
            &good.replace(r#""ledger":null"#, r#""incarnation":"33""#),
        ];
        for line in bad {
            let (_folder, mut socket, mut client) = bench();
            writeln!(client, "{line}\n{good}").unwrap();
            let wrong = socket.receive();
            assert!(wrong.len() == 1 && wrong[0].starts_with("a line on role.sock that is none of its: "), "{line}: {wrong:?}");
            assert!(matches!(all(&mut socket, 5000)[..], [Ok(Event::RoleGranted { index: 7, .. })]), "{line}");
        }
        for line in [good.replace('7', "0"), good.replace("10000", "60001"), good.replace("5000", "6001")] {
            let (_folder, mut socket, mut client) = bench();
            writeln!(client, "{line}\n{good}").unwrap();
            assert_eq!(socket.receive(), [] as [String; 0]);
            let said = all(&mut socket, 6000);
            assert!(said[0].as_ref().is_err_and(|wrong| wrong.contains("that cannot be")) && said[1].is_ok(), "{line}: {said:?}");
        }
        // One that never ends is not kept.
        let (_folder, mut socket, mut client) = bench();
        let writer = std::thread::spawn(move || {
            client.write_all(&vec![b'x'; LONGEST * 3]).unwrap();
            writeln!(client, "\n{{\"lost\":true}}").unwrap();
            client
        });
        let (until, mut wrong) = (Instant::now() + Duration::from_secs(20), Vec::new());
        while wrong.is_empty() {
            assert!(Instant::now() < until, "the line never ended");
            wrong = socket.receive();
            assert!(socket.client.as_ref().unwrap().line.len() <= LONGEST);
        }
        let _client = writer.join().unwrap();
        socket.receive();
        assert_eq!((wrong.len(), all(&mut socket, 0)), (1, vec![Ok(Event::RoleLost)]));
    }

    #[test]
    fn one_client_that_may_come_back() {
        let (folder, mut socket, client) = bench();
        let path = folder.path().join("run").join(SOCKET);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = UnixStream::connect(&path).unwrap();
        assert_eq!(socket.receive(), ["a second client on role.sock was sent away"]);
        assert_eq!((&second).read(&mut [0; 8]).unwrap(), 0);
        assert!(socket.replicate(41, 7, &ledger()));
        let mut line = String::new();
        BufReader::new(&client).read_line(&mut line).unwrap();
        let wanted = serde_json::json!({"replicate": {"seq": 41, "index": 7, "ledger": ledger()}});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), wanted);
        drop(client);
        socket.receive();
        assert!(!socket.replicate(42, 7, &ledger()));
        let _third = UnixStream::connect(&path).unwrap();
        socket.receive();
        assert!(socket.replicate(42, 7, &ledger()));
        // Who reads nothing is sent away before it costs memory.
        let mut asked = 0;
        while socket.replicate(43, 7, &ledger()) {
            asked += 1;
            assert!(asked < 100_000);
        }
        // A run that ended badly leaves its socket.
        drop(socket);
        assert!(path.exists() && RoleSocket::open(path.parent().unwrap()).is_ok());
    }
}
