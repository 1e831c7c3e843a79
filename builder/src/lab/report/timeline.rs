//! The timeline: a band for each node from its first sign of life to its last, its milestones on it.

use std::fmt::Write as _;

use super::{NodeReport, Report, page::escape};

const WIDTH: f64 = 1040.0;
/// Left of the bands, for names.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
/// Of a band, and of one row of labels.
const BAND: f64 = 14.0;
const ROW: f64 = 15.0;
/// Mean width of a character at 11 px, generous.
const CHARACTER: f64 = 6.3;
/// Rows of labels below a band at most; the rest are told by their points alone (with a title).
const ROWS: usize = 12;
/// Longer labels are cut; the point's title has the whole.
const LONGEST: usize = 44;

/// Draws all nodes.
pub fn render(html: &mut String, report: &Report) -> std::fmt::Result {
    let end = report.nodes.iter().flat_map(|node| &node.milestones).map(|milestone| milestone.at).fold(1.0, f64::max);
    let step = tick_step(end);
    let scale = Scale { end: (end / step).ceil() * step };
    let laid: Vec<_> = report.nodes.iter().map(|node| lay(node, &scale)).collect();
    let heights: Vec<f64> = laid.iter().map(|labels| band_height(labels)).collect();
    let height = 28.0 + heights.iter().sum::<f64>();
    write!(
        html,
        "<div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"Timeline of the nodes\">"
    )?;
    let mut tick = 0.0;
    while tick <= scale.end + 0.001 {
        let x = scale.x(tick);
        write!(
            html,
            "<line class=\"axis\" x1=\"{x:.1}\" y1=\"20\" x2=\"{x:.1}\" y2=\"{height:.0}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"13\" text-anchor=\"middle\">{tick:.0} s</text>"
        )?;
        tick += step;
    }
    let mut top = 28.0;
    for ((node, labels), height) in report.nodes.iter().zip(&laid).zip(&heights) {
        band(html, node, labels, &scale, top)?;
        top += height;
    }
    html.push_str("</svg></div>\n");
    Ok(())
}

fn band(html: &mut String, node: &NodeReport, labels: &[Label<'_>], scale: &Scale, top: f64) -> std::fmt::Result {
    let ends = node.milestones.iter().fold((f64::MAX, 0.0_f64), |(first, last), point| (first.min(point.at), last.max(point.at)));
    write!(html, "<text class=\"name\" x=\"0\" y=\"{:.1}\">{}</text>", top + BAND - 3.0, escape(&node.name))?;
    if node.milestones.is_empty() {
        return write!(html, "<text class=\"tick\" x=\"{LEFT}\" y=\"{:.1}\">said nothing</text>", top + BAND - 3.0);
    }
    let (from, to) = (scale.x(ends.0), scale.x(ends.1));
    write!(
        html,
        "<rect class=\"life\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAND}\" rx=\"4\"/>",
        (to - from).max(2.0)
    )?;
    // Lines first, so that no line crosses a text.
    for label in labels {
        if let Some(row) = label.row {
            let y = top + BAND + 4.0 + ROW * row as f64 + ROW / 2.0;
            let x = label.point;
            write!(html, "<path class=\"leader\" d=\"M{x:.1} {:.1}V{y:.1}H{:.1}\"/>", top + BAND, label.text_start())?;
        }
    }
    for label in labels {
        let class = if label.trouble { " trouble" } else { "" };
        if let Some(row) = label.row {
            let y = top + BAND + 4.0 + ROW * row as f64 + ROW / 2.0 + 4.0;
            let anchor = if label.leftwards { "end" } else { "start" };
            write!(
                html,
                "<text class=\"label{class}\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
                label.text_start(),
                escape(&label.text)
            )?;
        }
        write!(
            html,
            "<circle class=\"point{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{}: {:.1} s</title></circle>",
            label.point,
            top + BAND / 2.0,
            escape(label.whole),
            label.at
        )?;
    }
    Ok(())
}

struct Scale {
    end: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.end
    }
}

