//! A URL as one stream of bytes, however many answers it takes.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ureq::{Agent, http::StatusCode};

use super::{
    Authority, Fault, General, Patience, Request, Source,
    http::{self, Answer, Failure, Worth},
};
use crate::{
    cache::{remove_if_there, suffixed},
    progress::{Reporter, Step},
    units::{Bytes, Digest},
};

/// So much must arrive for the count of failures to begin anew, in bytes.
const PROGRESS: u64 = 1 << 20;
/// A server that wants to be left alone for longer is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Reads what is there, then what the server sends, and keeps the latter.
pub(super) struct Feed {
    url: String,
    shown: String,
    agent: Agent,
    authority: Option<Arc<dyn Authority>>,
    patience: Patience,
    reporter: Reporter,
    /// What has arrived so far, in this run or before.
    partial: File,
    partial_path: PathBuf,
    /// Bytes in `partial`.
    arrived: u64,
    /// Bytes read from us.
    position: u64,
    hasher: Sha256,
    wanted: Option<u64>,
    known: Known,
    body: Option<Box<dyn Read + Send>>,
    /// Whether the bytes in `partial` came in more than one answer.
    pieced: bool,
    failures: u32,
    /// `arrived` when the count of failures began.
    counted_from: u64,
    ended: bool,
    fault: Option<Fault>,
    step: Option<Step>,
}

/// What the server said about the file; kept beside the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    url: String,
    total: Option<u64>,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Known {
    fn of(url: &str, answer: &Answer, total: Option<u64>) -> Self {
        let text = |name| answer.header(name).map(str::to_owned);
        Self { url: url.to_owned(), total, etag: text("etag"), last_modified: text("last-modified") }
    }

    /// What stands for this version of the file in `If-Range` (RFC 9110, 13.1.5: no weak ones).
    fn validator(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/")).or(self.last_modified.as_deref())
    }

    /// Whether the two can be the same version.
    fn agrees(&self, other: &Self) -> bool {
        fn same<T: PartialEq>(one: &Option<T>, two: &Option<T>) -> bool {
            one.is_none() || two.is_none() || one == two
        }
        self.url != other.url
            || same(&self.etag, &other.etag) && same(&self.last_modified, &other.last_modified) && same(&self.total, &other.total)
    }
}

impl Feed {
    pub(super) fn open(
        url: &str,
        request: &Request,
        partial: File,
        partial_path: &Path,
        (patience, authority): (Patience, Option<Arc<dyn Authority>>),
        reporter: Reporter,
    ) -> Result<Self> {
        let arrived = partial.metadata().with_context(|| format!("opening {}", partial_path.display()))?.len();
        let known = fs::read(suffixed(partial_path, ".json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Self {
            url: url.to_owned(),
            shown: request.origin.name(),
            agent: http::agent(url, &patience)?,
            authority,
            patience,
            reporter,
            partial,
            partial_path: partial_path.to_owned(),
            arrived,
            position: 0,
            hasher: Sha256::new(),
            wanted: request.size.map(|size| size.0),
            known: known.unwrap_or_default(),
            body: None,
            pieced: arrived > 0,
            failures: 0,
            counted_from: arrived,
            ended: false,
            fault: None,
            step: None,
        })
    }

    fn next(&mut self, buf: &mut [u8]) -> Result<usize, Fault> {
        if self.position < self.arrived {
            return self.replay(buf);
        }
        loop {
            if self.ended || self.complete() {
                self.end();
                return Ok(0);
            }
            if self.body.is_none() {
                match self.connect() {
                    Ok(()) => {}
                    Err(Stop::Try(failure)) => self.pause(failure)?,
                    Err(Stop::Fault(fault)) => return Err(fault),
                }
                continue;
            }
            match self.receive(buf) {
                Ok(0) => {}
                Ok(count) => return Ok(self.took(&buf[..count])),
                Err(Stop::Try(failure)) => {
                    self.body = None;
                    self.pause(failure)?;
                }
                Err(Stop::Fault(fault)) => return Err(fault),
            }
        }
    }

    /// Bytes that are on disk already.
    fn replay(&mut self, buf: &mut [u8]) -> Result<usize, Fault> {
        let count = (self.arrived - self.position).min(buf.len() as u64) as usize;
        self.partial
            .read_exact_at(&mut buf[..count], self.position)
            .with_context(|| format!("reading {}", self.partial_path.display()))
            .map_err(Fault::Failed)?;
        Ok(self.took(&buf[..count]))
    }

