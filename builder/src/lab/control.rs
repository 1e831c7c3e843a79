//! Orders from a second terminal: a unix socket in the lab's folder takes what can be typed where `up` runs.
//!
//! A client sends an order a line, and gets for each a line of JSON with [`Answer`]. The socket is mode 0600 in a folder of mode
//! 0700, so it is the user's own; it goes with the folder. A lab is called by what its folder's name ends with.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener, net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::{folder, process::listen};
use crate::error::UsageError;

/// The socket's name in the lab's folder.
const SOCKET: &str = "control";
/// Clients at a time; one more is closed at once.
const CLIENTS: usize = 16;
/// Bytes of an order at most.
const LINE: u64 = 4096;
/// Until an order must be answered: the lab may be saving its snapshot.
const PATIENCE: Duration = Duration::from_secs(300);

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// It was carried out.
    pub ok: bool,
    /// What holds now, or what is wrong with the order; may have several lines.
    pub answer: String,
}

/// An order, as it came in.
#[derive(Debug)]
pub struct Request {
    /// As it was typed.
    pub line: String,
    /// Nobody waits behind the keyboard's.
    reply: Option<Sender<Answer>>,
}

impl Request {
    /// Tells whoever sent it.
    pub fn answer(&self, answer: &Answer) {
        if let Some(reply) = &self.reply {
            // Who does not wait any more needs no answer.
            let _ = reply.send(answer.clone());
        }
    }
}

/// Orders from the keyboard and from the socket, in the order in which they came.
#[derive(Debug)]
pub struct Inbox {
    requests: Receiver<Request>,
}

impl Inbox {
    /// Opens the socket in `folder` and reads standard input, as long as there is any. The threads that wait end with the program.
    ///
    /// # Errors
    ///
    /// The socket cannot be made.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let (sender, requests) = channel();
        let path = folder.join(SOCKET);
        let listener = listen(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(|| format!("closing {}", path.display()))?;
        let typed = sender.clone();
        std::thread::Builder::new().name("control".into()).spawn(move || serve(&listener, &sender))?;
        std::thread::Builder::new().name("keyboard".into()).spawn(move || {
            for line in std::io::stdin().lines() {
                let Ok(line) = line else { break };
                if typed.send(Request { line, reply: None }).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { requests })
    }

    /// The next order, where there is one.
    pub fn next(&self) -> Option<Request> {
        self.requests.try_recv().ok()
    }
}

fn serve(listener: &UnixListener, sender: &Sender<Request>) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        // One that gave up before it was taken.
        let Ok(stream) = stream else { continue };
        if clients.fetch_add(1, Ordering::SeqCst) >= CLIENTS {
            clients.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (count, sender) = (clients.clone(), sender.clone());
        let started = std::thread::Builder::new().name("client".into()).spawn(move || {
            // It ends when the client has gone or the lab is over.
            let _ = attend(&stream, &sender);
            count.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            clients.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn attend(mut stream: &UnixStream, sender: &Sender<Request>) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let count = reader.by_ref().take(LINE).read_line(&mut line)?;
        if count == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') && count as u64 == LINE {
            bail!("an order of more than {LINE} bytes");
        }
        let (reply, answers) = channel();
        sender.send(Request { line: line.trim().to_owned(), reply: Some(reply) })?;
        let mut answer = serde_json::to_string(&answers.recv()?)?;
        answer.push('\n');
        stream.write_all(answer.as_bytes())?;
    }
}

/// A lab that runs on this machine, as seen from outside.
#[derive(Debug)]
pub struct Remote {
    /// How it is called.
    pub name: String,
    stream: BufReader<UnixStream>,
}

impl Remote {
    /// All labs of this user.
    ///
    /// # Errors
    ///
    /// The folder that labs are made in cannot be read.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let mut folders = folder::all()?;
        folders.sort();
        // A folder without a listening socket is one of a lab that starts, ends, or was killed.
        Ok(folders.iter().filter_map(|folder| Self::connect(folder).ok()).collect())
    }

    /// The lab called `name`, or the only one.
    ///
    /// # Errors
    ///
    /// There is none of that name, none at all, or more than one to choose from.
    pub fn find(name: Option<&str>) -> anyhow::Result<Self> {
        let mut labs = Self::all()?;
        if let Some(name) = name {
            labs.retain(|lab| lab.name == name);
        }
        match (labs.len(), name) {
            (1, _) => Ok(labs.remove(0)),
            (0, Some(name)) => {
                Err(UsageError::new(format!("no lab called {name} runs here; `hcl-image lab` lists those that do")))
            }
            (0, None) => Err(UsageError::new("no lab runs here: start one with `hcl-image up`")),
            _ => {
                let names: Vec<_> = labs.iter().map(|lab| lab.name.as_str()).collect();
                Err(UsageError::new(format!("{} labs run here: choose one with `--lab` {}", names.len(), names.join(" or "))))
            }
        }
    }

    fn connect(folder: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(folder.join(SOCKET))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { name: folder::name(folder), stream: BufReader::new(stream) })
    }

