//! `/run/hcl/order.sock`: where `hcl poweroff --all` on this node asks for it. For root only.
//!
//! One JSON object a line, one question a connection:
//!
//! ```text
//! to us    {"order":"poweroff","timeout_s":10}
//! from us  {"node":"node-4c0002","accepted":true,"text":"accepted"}        for each node, as it comes
//!          {"done":true}                                                   or {"done":false,"why":"…"}: nothing was ordered
//! ```

use std::{
    fs::{self, Permissions},
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener, net::UnixStream},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::{
    net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
    process::geteuid,
};
use serde::{Deserialize, Serialize};

use super::{Order, Orders, Text};
use crate::trust::UnixSeconds;

/// The socket's name in the run folder.
pub(crate) const SOCKET: &str = "order.sock";
/// How long a node has for its answer unless something else is asked for, and at most, in seconds.
pub(crate) const TIMEOUT: u64 = 10;
pub(crate) const LONGEST_TIMEOUT: u64 = 60;
/// The longest line, in bytes.
const LONGEST: u64 = 4 << 10;
/// How long the other end may be silent while it has nothing to wait for.
const BRIEF: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    order: Order,
    timeout_s: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Said {
    Done { done: bool, why: Option<String> },
    Node(Text),
}

/// Makes the socket in `folder`, in place of one that an earlier run left, and answers there, on a thread of its own. `clock` is now
/// where the clock is trusted.
///
/// # Errors
///
/// What the system says.
pub(in crate::services) fn listen(
    folder: &Path,
    orders: Arc<Orders>,
    clock: impl Fn() -> Option<UnixSeconds> + Send + 'static,
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let path = folder.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    // Nobody can connect before it listens.
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    net::listen(&socket, 4)?;
    let listener = UnixListener::from(socket);
    let serve = move || {
        // One after the other: a second order while one is given is refused anyway.
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(&stream, &orders, clock()) {
                println!("an order on {SOCKET} that is none: {error}");
            }
        }
    };
    thread::Builder::new().name("order-socket".to_owned()).spawn(serve).map(drop)
}

fn answer(stream: &UnixStream, orders: &Arc<Orders>, clock: Option<UnixSeconds>) -> io::Result<()> {
    // The mode of the socket says so already; this holds, whoever changes that. The program runs as root.
    if sockopt::socket_peercred(stream)?.uid != geteuid() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(BRIEF))?;
    stream.set_write_timeout(Some(BRIEF))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let Asked { order, timeout_s } = serde_json::from_str(&line)?;
    let limit = Duration::from_secs(timeout_s.clamp(1, LONGEST_TIMEOUT));
    // Who went away in the middle has given the order all the same.
    let given = orders.give(order, limit, clock, &mut |text| drop(say(stream, &Said::Node(text))));
    match given {
        Ok(promise) => {
            let _ = say(stream, &Said::Done { done: true, why: None });
            // Read to the end: the other end has it all.
            let _ = stream.shutdown(std::net::Shutdown::Write).and_then(|()| { stream }.read(&mut [0]));
            promise.keep();
            Ok(())
        }
        Err(why) => say(stream, &Said::Done { done: false, why: Some(why) }),
    }
}

fn say(mut stream: &UnixStream, said: &Said) -> io::Result<()> {
    stream.write_all(format!("{}\n", serde_json::to_string(said)?).as_bytes())
}

/// Why the other end was not heard.
#[derive(Debug)]
pub(crate) enum Unheard {
    /// Nobody listens there.
    NotRunning,
    /// Nothing was ordered.
    Refused(String),
    /// It broke off: what was said before it holds.
    Broken(io::Error),
}

/// Gives `order` at the socket in `folder`; a text for each node goes to `say` as it comes.
///
/// # Errors
///
/// Nothing was ordered, or nobody knows.
pub(crate) fn ask(folder: &Path, order: Order, timeout_s: u64, mut say: impl FnMut(Text)) -> Result<(), Unheard> {
    let stream = UnixStream::connect(folder.join(SOCKET)).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Unheard::NotRunning,
        _ => Unheard::Broken(error),
    })?;
    let asked = serde_json::to_string(&Asked { order, timeout_s }).unwrap_or_default() + "\n";
    // A session and an answer, for each of which a node has that long.
    stream.set_read_timeout(Some(Duration::from_secs(2 * timeout_s) + BRIEF)).map_err(Unheard::Broken)?;
    (&stream).write_all(asked.as_bytes()).map_err(Unheard::Broken)?;
    let mut lines = BufReader::new(&stream);
    loop {
        let mut line = String::new();
        let length = lines.by_ref().take(LONGEST).read_line(&mut line).map_err(Unheard::Broken)?;
        if length == 0 {
            return Err(Unheard::Broken(ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&line) {
            Ok(Said::Node(text)) => say(text),
            Ok(Said::Done { done: true, .. }) => return Ok(()),
            Ok(Said::Done { why, .. }) => return Err(Unheard::Refused(why.unwrap_or_default())),
            Err(error) => return Err(Unheard::Broken(error.into())),
        }
    }
}
