//! Downloads, verified by SHA-256 and kept in the cache.
//!
//! [`Downloads::file`] gets a file as it is, [`Downloads::image`] a raw image: there, hash and decoder run over the bytes
//! in the same pass in which they arrive. What has arrived is kept on disk until the digest is known to be right, so
//! that after a cut, or a kill, the next request asks for the rest only; hash and decoder then run over what is there
//! first. Nothing of it is taken for whole before its digest was right.
//!
//! Over `https` the certificates that the host trusts count, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR`.
//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured, in capitals or not; the own machine is
//! always asked directly.

mod feed;
mod http;
mod local;
mod origin;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use self::{feed::Feed, local::Local};
pub use self::{
    http::{Told, Worth, ask},
    origin::Origin,
};
use crate::{
    cache::{Begin, Cache, Entry, Pending},
    progress::Reporter,
    source::decode::{DecodeError, Decoded, LARGEST, decode},
    units::{Bytes, Digest},
};

/// Cache kind of files as they were published.
const FILES: &str = "download";
/// Cache kind of raw images, by the digest of what they were unpacked from.
const IMAGES: &str = "base";

/// What to get: where from, and how to know it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it is.
    pub origin: Origin,
    /// The digest of its bytes as published.
    pub sha256: Digest,
    /// Its size as published, if it is known.
    pub size: Option<Bytes>,
}

/// How patient downloads are.
#[derive(Clone, Debug)]
pub struct Patience {
    /// How long a server may take to accept a connection.
    pub connect: Duration,
    /// How long it may say nothing.
    pub silence: Duration,
    /// How often a request is repeated before giving up, as long as nothing arrives in between.
    pub retries: u32,
    /// The pause before the first repetition; each further one is twice as long.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(20), silence: Duration::from_secs(30), retries: 5, pause: Duration::from_secs(1) }
    }
}

/// Gets files into a cache.
#[derive(Clone, Debug)]
pub struct Downloads {
    cache: Cache,
    reporter: Reporter,
    patience: Patience,
    largest: Bytes,
    authority: Option<Arc<dyn Authority>>,
}

/// Knows what a server wants to see in `Authorization`. Asked before every request, since a token may have ended.
pub trait Authority: std::fmt::Debug + Send + Sync {
    /// The header's value; none where none is wanted.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    fn authorization(&self) -> Result<Option<String>>;
}

impl Downloads {
    /// Downloads into `cache`.
    pub fn new(cache: &Cache, reporter: &Reporter) -> Self {
        Self {
            cache: cache.clone(),
            reporter: reporter.clone(),
            patience: Patience::default(),
            largest: LARGEST,
            authority: None,
        }
    }

    /// With other limits than the usual ones: how long to wait, and how large a raw image may be.
    #[must_use]
    pub fn limits(mut self, patience: Patience, largest: Bytes) -> Self {
        (self.patience, self.largest) = (patience, largest);
        self
    }

    /// For a server that wants to be shown something.
    #[must_use]
    pub fn authorised(mut self, authority: Arc<dyn Authority>) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Gets the file as it is.
    ///
    /// # Errors
    ///
    /// It cannot be had, it is not what was asked for, or there is no room for it.
    pub fn file(&self, request: &Request) -> Result<Entry> {
        let pending = match self.begin(FILES, request)? {
            Begin::Present(entry) => return Ok(entry),
            Begin::Missing(pending) => pending,
        };
        let what = || format!("getting {}", request.origin);
        let partial = pending.file()?;
        let mut source = self.source(request, &pending, partial, true).with_context(what)?;
        self.until_right(request, source.as_mut(), |source| drain(source).map(|()| None)).with_context(what)?;
        drop(source);
        pending.commit(Some(request.sha256), facts(request, None))
    }

    /// Gets the raw image that the file unpacks to; a raw file is one itself. [`Entry::facts`] tell its origin, packed
    /// digest and format.
    ///
    /// # Errors
    ///
    /// As [`Downloads::file`], or it unpacks to no image.
    pub fn image(&self, request: &Request) -> Result<Entry> {
        let pending = match self.cache.begin(IMAGES, &request.sha256, &self.reporter)? {
            Begin::Present(entry) => return Ok(entry),
            Begin::Missing(pending) => pending,
        };
        // Already here as a file: no need for the network.
        let here = match self.begin(FILES, request)? {
            Begin::Present(entry) => Err(entry),
            Begin::Missing(pending) => Ok(pending),
        };
        let what = || format!("getting {}", request.origin);
        let mut source: Box<dyn Source> = match &here {
            Ok(packed) => self.source(request, packed, packed.file()?, false),
            Err(entry) => Local::open(&entry.path, request, None, &self.reporter).map(|local| Box::new(local) as Box<dyn Source>),
        }
        .with_context(what)?;
        let raw = pending.file()?;
        let decoded = self
            .until_right(request, source.as_mut(), |source| unpack(source, &raw, self.largest).map(Some))
            .with_context(what)?
            .with_context(what)?;
        drop(source);
        let entry = pending.commit(Some(decoded.sha256), facts(request, Some(&decoded)))?;
        if let Ok(packed) = here {
            // The raw image is there: what it came from has done its work.
            packed.discard();
        }
        Ok(entry)
    }

