//! The activity LED in sysfs, lent from the kernel and given back.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::led::Signal;

/// The activity LED's names: as the device trees of Linux and of Raspberry Pi have it, and as older Raspberry Pi kernels had it.
const NAMES: [&str; 2] = ["ACT", "led0"];
/// The kernel's trigger that blinks any pattern.
const TRIGGER: &str = "pattern";
/// The file in the run folder that has the trigger from before, for a program that starts again after a crash.
const BEFORE: &str = "led-trigger";

/// The LED.
#[derive(Debug)]
pub(super) struct Led {
    folder: PathBuf,
    max_brightness: u32,
    /// The trigger that it had.
    before: String,
    shown: Option<Signal>,
}

impl Led {
    /// The LED below `root`.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be used; in one line.
    pub(super) fn open(root: &Path, run_dir: &Path) -> Result<Self, String> {
        let class = root.join("sys/class/leds");
        let folder = NAMES.iter().map(|name| class.join(name)).find(|folder| folder.is_dir());
        let folder = folder.ok_or_else(|| format!("no activity LED in {}: nothing blinks", class.display()))?;
        let unusable = |error: io::Error| format!("the LED {}: {error}", folder.display());
        let triggers = fs::read_to_string(folder.join("trigger")).map_err(unusable)?;
        if !names(&triggers).any(|name| name == TRIGGER) {
            return Err(format!("the LED {} has no trigger `{TRIGGER}`: load the module ledtrig-pattern", folder.display()));
        }
        let current = triggers.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']')).unwrap_or("none");
        let before = remembered(run_dir, current, &triggers).map_err(unusable)?;
        let max_brightness = fs::read_to_string(folder.join("max_brightness")).ok().and_then(|text| text.trim().parse().ok());
        Ok(Self { max_brightness: max_brightness.unwrap_or(1), before, shown: None, folder })
    }

    /// Shows `signal` from now on, whatever becomes of the program.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn show(&mut self, signal: Signal) -> io::Result<()> {
        if self.shown == Some(signal) {
            return Ok(());
        }
        if self.shown.is_none() {
            fs::write(self.folder.join("trigger"), TRIGGER)?;
        }
        fs::write(self.folder.join("pattern"), signal.pattern(self.max_brightness))?;
        self.shown = Some(signal);
        Ok(())
    }

    /// Gives the LED the trigger back that it had before.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn give_back(&mut self) -> io::Result<()> {
        if self.shown.take().is_some() {
            fs::write(self.folder.join("trigger"), &self.before)?;
        }
        Ok(())
    }
}

fn names(triggers: &str) -> impl Iterator<Item = &str> {
    triggers.split_whitespace().map(|word| word.trim_matches(['[', ']']))
}

/// The trigger to give back: the current one, unless it is ours, left by a program that crashed.
fn remembered(run_dir: &Path, current: &str, triggers: &str) -> io::Result<String> {
    let path = run_dir.join(BEFORE);
    if current != TRIGGER {
        fs::create_dir_all(run_dir)?;
        fs::write(path, current)?;
        return Ok(current.to_owned());
    }
    let before = fs::read_to_string(path).unwrap_or_default();
    let known = names(triggers).find(|name| *name == before.trim());
    // The Pi's own, where nobody knows.
    let usual = ["mmc0", "heartbeat"].into_iter().find(|usual| names(triggers).any(|name| name == *usual));
    Ok(known.or(usual).unwrap_or("none").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trouble::Kind;

    /// A folder in the place of sysfs.
    fn sysfs(name: &str, triggers: &str) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/class/leds").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("trigger"), triggers).unwrap();
        fs::write(folder.join("max_brightness"), "255\n").unwrap();
        (root, folder)
    }

    #[test]
    fn lent_and_given_back() {
        for name in NAMES {
            let (root, folder) = sysfs(name, "none kbd-scrolllock [mmc0] heartbeat pattern\n");
            let run = root.path().join("run");
            let text = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
            let mut led = Led::open(root.path(), &run).unwrap();
            assert!(text("trigger").contains("[mmc0]"), "nothing is shown yet");
            led.show(Signal::Leader).unwrap();
            assert_eq!((text("trigger"), text("pattern")), ("pattern".into(), "255 1850 255 0 0 150 0 0".into()));
            // What is shown is not written again.
            fs::write(folder.join("pattern"), "").unwrap();
            led.show(Signal::Leader).unwrap();
            assert_eq!(text("pattern"), "");
            led.show(Signal::Fault(Kind::Configuration)).unwrap();
            assert_eq!(text("pattern"), "255 500 255 0 0 400 0 0 0 2000 0 0");
            led.give_back().unwrap();
            assert_eq!(text("trigger"), "mmc0");
            // A second time there is nothing to give back.
            fs::write(folder.join("trigger"), "heartbeat").unwrap();
            led.give_back().unwrap();
            assert_eq!(text("trigger"), "heartbeat");
        }
    }

    #[test]
    fn after_a_crash_the_first_trigger_is_known() {
        let (root, folder) = sysfs("ACT", "none mmc0 [default-on] pattern\n");
        let run = root.path().join("run");
        let mut crashed = Led::open(root.path(), &run).unwrap();
        crashed.show(Signal::Searching).unwrap();
        for (run, before) in [(&run, "default-on"), (&root.path().join("none"), "mmc0")] {
            fs::write(folder.join("trigger"), "none mmc0 default-on [pattern]\n").unwrap();
            let mut led = Led::open(root.path(), run).unwrap();
            led.show(Signal::Looking).unwrap();
            led.give_back().unwrap();
            assert_eq!(fs::read_to_string(folder.join("trigger")).unwrap(), before);
        }
    }

    #[test]
    fn boards_without() {
        let root = tempfile::tempdir().unwrap();
        assert!(Led::open(root.path(), root.path()).unwrap_err().starts_with("no activity LED in /"));
        let (root, _) = sysfs("mmc0::", "none [mmc0] pattern");
        assert!(Led::open(root.path(), root.path()).unwrap_err().starts_with("no activity LED in /"));
        let (root, folder) = sysfs("ACT", "none [mmc0] timer");
        assert!(Led::open(root.path(), root.path()).unwrap_err().ends_with("load the module ledtrig-pattern"));
        fs::remove_file(folder.join("trigger")).unwrap();
        assert!(Led::open(root.path(), root.path()).unwrap_err().contains("No such file"));
    }
}
