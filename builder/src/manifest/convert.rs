//! From the keys of the file to a [`Manifest`]: defaults, paths, and what only several keys together can get wrong.

mod container;

use std::path::Path;

use super::{
    Arch, Base, Board, Bootstrap, Download, FileEntry, FileKind, ImageName, Manifest, PackageName, PublicKey, SourcePath, Table,
    User, UserName,
    file::{BaseFile, BootstrapFile, DownloadFile, FileTable, ManifestFile, SshKeyFile, UserFile},
    output::Size,
    place::{Place, Placed, Sources},
    text::BadText,
    tree::Problem,
};

/// What the conversion needs besides the keys, and what it has found so far.
struct Context<'a> {
    sources: &'a Sources,
    problems: Vec<Problem>,
}

/// The manifest that `file` stands for; `stem` is its name where it says none.
pub(super) fn convert(file: ManifestFile, stem: &str, sources: &Sources) -> Result<Manifest, Vec<Problem>> {
    let mut context = Context { sources, problems: Vec::new() };
    let name = file.name.or_else(|| context.name(stem));
    let base = context.base(file.base);
    let boards = context.boards(file.boards, base.as_ref(), file.output.table);
    if let (Some(packages), Some(Base::Download(_))) = (&file.packages, &base)
        && !packages.value.is_empty()
    {
        context.wrong(packages.place, "`packages`: can be added to a `base.bootstrap` only, the base here is `base.download`");
    }
    let overlays = file.overlays.into_iter().filter_map(|overlay| context.folder("overlays", overlay)).collect();
    let user = context.user(file.user);
    let images = context.images(file.images, base.as_ref(), file.engine.kind);
    let files =
        file.files.into_iter().enumerate().filter_map(|(index, file)| context.file(format!("files[{index}]"), file)).collect();
    match (name, base) {
        (Some(name), Some(base)) if context.problems.is_empty() => Ok(Manifest {
            name,
            boards,
            packages: file.packages.map(|packages| packages.value).unwrap_or_default(),
            overlays,
            base,
            user,
            node: file.node,
            engine: file.engine,
            output: file.output,
            images,
            files,
        }),
        _ => Err(context.problems),
    }
}

