//! The kernel's command line (`cmdline.txt`).

/// The words of a command line, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline(Vec<String>);

impl Cmdline {
    /// Splits at white space outside of double quotes, as the kernel does.
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for letter in text.chars() {
            if letter == '"' {
                quoted = !quoted;
            }
            if letter.is_whitespace() && !quoted {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            } else {
                word.push(letter);
            }
        }
        if !word.is_empty() {
            words.push(word);
        }
        Self(words)
    }

    /// The words.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// The last value of `key=`, which is the one that counts.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Positions of the last `enable` and the last `disable` of the memory controller.
    ///
    /// `cgroup_enable=` and `cgroup_disable=` take lists (`cpuset,memory`).
    pub fn memory_controller(&self) -> (Option<usize>, Option<usize>) {
        let last = |key: &str| {
            self.0
                .iter()
                .rposition(|word| word.strip_prefix(key).is_some_and(|list| list.split(',').any(|name| name == "memory")))
        };
        (last("cgroup_enable="), last("cgroup_disable="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_values_and_order() {
        let line = Cmdline::parse("root=A  dyndbg=\"file x +p\" root=B cgroup_disable=memory cgroup_enable=cpuset,memory\n");
        assert_eq!(line.words().len(), 5);
        assert_eq!(line.value("root"), Some("B"));
        assert_eq!(line.value("rootwait"), None);
        assert_eq!(line.memory_controller(), (Some(4), Some(3)));
    }
}