    /// Gives an order.
    ///
    /// # Errors
    ///
    /// The lab has gone.
    pub fn order(&mut self, line: &str) -> anyhow::Result<Answer> {
        let context = || format!("asking the lab {}", self.name);
        if line.contains('\n') {
            return Err(UsageError::new("an order is one line"));
        }
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).with_context(context)?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer).with_context(|| format!("asking the lab {}", self.name))? == 0 {
            bail!("the lab {} ended before it answered", self.name);
        }
        serde_json::from_str(&answer).with_context(|| format!("reading the answer of the lab {}", self.name))
    }
}

/// Where the socket of the lab in `folder` is.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers requests until `count` have come.
    fn lab(inbox: Inbox, count: usize) -> std::thread::JoinHandle<Vec<String>> {
        std::thread::spawn(move || {
            let mut lines = Vec::new();
            while lines.len() < count {
                let request = inbox.requests.recv_timeout(Duration::from_secs(60)).unwrap();
                request.answer(&Answer { ok: request.line != "jump", answer: format!("{}!\nagain", request.line) });
                lines.push(request.line);
            }
            lines
        })
    }

    #[test]
    fn orders_are_answered_in_order_and_only_the_user_can_give_them() {
        let folder = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(folder.path()).unwrap();
        let mode = fs::metadata(socket(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let lab = lab(inbox, 3);
        let mut first = Remote::connect(folder.path()).unwrap();
        let mut second = Remote::connect(folder.path()).unwrap();
        assert_eq!(first.order("cut 1").unwrap(), Answer { ok: true, answer: "cut 1!\nagain".into() });
        assert_eq!(second.order("jump").unwrap(), Answer { ok: false, answer: "jump!\nagain".into() });
        assert_eq!(first.order("plug 1").unwrap(), Answer { ok: true, answer: "plug 1!\nagain".into() });
        assert!(first.order("cut 1\ncut 2").is_err());
        assert_eq!(lab.join().unwrap(), ["cut 1", "jump", "plug 1"]);
        // The lab is over: its inbox has gone.
        assert!(first.order("cut 1").unwrap_err().to_string().contains("ended before it answered"));
    }

    #[test]
    fn an_endless_line_ends_the_connection_and_not_the_lab() {
        let folder = tempfile::tempdir().unwrap();
        let lab = lab(Inbox::open(folder.path()).unwrap(), 1);
        let mut rude = UnixStream::connect(socket(folder.path())).unwrap();
        rude.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let _ = rude.write_all(&[b'x'; 2 * LINE as usize]);
        assert!(matches!(rude.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert!(Remote::connect(folder.path()).unwrap().order("heal").unwrap().ok);
        assert_eq!(lab.join().unwrap(), ["heal"]);
    }
}
