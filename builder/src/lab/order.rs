//! What a person types while `up` runs, or sends with `hcl-image lab`: `cut 2`, `split 1,2 3`, `loss 0.1`, `heal`, `add`, `pull 1`.

use std::{str::FromStr, time::Duration};

use super::{Lab, node::Clock, reach::Reach, switch::PortId};

/// What can be typed, for help.
pub const HELP: &str = "\
cut N        pull node N's cable          plug N       put it back
split A,B C  nodes on islands that do not hear each other (the router stays with the first; nodes not named too)
loss SHARE   lose frames, such as 0.1     delay TIME   delay frames, such as 50ms
heal         undo all of these
add          switch on one node more      off N        press node N's power button
pull N       cut node N's power           on N         switch it on again
status       who is on, who leads, where the page is";

/// An order.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Pulls (`true`) or plugs in the cable of a node.
    Cut(usize, bool),
    /// The islands; what is on none of them is on the first.
    Split(Vec<Vec<usize>>),
    /// Loss on all nodes' ports.
    Loss(f64),
    /// Delay on all nodes' ports.
    Delay(Duration),
    /// Undoes cuts, islands, loss and delay.
    Heal,
    /// Presses the power button of a node.
    Off(usize),
    /// Cuts a node's power.
    Pull(usize),
    /// Switches on a node that is off.
    On(usize),
    /// Switches on a node that there was not.
    Add,
    /// Tells how the lab is.
    Status,
}

/// Reads a share of frames.
///
/// # Errors
///
/// It is no number from 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is no share: a number from 0 to 1, such as 0.05")),
    }
}

/// Reads a time of at most a day.
///
/// # Errors
///
/// It is no number with a unit.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: a number with ms, s or m, such as 20ms");
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit()).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let milliseconds = match &text[digits..] {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    // A day is more than any fault lasts, and far from where times overflow.
    let total = milliseconds.and_then(|factor| number.checked_mul(factor)).filter(|total| *total <= 86_400_000);
    total.map(Duration::from_millis).ok_or_else(wrong)
}

/// A node's number as people count, from 1, to its index.
fn node(text: &str) -> Result<usize, String> {
    let number = text.strip_prefix("node-").unwrap_or(text).parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    number.ok_or_else(|| format!("`{text}` is no node: their numbers start at 1"))
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        Ok(match words[..] {
            ["cut", number] => Self::Cut(node(number)?, true),
            ["plug", number] => Self::Cut(node(number)?, false),
            ["off", number] => Self::Off(node(number)?),
            ["pull", number] => Self::Pull(node(number)?),
            ["on", number] => Self::On(node(number)?),
            ["add"] => Self::Add,
            ["status"] => Self::Status,
            ["loss", text] => Self::Loss(share(text)?),
            ["delay", text] => Self::Delay(time(text)?),
            ["heal"] => Self::Heal,
            ["split", ref islands @ ..] if !islands.is_empty() => {
                let island = |text: &&str| text.split(',').map(node).collect::<Result<Vec<_>, _>>();
                Self::Split(islands.iter().map(island).collect::<Result<_, _>>()?)
            }
            _ => return Err(format!("`{line}` is no order; there are:\n{HELP}")),
        })
    }
}

impl Order {
    /// Whether it leaves the lab as it is.
    pub fn only_looks(&self) -> bool {
        *self == Self::Status
    }