impl Context<'_> {
    fn missing(&mut self, message: impl Into<String>) {
        self.problems.push(Problem { place: None, message: message.into() });
    }

    fn wrong(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem::at(place, message));
    }

    fn name(&mut self, stem: &str) -> Option<ImageName> {
        stem.parse()
            .map_err(|error: BadText| self.missing(format!("{error}; rename the manifest file, or say `name = \"…\"`")))
            .ok()
    }

    fn path(&self, path: &Placed<String>) -> SourcePath {
        SourcePath::new(&path.value, self.sources.folder(path.place))
    }

    fn folder(&mut self, key: &str, path: Placed<String>) -> Option<SourcePath> {
        let found = self.path(&path);
        match std::fs::metadata(&found.path) {
            Ok(meta) if meta.is_dir() => return Some(found),
            Ok(_) => self.wrong(path.place, format!("`{key}`: {found} is no folder")),
            Err(error) => self.wrong(path.place, format!("`{key}`: {found}: {}", reason(&error))),
        }
        None
    }

    fn regular(&mut self, key: &str, path: Placed<String>) -> Option<SourcePath> {
        let found = self.path(&path);
        match std::fs::metadata(&found.path) {
            Ok(meta) if meta.is_file() => return Some(found),
            Ok(_) => self.wrong(path.place, format!("`{key}`: {found} is no file")),
            Err(error) => self.wrong(path.place, format!("`{key}`: {found}: {}", reason(&error))),
        }
        None
    }

    fn boards(&mut self, boards: Option<Placed<Vec<Placed<Board>>>>, base: Option<&Base>, table: Table) -> Vec<Board> {
        let Some(boards) = boards else {
            let all = Board::ALL.map(|board| format!("`{}`", board.id())).join(", ");
            self.missing(format!("`boards` is missing: name the boards that the image is for, of {all}"));
            return Vec::new();
        };
        if boards.value.is_empty() {
            self.wrong(boards.place, "`boards`: name at least one board");
        }
        let kernel = match base {
            Some(Base::Bootstrap(bootstrap)) => Some(bootstrap.kernel_architecture()),
            _ => None,
        };
        let mut all = Vec::new();
        for Placed { value: board, place } in boards.value {
            if let Some(kernel) = kernel.filter(|kernel| !board.runs(*kernel)) {
                let (why, other) = match kernel {
                    Arch::Arm64 => ("is a 32-bit board", "`base.bootstrap.kernel = \"linux-image-armmp\"`"),
                    Arch::Armhf => {
                        ("has no device tree in Debian's 32-bit kernel", "`base.bootstrap.kernel = \"linux-image-arm64:arm64\"`")
                    }
                };
                self.wrong(
                    place,
                    format!("`boards`: the {board} {why}, an {kernel} kernel does not run there: leave it out, or say {other}"),
                );
            }
            if table == Table::Gpt && !board.boots_gpt() {
                let message =
                    format!("`boards`: the {board} boots from an MBR only: leave it out, or say `output.table = \"mbr\"`");
                self.wrong(place, message);
            }
            if all.contains(&board) {
                self.wrong(place, format!("`boards`: `{}` is there twice", board.id()));
            }
            all.push(board);
        }
        all
    }

    fn base(&mut self, base: Option<Placed<BaseFile>>) -> Option<Base> {
        let place = base.as_ref().map(|base| base.place);
        match base.map(|base| base.value).unwrap_or_default() {
            BaseFile { bootstrap: Some(bootstrap), download: None } => self.bootstrap(bootstrap, place).map(Base::Bootstrap),
            BaseFile { bootstrap: None, download: Some(download) } => self.download(download, place).map(Base::Download),
            BaseFile { bootstrap: Some(_), download: Some(_) } => {
                let message = "`base`: there is `base.bootstrap` and `base.download`, and a system comes from one place only";
                self.problems.push(Problem { place, message: message.to_owned() });
                None
            }
            BaseFile { bootstrap: None, download: None } => {
                let message = "`base` is missing: say where the system comes from, in `[base.bootstrap]` or `[base.download]`";
                self.problems.push(Problem { place, message: message.to_owned() });
                None
            }
        }
    }

    fn bootstrap(&mut self, file: BootstrapFile, place: Option<Place>) -> Option<Bootstrap> {
        let before = self.problems.len();
        let suites = file.suites.as_ref().map_or(&[][..], |suites| &suites.value).to_vec();
        if suites.is_empty() {
            let message =
                "`base.bootstrap.suites`: name at least one suite of the Debian archive, such as `[\"trixie\"]`".to_owned();
            self.problems.push(Problem { place: file.suites.map(|suites| suites.place).or(place), message });
        }
        let components = match file.components {
            None => default(&["main", "non-free-firmware"]),
            Some(Placed { value, place }) => {
                if value.is_empty() {
                    self.wrong(place, "`base.bootstrap.components`: name at least one, such as `[\"main\"]`");
                }
                value
            }
        };
        if file.packages.is_none() {
            let message = "`base.bootstrap.packages` is missing: name the packages that make the system, or include a manifest \
                           that does";
            self.problems.push(Problem { place, message: message.to_owned() });
        }
        let keyring = file.keyring.and_then(|keyring| self.regular("base.bootstrap.keyring", keyring));
        let kernel = file.kernel.unwrap_or(PackageName { name: "linux-image-arm64".to_owned(), architecture: Some(Arch::Arm64) });
        (self.problems.len() == before).then(|| Bootstrap {
            mirror: file.mirror,
            suites,
            components,
            architecture: file.architecture.unwrap_or(Arch::Armhf),
            kernel,
            packages: file.packages.unwrap_or_default(),
            keyring,
        })
    }

    fn download(&mut self, file: DownloadFile, place: Option<Place>) -> Option<Download> {
        let mut fail = |message: &str| self.problems.push(Problem { place, message: format!("`base.download`: {message}") });
        match (file.url, file.path) {
            (Some(url), None) => {
                let Some(sha256) = file.sha256 else {
                    fail("`sha256` is missing: what comes from the web is only taken when its digest is known");
                    return None;
                };
                Some(Download::Web { url, sha256, size: file.size.map(|Placed { value: Size(size), .. }| size) })
            }
            (None, Some(path)) => {
                if let Some(size) = file.size {
                    self.wrong(size.place, "`base.download.size`: goes with `url` only");
                    return None;
                }
                let path = self.regular("base.download.path", path)?;
                Some(Download::File { path, sha256: file.sha256 })
            }
            (Some(_), Some(_)) => {
                fail("there is `url` and `path`: an image comes from one place only");
                None
            }
            (None, None) => {
                fail("`url` is missing, or `path` for a file on this machine");
                None
            }
        }
    }

    fn user(&mut self, file: UserFile) -> User {
        let mut ssh_keys: Vec<PublicKey> = Vec::new();
        for (index, key) in file.ssh_keys.into_iter().enumerate() {
            for found in self.ssh_key(index, key) {
                if !ssh_keys.contains(&found) {
                    ssh_keys.push(found);
                }
            }
        }
        let name = file.name.unwrap_or_else(|| default::<UserName>(&["hcl"]).remove(0));
        User { name, ssh_keys, password_hash: file.password_hash, sudo: file.sudo.unwrap_or(true) }
    }

    fn ssh_key(&mut self, index: usize, Placed { value, place }: Placed<SshKeyFile>) -> Vec<PublicKey> {
        let key = format!("user.ssh_keys[{index}]");
        let (text, from) = match value {
            SshKeyFile::Line(line) => (line, String::new()),
            SshKeyFile::File(path) => {
                let Some(path) = self.regular(&key, Placed { value: path, place }) else { return Vec::new() };
                match std::fs::read_to_string(&path.path) {
                    Ok(text) => (text, format!("{path}: ")),
                    Err(error) => {
                        self.wrong(place, format!("`{key}`: {path}: {}", reason(&error)));
                        return Vec::new();
                    }
                }
            }
        };
        let mut keys = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.parse() {
                Ok(found) => keys.push(found),
                Err(error) => {
                    let error: BadText = error;
                    self.wrong(place, format!("`{key}`: {from}{error}"));
                    return keys;
                }
            }
        }
        if keys.is_empty() {
            self.wrong(place, format!("`{key}`: {from}there is no key in it"));
        }
        keys
    }

    fn file(&mut self, key: String, Placed { value: file, place }: Placed<FileTable>) -> Option<FileEntry> {
        let mut kinds = Vec::new();
        kinds.extend(file.content.map(FileKind::Content));
        if let Some(source) = file.source {
            kinds.push(FileKind::Source(self.regular(&format!("{key}.source"), source)?));
        }
        kinds.extend(file.symlink.map(FileKind::Symlink));
        kinds.extend(file.hardlink.map(FileKind::Hardlink));
        kinds.extend(file.directory.filter(|yes| *yes).map(|_| FileKind::Directory));
        kinds.extend(file.device.map(FileKind::Device));
        kinds.extend(file.fifo.filter(|yes| *yes).map(|_| FileKind::Fifo));
        if kinds.len() > 1 {
            let all = "`content`, `source`, `symlink`, `hardlink`, `directory`, `device` and `fifo`";
            self.wrong(place, format!("`{key}`: {} can only be one of {all}", file.path));
            return None;
        }
        let kind = kinds.pop().unwrap_or(FileKind::Existing);
        let unchanged = file.mode.is_none() && file.uid.is_none() && file.gid.is_none() && file.mtime.is_none();
        if kind == FileKind::Existing && unchanged && file.xattrs.is_empty() {
            self.wrong(place, format!("`{key}`: says nothing about {}: give it a content, a target, a mode, …", file.path));
            return None;
        }
        let empty = matches!(&kind, FileKind::Symlink(target) if target.is_empty() || target.contains('\0'));
        if empty || (matches!(kind, FileKind::Symlink(_)) && file.mode.is_some()) {
            self.wrong(place, format!("`{key}`: a symbolic link needs a target and has no mode of its own"));
            return None;
        }
        if let Some(name) = file.xattrs.keys().find(|name| !xattr_name(name)) {
            let message = format!(
                "`{key}.xattrs`: `{name}` is no attribute: names begin with `user.`, `security.`, `trusted.` or `system.`"
            );
            self.wrong(place, message);
            return None;
        }
        Some(FileEntry {
            path: file.path,
            kind,
            mode: file.mode,
            uid: file.uid,
            gid: file.gid,
            mtime: file.mtime,
            xattrs: file.xattrs,
        })
    }
}

/// The namespaces of xattr(7); a name is at most 255 bytes.
fn xattr_name(name: &str) -> bool {
    let rest = ["user.", "security.", "trusted.", "system."].iter().find_map(|space| name.strip_prefix(space));
    rest.is_some_and(|rest| !rest.is_empty()) && name.len() <= 255 && !name.contains('\0')
}

/// Texts of ours that are known to be right.
fn default<T: std::str::FromStr>(texts: &[&str]) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read by you".to_owned(),
        _ => error.to_string(),
    }
}

/// The name that a manifest file gives its image.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
