//! A reader of layer archives that loses no byte: what is not the content of a file is kept, so that the archive can be put
//! together again.
//!
//! Formats: POSIX.1-1988 (ustar), POSIX.1-2001 (pax), GNU with long names, and the old one. Sparse files are refused, as the
//! engine refuses them.

use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};
use tar::{EntryType, Header};

/// Bytes of a block: a header is one, content is padded to whole ones.
const BLOCK: usize = 512;
/// Longest extended header. The engine's reader has the same limit.
const MAX_EXTENDED: u64 = 1 << 20;
/// In front of the names of extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What a member of the archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// A member of the archive without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The name as it is written.
    pub name: Vec<u8>,
    pub kind: Kind,
    /// Bytes of content; 0 for all but files.
    pub size: u64,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Whole seconds since 1970.
    pub mtime: i64,
    /// Where a link leads to; else empty.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes by full name, in the archive's order.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// The archive. Reading from it gives the content of the current member.
pub(super) struct Archive<R> {
    from: R,
    /// Read, but neither content nor taken yet.
    raw: Vec<u8>,
    /// Content of the current member that was not read yet.
    left: u64,
    /// Bytes that follow the current member's content up to a whole block.
    padding: usize,
}

/// What extended headers say of the next member.
#[derive(Default)]
struct Extended {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, raw: Vec::new(), left: 0, padding: 0 }
    }

    /// All bytes since the last call that are no content.
    pub(super) fn take_raw(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.raw)
    }

    /// The next member; what was not read of the one before is skipped. `None` at the end of the archive.
    ///
    /// # Errors
    ///
    /// Reading fails, or it is no archive that we (and the engine) take.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        io::copy(self, &mut io::sink()).context("reading the content")?;
        let mut extended = Extended::default();
        loop {
            let Some(header) = self.header()? else {
                ensure!(extended.is_empty(), "the archive ends behind an extended header");
                return Ok(None);
            };
            let kind = header.entry_type();
            if !(kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions()
                || kind.is_gnu_longname()
                || kind.is_gnu_longlink())
            {
                return self.member(&header, extended).map(Some);
            }
            let data = self.extended(header.entry_size()?)?;
            match kind {
                EntryType::XHeader => extended.pax = pax(&data)?,
                EntryType::GNULongName => extended.long_name = Some(until_nul(data)),
                EntryType::GNULongLink => extended.long_link = Some(until_nul(data)),
                // A global header: the engine applies it to nothing.
                _ => {}
            }
        }
    }

    /// Hands out whatever follows the archive's end, a piece at a time, until there is nothing more to read.
    ///
    /// # Errors
    ///
    /// Reading fails, or `each` does.
    pub(super) fn rest(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => each(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next header; `None` at the end, which is two blocks of zeros or simply the end.
    fn header(&mut self) -> Result<Option<Header>> {
        self.fill(self.padding)?;
        self.padding = 0;
        let mut header = Header::new_old();
        if !self.block(&mut header)? {
            return Ok(None);
        }
        if is_zero(&header) {
            ensure!(!self.block(&mut header)? || is_zero(&header), "a block of zeros stands between two members");
            return Ok(None);
        }
        let sum = |from: std::ops::Range<usize>| header.as_bytes()[from].iter().map(|byte| u32::from(*byte)).sum::<u32>();
        // The field itself counts as eight spaces.
        ensure!(
            header.cksum().is_ok_and(|said| said == sum(0..148) + sum(156..BLOCK) + 8 * 32),
            "it is no tar archive: the checksum of a header is wrong"
        );
        Ok(Some(header))
    }

    /// Reads a header. `false` where nothing is left.
    fn block(&mut self, header: &mut Header) -> Result<bool> {
        let start = self.raw.len();
        let mut limited = (&mut self.from).take(BLOCK as u64);
        match limited.read_to_end(&mut self.raw)? {
            0 => Ok(false),
            BLOCK => {
                header.as_mut_bytes().copy_from_slice(&self.raw[start..]);
                Ok(true)
            }
            count => bail!("the archive ends {count} bytes into a header"),
        }
    }

    /// Reads `count` bytes that are no content.
    fn fill(&mut self, count: usize) -> Result<()> {
        let read = (&mut self.from).take(count as u64).read_to_end(&mut self.raw)?;
        ensure!(read == count, "the archive ends early");
        Ok(())
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>> {
        ensure!(size <= MAX_EXTENDED, "an extended header has {size} bytes, more than {MAX_EXTENDED}");
        let start = self.raw.len();
        self.fill(size as usize)?;
        self.padding = padding(size);
        Ok(self.raw[start..].to_vec())
    }

    fn member(&mut self, header: &Header, extended: Extended) -> Result<Member> {
        let name = match extended.long_name {
            Some(name) => name,
            None => header.path_bytes().into_owned(),
        };
        let mut member = Member {
            kind: Kind::File,
            size: header.entry_size()?,
            mode: (header.mode()? & 0o7777) as u16,
            uid: number(header.uid()?, "owner")?,
            gid: number(header.gid()?, "group")?,
            mtime: i64::try_from(header.mtime()?).context("a time out of range")?,
            link: extended.long_link.or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default(),
            device: (0, 0),
            xattrs: Vec::new(),
            name,
        };
        for (key, value) in extended.pax {
            member.apply(&key, value)?;
        }
        let shown = || String::from_utf8_lossy(&member.name).into_owned();
        member.kind = match header.entry_type() {
            // Before POSIX a folder was a file whose name ends so.
            EntryType::Regular if header.as_bytes()[156] == 0 && member.name.ends_with(b"/") => Kind::Dir,
            EntryType::Regular => Kind::File,
            EntryType::Directory => Kind::Dir,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Char => Kind::CharDevice,
            EntryType::Block => Kind::BlockDevice,
            EntryType::Fifo => Kind::Fifo,
            EntryType::GNUSparse => bail!("{} is a sparse file, which the engine does not unpack", shown()),
            other => bail!("{} is of type {:?}, which the engine does not unpack", shown(), char::from(other.as_byte())),
        };
        if matches!(member.kind, Kind::CharDevice | Kind::BlockDevice) {
            member.device = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
        }
        if member.kind != Kind::File {
            member.size = 0;
        }
        self.left = member.size;
        self.padding = padding(member.size);
        Ok(member)
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let count = self.from.read(&mut buf[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a file"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

impl Extended {
    fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_link.is_none() && self.pax.is_empty()
    }
}

impl Member {
    /// Applies a pax record; the empty value leaves what the header says.
    fn apply(&mut self, key: &[u8], value: Vec<u8>) -> Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        let text = || std::str::from_utf8(&value).context("a pax record is no text");
        match key {
            b"path" => self.name = value,
            b"linkpath" => self.link = value,
            b"size" => self.size = text()?.parse().context("pax record `size`")?,
            b"uid" => self.uid = text()?.parse().context("pax record `uid`")?,
            b"gid" => self.gid = text()?.parse().context("pax record `gid`")?,
            b"mtime" => self.mtime = whole_seconds(text()?).context("pax record `mtime`")?,
            _ if key.starts_with(b"GNU.sparse.") => {
                bail!("{} is a sparse file, which the engine does not unpack", String::from_utf8_lossy(&self.name))
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((String::from_utf8(name.to_vec()).context("the name of an attribute is no text")?, value));
                }
            }
        }
        Ok(())
    }
}

/// `LENGTH KEY=VALUE\n`, one after the other. Values may hold any byte, newlines too.
fn pax(mut data: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let record = split_record(data).context("an extended header is damaged")?;
        records.push((record.0.to_vec(), record.1.to_vec()));
        data = record.2;
    }
    Ok(records)
}

fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

/// Seconds since 1970, down to the whole one: `1700000000.25` and `-0.5` (which is -1).
fn whole_seconds(text: &str) -> Result<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    ensure!(fraction.bytes().all(|byte| byte.is_ascii_digit()), "`{text}` is no time");
    let seconds: i64 = whole.parse().with_context(|| format!("`{text}` is no time"))?;
    Ok(if whole.starts_with('-') && fraction.bytes().any(|byte| byte != b'0') { seconds - 1 } else { seconds })
}

fn number(value: u64, what: &str) -> Result<u32> {
    u32::try_from(value).with_context(|| format!("{what} {value} is out of range"))
}

fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    data.truncate(end);
    data
}

fn is_zero(header: &Header) -> bool {
    header.as_bytes().iter().all(|byte| *byte == 0)
}