    fn took(&mut self, data: &[u8]) -> usize {
        self.hasher.update(data);
        self.position += data.len() as u64;
        if let Some(step) = &self.step {
            step.advance(data.len() as u64);
        }
        data.len()
    }

    /// Whether all bytes have arrived, as far as a size is known.
    fn complete(&self) -> bool {
        self.body.is_none() && self.arrived > 0 && self.wanted.or(self.known.total) == Some(self.arrived)
    }

    fn end(&mut self) {
        self.ended = true;
        self.body = None;
        if let Some(step) = self.step.take() {
            step.done(Bytes(self.position).to_string());
        }
    }

    /// Asks for what is missing.
    fn connect(&mut self) -> Result<(), Stop> {
        let validator = self.known.validator().filter(|_| self.known.url == self.url);
        let authorization = match &self.authority {
            Some(authority) => authority.authorization().map_err(|error| Stop::Fault(Fault::Failed(error)))?,
            None => None,
        };
        let answer = http::get(&self.agent, &self.url, self.arrived, validator, authorization.as_deref())?;
        match answer.status {
            StatusCode::OK => self.whole(answer),
            StatusCode::PARTIAL_CONTENT => self.rest(answer),
            // Nothing comes after what we have: it is all of it, or of something else.
            _ => match answer.range() {
                Some((None, Some(total))) if total == self.arrived => {
                    self.ended = true;
                    Ok(())
                }
                _ if self.arrived > 0 => Err(Stop::Fault(Fault::Changed)),
                _ => Err(failed("the server refuses to send any of it (416)")),
            },
        }
    }

    /// All of it comes, though we may have a part.
    fn whole(&mut self, answer: Answer) -> Result<(), Stop> {
        let now = Known::of(&self.url, &answer, answer.length());
        self.check_size(now.total)?;
        if self.arrived == 0 {
            return self.accept(answer, now);
        }
        if !self.known.agrees(&now) {
            return Err(Stop::Fault(Fault::Changed));
        }
        self.reporter.note(format!("  the server of {} cannot go on where it stopped: it sends all of it again", self.shown));
        let mut body = answer.body;
        let (mut new, mut old) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut at = 0;
        while at < self.arrived {
            let wanted = (self.arrived - at).min(new.len() as u64) as usize;
            match body.read(&mut new[..wanted]) {
                Ok(0) => return Err(Failure::cut().into()),
                Ok(count) => {
                    self.partial.read_exact_at(&mut old[..count], at).map_err(|error| self.disk(error, "reading"))?;
                    if new[..count] != old[..count] {
                        return Err(Stop::Fault(Fault::Changed));
                    }
                    at += count as u64;
                }
                Err(error) => return Err(http::body_failure(&error).into()),
            }
        }
        self.accept(Answer { body, status: answer.status, headers: answer.headers }, now)
    }

    /// What we asked for comes.
    fn rest(&mut self, answer: Answer) -> Result<(), Stop> {
        let Some((Some(start), total)) = answer.range() else {
            return Err(Failure::protocol("the server sends a part without saying which").into());
        };
        if start != self.arrived {
            return Err(
                Failure::protocol(format!("the server sends bytes from {start} where {} were asked for", self.arrived)).into()
            );
        }
        let total = total.or(answer.length().map(|length| start + length));
        let now = Known::of(&self.url, &answer, total);
        self.check_size(total)?;
        if !self.known.agrees(&now) {
            return Err(Stop::Fault(Fault::Changed));
        }
        self.accept(answer, now)
    }

    fn check_size(&self, total: Option<u64>) -> Result<(), Stop> {
        match (self.wanted, total) {
            (Some(wanted), Some(total)) if wanted != total => {
                Err(failed(format!("the server has {total} bytes where {wanted} were asked for")))
            }
            _ => Ok(()),
        }
    }

    fn accept(&mut self, answer: Answer, now: Known) -> Result<(), Stop> {
        if let Some(total) = now.total.or(self.wanted) {
            let missing = total.saturating_sub(self.arrived);
            let free = rustix::fs::fstatvfs(&self.partial).map(|stats| stats.f_bavail.saturating_mul(stats.f_frsize));
            if let Ok(free) = free
                && free < missing
            {
                let folder = self.partial_path.parent().unwrap_or(&self.partial_path).display();
                return Err(Stop::Fault(Fault::Failed(
                    General(format!(
                        "{} are missing, and {folder} has room for {} only: make room, or name another cache with --cache",
                        Bytes(missing),
                        Bytes(free)
                    ))
                    .into(),
                )));
            }
        }
        if self.known != now {
            self.known = now;
            let text = serde_json::to_vec(&self.known).map_err(|error| failed(error.to_string()))?;
            fs::write(suffixed(&self.partial_path, ".json"), text).map_err(|error| self.disk(error, "writing"))?;
        }
        if self.step.is_none() {
            let title = format!("Downloading {}", self.shown);
            let step = match self.known.total.or(self.wanted) {
                Some(total) => self.reporter.bytes(title, Bytes(total)),
                None => self.reporter.step(title),
            };
            step.advance(self.position);
            self.step = Some(step);
        }
        self.pieced |= self.arrived > 0;
        self.body = Some(answer.body);
        Ok(())
    }

