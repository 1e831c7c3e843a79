//! `cmdline.txt` and `config.txt`, edited as text so that what the vendor wrote stays.
//!
//! Pure. Formats: the kernel's `kernel-parameters`, and the firmware's `config.txt` with its `[filters]`.

/// Adds `words` to a kernel command line, each once, in order, and takes out what they contradict.
///
/// The kernel reads from left to right and lets the last word win, and the firmware puts the device
/// tree's own words first: a `cgroup_disable=memory` must not come after our `cgroup_enable=memory`.
pub fn add_parameters(cmdline: &str, words: &[String]) -> String {
    let contradicted: Vec<String> = words.iter().filter_map(|word| contradiction(word)).collect();
    let kept = cmdline.split_whitespace().filter(|word| !contradicted.iter().any(|other| other == word));
    let mut result: Vec<&str> = kept.collect();
    for word in words {
        if !result.contains(&word.as_str()) {
            result.push(word);
        }
    }
    result.join(" ") + "\n"
}

fn contradiction(word: &str) -> Option<String> {
    word.strip_prefix("cgroup_enable=").map(|what| format!("cgroup_disable={what}"))
}

/// Makes sure that `settings` (lines such as `enable_uart=1`) hold on every board.
///
/// A setting that is there already in the part for all boards is left alone; the missing ones go to
/// the end under `[all]`, where an earlier filter cannot hide them.
pub fn add_settings(config: &str, settings: &[String]) -> String {
    let mut for_all = true;
    let mut present = Vec::new();
    for line in config.lines().map(str::trim) {
        if let Some(filter) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            for_all = filter.eq_ignore_ascii_case("all");
        } else if for_all {
            present.push(line);
        }
    }
    let missing: Vec<&str> = settings.iter().map(String::as_str).filter(|setting| !present.contains(setting)).collect();
    if missing.is_empty() {
        return config.to_owned();
    }
    let mut result = config.trim_end().to_owned();
    result.push_str("\n\n# Hypriot Cluster Lab\n[all]\n");
    for setting in missing {
        result.push_str(setting);
        result.push('\n');
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn parameters() {
        let ours = words("cgroup_enable=memory console=ttyS1,115200");
        for (before, after) in [
            ("root=LABEL=x rw\n", "root=LABEL=x rw cgroup_enable=memory console=ttyS1,115200\n"),
            ("cgroup_disable=memory rw", "rw cgroup_enable=memory console=ttyS1,115200\n"),
            ("cgroup_enable=memory  rw", "cgroup_enable=memory rw console=ttyS1,115200\n"),
        ] {
            assert_eq!(add_parameters(before, &ours), after);
            assert_eq!(add_parameters(after, &ours), after, "twice is once");
        }
    }

    #[test]
    fn settings() {
        let ours = words("arm_64bit=1 enable_uart=1");
        let done = "arm_64bit=1\nenable_uart=1\n";
        assert_eq!(add_settings(done, &ours), done);
        let after = add_settings("arm_64bit=1\n[pi4]\nenable_uart=1\n", &ours);
        assert_eq!(after, "arm_64bit=1\n[pi4]\nenable_uart=1\n\n# Hypriot Cluster Lab\n[all]\nenable_uart=1\n");
        assert_eq!(add_settings(&after, &ours), after, "twice is once");
    }
}