    /// Carries it out, and says what holds now.
    ///
    /// # Errors
    ///
    /// There is no such node, or its QEMU does not answer.
    pub fn apply(&self, lab: &mut Lab, reach: &Reach) -> anyhow::Result<String> {
        let count = lab.used();
        let named: Vec<usize> = match self {
            Self::Cut(node, _) | Self::Off(node) | Self::Pull(node) | Self::On(node) => vec![*node],
            Self::Split(islands) => islands.concat(),
            _ => Vec::new(),
        };
        if let Some(wrong) = named.iter().find(|node| **node >= count) {
            anyhow::bail!("there is no node-{}, only {count}", wrong + 1);
        }
        Ok(match self {
            Self::Cut(node, cut) => {
                lab.cut(*node, *cut)?;
                format!("node-{} is {}", node + 1, if *cut { "cut off" } else { "plugged in" })
            }
            Self::Off(node) => {
                if let Some(node) = lab.node_mut(*node) {
                    node.power_button()?;
                }
                format!("node-{}: power button pressed", node + 1)
            }
            Self::Pull(node) => {
                anyhow::ensure!(lab.is_on(*node), "node-{} is off", node + 1);
                lab.pull(*node)?;
                reach.gone(*node);
                format!("node-{}: power pulled", node + 1)
            }
            Self::On(node) => {
                lab.power_on(*node, Clock::Host)?;
                reach.back(*node);
                format!("node-{} is on", node + 1)
            }
            Self::Add => format!("node-{} is on, a new one", lab.add()? + 1),
            Self::Status => reach.status(lab),
            Self::Split(islands) => {
                let island_of = |node: usize| islands.iter().position(|island| island.contains(&node)).unwrap_or(0);
                set_islands(lab, island_of);
                format!("{} islands", islands.len())
            }
            Self::Loss(share) => {
                each_port(lab, |faults| faults.loss = *share);
                format!("{:.1} % of frames are lost on the way to each node", share * 100.0)
            }
            Self::Delay(time) => {
                each_port(lab, |faults| faults.delay = *time);
                format!("frames to each node take {} ms more", time.as_millis())
            }
            Self::Heal => {
                for node in 0..count {
                    lab.cut(node, false)?;
                }
                set_islands(lab, |_| 0);
                each_port(lab, |faults| {
                    faults.loss = 0.0;
                    faults.delay = Duration::ZERO;
                });
                "all cables are in, one island, no loss, no delay".to_owned()
            }
        })
    }
}

fn set_islands(lab: &Lab, island_of: impl Fn(usize) -> usize) {
    let mut switch = lab.wire().switch();
    for node in 0..switch.ports().len() - 1 {
        if let Some(port) = switch.port_mut(PortId(node + 1)) {
            // There are at most sixteen nodes.
            port.island = island_of(node) as u8;
        }
    }
    switch.forget();
}

fn each_port(lab: &Lab, change: impl Fn(&mut super::switch::Faults)) {
    let mut switch = lab.wire().switch();
    for port in 1..switch.ports().len() {
        if let Some(port) = switch.port_mut(PortId(port)) {
            change(&mut port.faults);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        for (line, order) in [
            ("cut 2", Some(Order::Cut(1, true))),
            ("plug node-2", Some(Order::Cut(1, false))),
            (" off  1 ", Some(Order::Off(0))),
            ("split 1,2 3", Some(Order::Split(vec![vec![0, 1], vec![2]]))),
            ("pull 3", Some(Order::Pull(2))),
            ("on 3", Some(Order::On(2))),
            ("add", Some(Order::Add)),
            ("status", Some(Order::Status)),
            ("loss 0.25", Some(Order::Loss(0.25))),
            ("delay 50ms", Some(Order::Delay(Duration::from_millis(50)))),
            ("heal", Some(Order::Heal)),
            ("cut", None),
            ("cut 0", None),
            ("pull", None),
            ("on 0", None),
            ("add 2", None),
            ("status 1", None),
            ("cut x", None),
            ("split", None),
            ("split 1,,2", None),
            ("loss 2", None),
            ("delay 5", None),
            ("help", None),
        ] {
            assert_eq!(line.parse().ok(), order, "{line}");
        }
    }

    #[test]
    fn times_and_shares() {
        for (text, milliseconds) in [("0s", 0), ("20ms", 20), ("30s", 30_000), ("2m", 120_000)] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615m", "2d", "25m5"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(share("0.05"), Ok(0.05));
        for text in ["", "1.1", "-0.1", "NaN", "5%"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
