//! A terminal in which a person types: a pseudo-terminal with a size, its shell command in the foreground.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::Client;

/// A command in a terminal.
pub struct Terminal {
    keyboard: File,
    size: OwnedFd,
    child: Child,
    screen: Receiver<Vec<u8>>,
    seen: String,
    what: String,
}

impl Terminal {
    /// Runs `line` as `client` in a terminal of so many rows and columns.
    pub fn open(client: &Client, rows: u16, columns: u16, line: &str) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        resize(&master, rows, columns);
        // A session of its own, whose terminal this is: signals of keys and sizes go to it.
        let inner = client.command(line);
        let mut command = std::process::Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(inner.get_program()).args(inner.get_args()).current_dir("/");
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(master);
        let (mut reader, size) = (keyboard.try_clone().unwrap(), OwnedFd::from(keyboard.try_clone().unwrap()));
        let (send, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once nobody has the other end any more.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { keyboard, size, child, screen, seen: String::new(), what: line.to_owned() }
    }

    /// Types something; `\r` is the key Enter.
    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the terminal another size, as dragging the window's corner does.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.size, rows, columns);
    }

    /// Waits until `text` is on the screen and wipes all up to it.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        let shown = self.shows_within(text, Duration::from_secs(60));
        assert!(shown, "{}: the terminal never shows {text:?}, but {:?}", self.what, self.seen);
    }

    /// Whether `text` comes on the screen within `limit`; wipes all up to it.
    pub fn shows_within(&mut self, text: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return true;
            }
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => return false,
            }
        }
    }

    /// Waits until the command ends; its exit code and what was not looked at.
    #[track_caller]
    pub fn end(mut self) -> (i32, String) {
        let end = Instant::now() + Duration::from_secs(60);
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "{} never ends; the terminal shows {:?}", self.what, self.seen);
            thread::sleep(Duration::from_millis(20));
        };
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(200)) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        (code, std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

fn resize(terminal: &impl AsFd, rows: u16, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}