    /// The next bytes of the answer; zero at its end.
    fn receive(&mut self, buf: &mut [u8]) -> Result<usize, Stop> {
        let Some(body) = &mut self.body else { return Ok(0) };
        let total = self.wanted.or(self.known.total);
        let count = match body.read(buf) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(http::body_failure(&error).into()),
        };
        if count == 0 {
            self.body = None;
            if total.is_some_and(|total| self.arrived < total) {
                return Err(Failure::cut().into());
            }
            // Without a size the end is the end, and the digest tells whether it was.
            self.ended = true;
            return Ok(0);
        }
        if total.is_some_and(|total| self.arrived + count as u64 > total) {
            return Err(failed(format!("the server sends more than the {} bytes it should", total.unwrap_or_default())));
        }
        self.partial.write_all_at(&buf[..count], self.arrived).map_err(|error| self.disk(error, "writing"))?;
        self.arrived += count as u64;
        Ok(count)
    }

    /// Waits before the next try, or gives up.
    fn pause(&mut self, failure: Failure) -> Result<(), Fault> {
        if self.arrived >= self.counted_from + PROGRESS {
            (self.failures, self.counted_from) = (0, self.arrived);
        }
        let allowed = match failure.worth {
            Worth::Nothing => 0,
            Worth::Little => self.patience.retries.min(2),
            Worth::Much => self.patience.retries,
        };
        if self.failures >= allowed || failure.after.is_some_and(|after| after > LONGEST_PAUSE) {
            let tried = if self.failures == 0 { String::new() } else { format!(" ({} tries)", self.failures + 1) };
            let kept = if self.arrived == 0 {
                String::new()
            } else {
                format!("; {} are kept, the next run goes on from there", Bytes(self.arrived))
            };
            let text = format!("{}{tried}{kept}", failure.text);
            return Err(Fault::Failed(match failure.worth {
                Worth::Nothing => anyhow!(text),
                Worth::Little | Worth::Much => General(text).into(),
            }));
        }
        self.failures += 1;
        let pause = failure.after.unwrap_or_else(|| self.patience.pause.saturating_mul(1 << (self.failures - 1).min(10)));
        self.reporter.note(format!(
            "  {} at {} of {}: trying again in {:.0} s ({} of {allowed})",
            failure.text,
            Bytes(self.arrived),
            self.shown,
            pause.as_secs_f64(),
            self.failures
        ));
        std::thread::sleep(pause);
        Ok(())
    }

    fn disk(&self, error: io::Error, doing: &str) -> Stop {
        Stop::Fault(Fault::Failed(anyhow::Error::new(error).context(format!("{doing} {}", self.partial_path.display()))))
    }
}

/// Why an answer went no further.
enum Stop {
    /// Something that may pass.
    Try(Failure),
    Fault(Fault),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Try(failure)
    }
}

fn failed(text: impl Into<String>) -> Stop {
    Stop::Fault(Fault::Failed(anyhow!(text.into())))
}

impl Read for Feed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.next(buf).map_err(|fault| {
            self.body = None;
            self.fault = Some(fault);
            io::Error::other("the download stopped")
        })
    }
}

impl Source for Feed {
    fn fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    fn restart(&mut self) -> Result<()> {
        self.partial.set_len(0).with_context(|| format!("emptying {}", self.partial_path.display()))?;
        remove_if_there(&suffixed(&self.partial_path, ".json"))?;
        self.known = Known::default();
        self.hasher = Sha256::new();
        (self.arrived, self.position, self.counted_from) = (0, 0, 0);
        self.pieced = false;
        (self.body, self.step, self.fault, self.ended) = (None, None, None, false);
        Ok(())
    }

    fn digest(&self) -> (Digest, Bytes) {
        (Digest::finish(self.hasher.clone()), Bytes(self.position))
    }

    fn pieced(&self) -> bool {
        self.pieced
    }
}
