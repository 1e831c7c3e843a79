//! An ext4 as it is in an image, written by our editor and mounted by the kernel.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Instant,
};

use hcl_image::{
    engine_store,
    image::{ext4::Editor, overlay::Overlay},
    oci::ContainerImage,
};

pub struct Volume(PathBuf);

fn run(program: &str, package: &str, arguments: &[&str]) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    output.unwrap_or_else(|error| panic!("{program} is missing ({error}): apt-get install {package}"))
}

fn succeed(program: &str, package: &str, arguments: &[&str]) {
    let output = run(program, package, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

impl Volume {
    /// A file system in `folder` that holds the store of `images`, checked by e2fsck.
    pub fn new(folder: &Path, images: &[ContainerImage], epoch: i64) -> Self {
        let path = folder.join("ext4");
        let file = File::create_new(&path).unwrap();
        let room = engine_store::room(images).0;
        file.set_len(room + (96 << 20)).unwrap();
        let name = path.to_str().unwrap();
        succeed("mke2fs", "e2fsprogs", &["-q", "-t", "ext4", "-O", "metadata_csum_seed,orphan_file", "-J", "size=16", name]);

        let start = Instant::now();
        let file = Arc::new(File::options().read(true).write(true).open(&path).unwrap());
        let overlay = Overlay::new(file, 0, room + (96 << 20)).unwrap();
        let mut editor = Editor::open(Arc::new(overlay), epoch).unwrap();
        let written = engine_store::write(images, &mut editor, epoch).unwrap();
        editor.finish().unwrap();
        println!("{} in {} layers: {:.2} s", written.bytes, written.layers, start.elapsed().as_secs_f64());

        succeed("e2fsck", "e2fsprogs", &["-fn", name]);
        let mounted = folder.join("mounted");
        std::fs::create_dir(&mounted).unwrap();
        succeed("mount", "mount", &["-o", "loop", name, mounted.to_str().unwrap()]);
        Self(mounted)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        run("umount", "mount", &[self.0.to_str().unwrap()]);
    }
}