    fn begin(&self, kind: &'static str, request: &Request) -> Result<Begin> {
        match request.origin {
            Origin::Url(_) => self.cache.begin_download(kind, &request.sha256, &self.reporter),
            Origin::File(_) => self.cache.begin(kind, &request.sha256, &self.reporter),
        }
    }

    /// The bytes of `request`. `keep` says that a local file is wanted in `partial` too.
    fn source(&self, request: &Request, pending: &Pending, partial: File, keep: bool) -> Result<Box<dyn Source>> {
        Ok(match &request.origin {
            Origin::Url(url) => {
                let manners = (self.patience.clone(), self.authority.clone());
                Box::new(Feed::open(url, request, partial, pending.path(), manners, self.reporter.clone())?)
            }
            Origin::File(path) => Box::new(Local::open(path, request, keep.then_some(partial), &self.reporter)?),
        })
    }

    /// Runs `work` over the source until its digest is right, twice at most: what was put together from several
    /// answers may be of two different files, so then all of it is got once more.
    fn until_right(
        &self,
        request: &Request,
        source: &mut dyn Source,
        mut work: impl FnMut(&mut dyn Source) -> Result<Option<Decoded>, DecodeError>,
    ) -> Result<Option<Decoded>> {
        for last in [false, true] {
            let worked = work(source);
            let fault = source.fault();
            if let Some(Fault::Changed) = fault {
                if !last {
                    self.reporter
                        .note(format!("  {} has changed since it was begun: from the start again", request.origin.name()));
                    source.restart()?;
                    continue;
                }
                bail!("{CHANGES}");
            }
            if let Some(Fault::Failed(error)) = fault {
                return Err(error);
            }
            let outcome = match worked {
                Ok(decoded) => Ok(decoded),
                Err(error @ DecodeError::Bad { .. }) => Err(error),
                Err(error) => return Err(error.into()),
            };
            // Damaged, or not what was asked for? Only the whole of it tells.
            if let Err(error) = drain(source) {
                match source.fault() {
                    Some(Fault::Changed) if !last => {
                        source.restart()?;
                        continue;
                    }
                    Some(Fault::Failed(error)) => return Err(error),
                    _ => return Err(error.into()),
                }
            }
            let (found, size) = source.digest();
            if found != request.sha256 {
                let pieced = source.pieced();
                source.restart()?;
                if pieced && !last {
                    self.reporter.note("  the parts of it do not belong together: from the start again");
                    continue;
                }
                bail!("SHA-256 mismatch: {} was asked for, but {size} with {found} came", request.sha256);
            }
            return outcome.map_err(|damage| {
                anyhow!(damage)
                    .context("its SHA-256 is the one asked for, so the file is as it was published, but it cannot be unpacked")
            });
        }
        bail!("{CHANGES}")
    }
}

const CHANGES: &str = "it changes while it is downloaded, or the server contradicts itself: try again later";

/// The network or the disk is to blame, not the file: the next one would fail as well.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct General(String);

/// Whether a download failed for a reason that other downloads from the same server into the same cache share.
pub fn is_general(error: &anyhow::Error) -> bool {
    // Network errors are told in words of our own: an I/O error in the chain is the disk's.
    error.chain().any(|cause| cause.is::<General>() || cause.is::<io::Error>())
}

/// Why bytes stopped coming.
#[derive(Debug)]
enum Fault {
    /// The part that we have is of another file than the one that is there now.
    Changed,
    /// Nothing more to be done.
    Failed(anyhow::Error),
}

/// Bytes that are hashed as they are read.
trait Source: Read {
    /// Why the last read failed, once.
    fn fault(&mut self) -> Option<Fault>;
    /// Forgets all that came, also on disk, and begins again.
    fn restart(&mut self) -> Result<()>;
    /// The digest of all that was read, and how much that was.
    fn digest(&self) -> (Digest, Bytes);
    /// Whether it came in more than one answer.
    fn pieced(&self) -> bool;
}

fn unpack(source: &mut dyn Source, raw: &File, largest: Bytes) -> Result<Decoded, DecodeError> {
    decode(&mut Plain(source), raw, largest)
}

/// A source as nothing but a reader.
struct Plain<'a>(&'a mut dyn Source);

impl Read for Plain<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

/// Reads the rest.
fn drain(source: &mut dyn Source) -> Result<(), DecodeError> {
    let mut buf = vec![0; 256 << 10];
    while source.read(&mut buf).map_err(DecodeError::Read)? > 0 {}
    Ok(())
}

fn facts(request: &Request, decoded: Option<&Decoded>) -> BTreeMap<String, String> {
    let mut facts =
        BTreeMap::from([("origin".to_owned(), request.origin.to_string()), ("sha256".to_owned(), request.sha256.to_string())]);
    if let Some(decoded) = decoded {
        facts.insert("format".to_owned(), decoded.format.to_string());
    }
    facts
}