struct Label<'a> {
    at: f64,
    point: f64,
    text: String,
    whole: &'a str,
    trouble: bool,
    leftwards: bool,
    row: Option<usize>,
}

impl Label<'_> {
    fn text_start(&self) -> f64 {
        if self.leftwards { self.point - 7.0 } else { self.point + 7.0 }
    }

    /// From where to where its text reaches; its line runs beside it.
    fn extent(&self) -> (f64, f64) {
        let width = self.text.chars().count() as f64 * CHARACTER + 12.0;
        if self.leftwards { (self.point - width, self.point - 4.0) } else { (self.point + 4.0, self.point + width) }
    }
}

/// Gives each milestone the first row in which its text, and its line in the rows above, cross nothing.
fn lay<'a>(node: &'a NodeReport, scale: &Scale) -> Vec<Label<'a>> {
    let mut labels: Vec<Label<'a>> = node
        .milestones
        .iter()
        .map(|milestone| {
            let point = scale.x(milestone.at);
            let cut = milestone.label.char_indices().nth(LONGEST).map(|(at, _)| at);
            let short = cut.map_or_else(|| milestone.label.clone(), |at| format!("{}…", &milestone.label[..at]));
            let text = format!("{short} {:.0} s", milestone.at);
            let width = text.chars().count() as f64 * CHARACTER + 12.0;
            Label {
                at: milestone.at,
                point,
                text,
                whole: &milestone.label,
                trouble: milestone.trouble,
                leftwards: point + width > WIDTH,
                row: None,
            }
        })
        .collect();
    let mut order: Vec<usize> = (0..labels.len()).collect();
    // From the right: each line then goes down left of all texts that are there already.
    order.sort_by(|a, b| labels[*b].point.total_cmp(&labels[*a].point));
    for index in order {
        let (from, to) = labels[index].extent();
        let point = labels[index].point;
        let free = |row: usize| {
            labels.iter().enumerate().filter(|(other, _)| *other != index).all(|(_, other)| {
                let Some(taken) = other.row else { return true };
                let (start, end) = other.extent();
                let texts = taken != row || to < start || from > end;
                // My line passes the rows above mine, the other's line those above its own.
                let mine = taken >= row || point < start || point > end;
                let theirs = row >= taken || other.point < from || other.point > to;
                texts && mine && theirs
            })
        };
        labels[index].row = (0..ROWS).find(|row| free(*row));
    }
    labels
}

fn band_height(labels: &[Label<'_>]) -> f64 {
    let rows = labels.iter().filter_map(|label| label.row).max().map_or(0, |row| row + 1);
    BAND + 4.0 + rows as f64 * ROW + 16.0
}

/// Seconds between ticks: 1, 2, 5, 10, … so that there are at most ten.
fn tick_step(end: f64) -> f64 {
    let mut step = 1.0;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
        if end / step <= 10.0 {
            break;
        }
        step *= factor;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks() {
        for (end, step) in [(0.5, 1.0), (10.0, 1.0), (11.0, 2.0), (45.0, 5.0), (123.0, 20.0), (1900.0, 200.0)] {
            assert_eq!(tick_step(end), step, "{end}");
        }
    }

    #[test]
    fn texts_do_not_cross() {
        let report = crate::lab::report::example();
        let scale = Scale { end: 100.0 };
        for node in &report.nodes {
            let labels = lay(node, &scale);
            assert!(labels.iter().all(|label| label.row.is_some()));
            for (a, first) in labels.iter().enumerate() {
                for second in &labels[a + 1..] {
                    let apart = first.extent().1 < second.extent().0 || second.extent().1 < first.extent().0;
                    assert!(first.row != second.row || apart, "{} and {}", first.text, second.text);
                }
            }
        }
    }
}
