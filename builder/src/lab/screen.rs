//! What happens in the lab, shown as it happens: a table on a terminal, plain lines without one, events
//! with `--json`.

use std::{io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{Event, What, console::Sight};
use crate::progress::{Mode, Reporter};

/// Columns of the table: milestones that every node passes, in order. systemd falls silent on the console once a
/// login prompt stands there, mostly before multi-user.target, which is therefore none of them.
const COLUMNS: [&str; 5] = ["kernel", "initrd", "systemd", "network", "login"];

/// Shows events.
#[derive(Debug)]
pub struct Screen {
    reporter: Reporter,
    table: Option<Table>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Table {
    all: MultiProgress,
    head: ProgressBar,
    /// A node's index is its bar's.
    bars: Vec<ProgressBar>,
}

#[derive(Clone, Debug, Default)]
struct Row {
    times: [Option<Duration>; COLUMNS.len()],
    last: String,
    trouble: bool,
}

impl Screen {
    /// A screen for nodes of these names.
    pub fn new(reporter: &Reporter, names: &[String]) -> Self {
        let terminal = reporter.mode() == Mode::Text && std::io::stderr().is_terminal();
        let table = terminal.then(|| Table::new(names));
        let screen = Self { reporter: reporter.clone(), table, rows: vec![Row::default(); names.len()] };
        (0..names.len()).for_each(|node| screen.draw(node));
        screen
    }

    /// One node more.
    pub fn add(&mut self, name: &str) {
        self.rows.push(Row::default());
        if let Some(table) = &mut self.table {
            table.add(name);
        }
        self.draw(self.rows.len() - 1);
    }

    /// Shows an event. `name` is the node's.
    pub fn show(&mut self, event: &Event, name: Option<&str>) {
        let text = match &event.what {
            What::Sight(sight) => sight.label(),
            What::Lease(address) => format!("has the address {address}"),
            What::Ssh(port) => format!("SSH on 127.0.0.1 port {port}"),
            What::Ended(Ok(())) => "is off".to_owned(),
            What::Ended(Err(words)) => format!("QEMU ended: {words}"),
            What::Broken(words) => words.clone(),
        };
        let trouble = match &event.what {
            What::Sight(sight) => sight.is_trouble(),
            What::Ended(Err(_)) | What::Broken(_) => true,
            _ => false,
        };
        self.reporter.emit(&json!({
            "event": "lab", "seconds": event.at.as_secs_f64(), "node": name, "what": text, "trouble": trouble
        }));
        if let Some(node) = event.node {
            self.note(node, event.at, &event.what, &text, trouble);
        }
        if trouble || (self.table.is_none() && self.reporter.mode() == Mode::Text) {
            self.line(&format!("{:8.1} s  {:8}  {text}", event.at.as_secs_f64(), name.unwrap_or("lab")));
        }
    }

    fn note(&mut self, node: usize, at: Duration, what: &What, text: &str, trouble: bool) {
        let Some(row) = self.rows.get_mut(node) else { return };
        if *what == What::Sight(Sight::Kernel) {
            // It started again: the earlier times are another boot's.
            *row = Row::default();
        }
        match COLUMNS.iter().position(|column| column == &text) {
            Some(column) => row.times[column] = Some(at),
            None => {
                text.clone_into(&mut row.last);
                row.trouble |= trouble;
            }
        }
        self.draw(node);
    }

    /// What a node is doing, for the table's last column.
    pub fn doing(&mut self, node: usize, text: &str) {
        if let Some(row) = self.rows.get_mut(node) {
            text.clone_into(&mut row.last);
        }
        self.draw(node);
    }

    /// A line above the table, or just a line.
    pub fn line(&self, text: &str) {
        match &self.table {
            // A terminal that went away is not our failure.
            Some(table) => drop(table.all.println(text)),
            None => self.reporter.note(text),
        }
    }

    fn draw(&self, node: usize) {
        let (Some(table), Some(row)) = (&self.table, self.rows.get(node)) else { return };
        if let Some(bar) = table.bars.get(node) {
            bar.set_message(row.text());
        }
    }

    /// Takes the table away.
    pub fn close(&mut self) {
        if let Some(table) = self.table.take() {
            table.head.finish_and_clear();
            table.bars.iter().for_each(ProgressBar::finish_and_clear);
            drop(table.all.clear());
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

impl Row {
    fn text(&self) -> String {
        let mut text = String::new();
        for time in self.times {
            text.push_str(&match time {
                Some(time) => format!("{:>10.0} s", time.as_secs_f64()),
                None => format!("{:>12}", "·"),
            });
        }
        let mark = if self.trouble { "✗ " } else { "" };
        format!("{text}   {mark}{}", self.last)
    }
}

impl Table {
    fn new(names: &[String]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        let head = all.add(ProgressBar::new_spinner());
        head.set_style(style("  {msg}"));
        let columns: String = COLUMNS.iter().map(|column| format!("{column:>12}")).collect();
        head.set_message(format!("{:8}{columns}", ""));
        let mut table = Self { all, head, bars: Vec::new() };
        names.iter().for_each(|name| table.add(name));
        table
    }

    fn add(&mut self, name: &str) {
        let bar = self.all.add(ProgressBar::new_spinner());
        bar.set_style(style("  {prefix:8}{msg}"));
        bar.set_prefix(name.to_owned());
        self.bars.push(bar);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fill_up_and_start_again_after_a_reboot() {
        let mut screen = Screen::new(&Reporter::new(Mode::Quiet), &["node-1".into()]);
        let mut show = |at: u64, sight| {
            let event = Event { at: Duration::from_secs(at), node: Some(0), what: What::Sight(sight) };
            screen.show(&event, Some("node-1"));
            screen.rows[0].text().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(show(1, Sight::Kernel), "1 s · · · ·");
        assert_eq!(show(9, Sight::Systemd), "1 s · 9 s · ·");
        assert_eq!(show(10, Sight::FailedUnit("x".into())), "1 s · 9 s · · ✗ failed unit: x");
        assert_eq!(show(50, Sight::Kernel), "50 s · · · ·");
    }
}
