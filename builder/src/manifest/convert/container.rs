//! From `[images.NAME]` to an [`OciImage`].

use std::collections::BTreeMap;

use super::{Context, default};
use crate::{
    manifest::{
        Base, EngineKind, FileKind, OciArchive, OciBinary, OciDebian, OciFile, OciImage, OciName, OciRegistry, OciSettings,
        OciSource, Url,
        container::file::{OciArchiveFile, OciBinaryFile, OciDebianFile, OciImageFile, OciRegistryFile},
        output::Size,
        place::{Place, Placed},
    },
    units::Digest,
};

/// The keys of a file from this machine or from the web.
struct FileKeys {
    path: Option<Placed<String>>,
    url: Option<Url>,
    sha256: Option<Digest>,
    size: Option<Placed<Size>>,
}

impl Context<'_> {
    pub(super) fn images(
        &mut self,
        files: BTreeMap<OciName, Placed<OciImageFile>>,
        base: Option<&Base>,
        engine: EngineKind,
    ) -> BTreeMap<OciName, OciImage> {
        let mut images: BTreeMap<OciName, OciImage> = BTreeMap::new();
        for (name, Placed { value: file, place }) in files {
            if file.omit {
                continue;
            }
            if engine == EngineKind::None {
                self.wrong(place, format!("`images.{name}`: there is no engine to run it: say `omit = true`, or name an engine"));
                continue;
            }
            let Some(image) = self.image(&name, file, place, base) else { continue };
            if let Some((other, _)) = images.iter().find(|(_, other)| other.reference == image.reference) {
                self.wrong(place, format!("`images.{name}.reference`: `images.{other}` is called {} too", image.reference));
            }
            images.insert(name, image);
        }
        images
    }

    fn image(&mut self, name: &OciName, file: OciImageFile, place: Place, base: Option<&Base>) -> Option<OciImage> {
        let key = format!("images.{name}");
        let before = self.problems.len();
        if file.reference.is_none() {
            self.wrong(place, format!("`{key}`: `reference` is missing: name and tag in the engine, such as `hcl/consul:1.8.7`"));
        }
        let mut sources = Vec::new();
        if let Some(debian) = file.debian {
            sources.push(self.image_debian(&key, debian, place, base).map(OciSource::Debian));
        }
        if let Some(binary) = file.binary {
            sources.push(self.image_binary(&key, binary, place).map(OciSource::Binary));
        }
        if let Some(archive) = file.archive {
            sources.push(self.image_archive(&key, archive, place).map(OciSource::Archive));
        }
        if let Some(registry) = file.registry {
            sources.push(self.image_registry(&key, registry, place).map(OciSource::Registry));
        }
        if sources.len() != 1 {
            let found = if sources.is_empty() { "its source is missing" } else { "it comes from one source only" };
            self.wrong(place, format!("`{key}`: {found}: one of `debian`, `binary`, `archive` and `registry`"));
        }
        let mut files = Vec::new();
        for (index, file) in file.files.into_iter().enumerate() {
            let place = file.place;
            let key = format!("{key}.files[{index}]");
            let Some(file) = self.file(key.clone(), file) else { continue };
            if file.kind == FileKind::Existing {
                self.wrong(place, format!("`{key}`: {} needs a content, a source, a target, …", file.path));
            }
            files.push(file);
        }
        let settings = OciSettings {
            entrypoint: file.entrypoint,
            cmd: file.cmd,
            env: file.env,
            labels: file.labels,
            ports: file.ports,
            user: file.user,
            workdir: file.workdir,
        };
        if let Some(bad) = settings.env.keys().find(|key| key.is_empty() || key.contains(['=', '\0'])) {
            self.wrong(place, format!("`{key}.env`: `{}` is no name of a variable", bad.escape_debug()));
        }
        let source = sources.pop().flatten();
        (self.problems.len() == before)
            .then_some(())
            .and_then(|()| Some(OciImage { reference: file.reference?, source: source?, settings, files }))
    }

    fn image_debian(&mut self, key: &str, file: OciDebianFile, place: Place, base: Option<&Base>) -> Option<OciDebian> {
        let before = self.problems.len();
        let base = match base {
            Some(Base::Bootstrap(base)) => Some(base),
            _ => None,
        };
        let suites = match (file.suites, base) {
            (Some(suites), _) if !suites.value.is_empty() => suites.value,
            (None, Some(base)) => base.suites.clone(),
            (suites, _) => {
                let place = suites.map_or(place, |suites| suites.place);
                self.wrong(place, format!("`{key}.debian.suites`: name at least one suite of the Debian archive"));
                Vec::new()
            }
        };
        let components = file.components.map_or_else(|| default(&["main"]), |components| components.value);
        if components.is_empty() {
            self.wrong(place, format!("`{key}.debian.components`: name at least one, such as `[\"main\"]`"));
        }
        let packages = file.packages.map(|packages| packages.value).unwrap_or_default();
        if packages.is_empty() {
            self.wrong(place, format!("`{key}.debian.packages`: name at least one package"));
        }
        if let Some(foreign) = packages.iter().chain(&file.without).find(|package| package.architecture.is_some()) {
            self.wrong(place, format!("`{key}.debian`: {foreign}: a container image has one architecture, that of the userland"));
        }
        let keyring = match file.keyring {
            Some(keyring) => self.regular(&format!("{key}.debian.keyring"), keyring),
            None => base.and_then(|base| base.keyring.clone()),
        };
        (self.problems.len() == before).then(|| OciDebian {
            suites,
            components,
            packages,
            without: file.without,
            exclude: file.exclude,
            applets: file.applets,
            mirror: file.mirror.or_else(|| base.and_then(|base| base.mirror.clone())),
            keyring,
        })
    }

    fn image_binary(&mut self, key: &str, file: OciBinaryFile, place: Place) -> Option<OciBinary> {
        let OciBinaryFile { program, path, url, sha256, size, install } = file;
        let key_of_file = format!("{key}.binary");
        let file = match program {
            None => self.image_file(&key_of_file, FileKeys { path, url, sha256, size }, place),
            Some(program) if path.is_none() && url.is_none() && sha256.is_none() && size.is_none() => {
                Some(OciFile::Own { program })
            }
            Some(program) => {
                let name = program.name();
                self.wrong(
                    place,
                    format!("`{key_of_file}`: `program` names {name}, so that no other file is named: leave out one of the two"),
                );
                None
            }
        };
        if install.is_none() {
            self.wrong(
                place,
                format!("`{key}.binary`: `install` is missing: where the program lies in the image, such as `/hello`"),
            );
        }
        Some(OciBinary { file: file?, install: install? })
    }

    fn image_archive(&mut self, key: &str, file: OciArchiveFile, place: Place) -> Option<OciArchive> {
        let OciArchiveFile { path, url, sha256, size, image } = file;
        let file = self.image_file(&format!("{key}.archive"), FileKeys { path, url, sha256, size }, place)?;
        Some(OciArchive { file, image })
    }

    fn image_registry(&mut self, key: &str, file: OciRegistryFile, place: Place) -> Option<OciRegistry> {
        if file.image.is_none() {
            self.wrong(place, format!("`{key}.registry`: `image` is missing: `HOST/NAME@sha256:…`"));
        }
        Some(OciRegistry { image: file.image?, plain_http: file.plain_http })
    }

    fn image_file(&mut self, key: &str, file: FileKeys, place: Place) -> Option<OciFile> {
        match (file.url, file.path) {
            (Some(url), None) => {
                let Some(sha256) = file.sha256 else {
                    let why = "what comes from the web is only taken when its digest is known";
                    self.wrong(place, format!("`{key}`: `sha256` is missing: {why}"));
                    return None;
                };
                Some(OciFile::Web { url, sha256, size: file.size.map(|Placed { value: Size(size), .. }| size) })
            }
            (None, Some(path)) => {
                if let Some(size) = file.size {
                    self.wrong(size.place, format!("`{key}.size`: goes with `url` only"));
                    return None;
                }
                Some(OciFile::Local { path: self.regular(&format!("{key}.path"), path)?, sha256: file.sha256 })
            }
            (Some(_), Some(_)) => {
                self.wrong(place, format!("`{key}`: there is `url` and `path`: a file comes from one place only"));
                None
            }
            (None, None) => {
                self.wrong(place, format!("`{key}`: `url` is missing, or `path` for a file on this machine"));
                None
            }
        }
    }
}
