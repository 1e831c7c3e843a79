//! The page: one file without scripts or anything from elsewhere, readable in light and dark and on paper.

use std::fmt::Write as _;

use super::{Assertion, Report, timeline};

const STYLE: &str = include_str!("page.css");

/// Text for HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// As [`escape`], with what stands between backquotes as code.
fn prose(text: &str) -> String {
    let parts = text.split('`').map(escape).enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part }).collect()
}

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut html = String::new();
    // Writing to a String cannot fail.
    let _ = render_into(&mut html, report);
    html
}

fn render_into(html: &mut String, report: &Report) -> std::fmt::Result {
    let name = report.image.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let (total, failed) = (report.assertions.len(), report.failed().count());
    let verdict = match (report.passed, &report.failure) {
        (true, _) => format!("All {total} assertions hold"),
        (false, Some(_)) => "Ended before its time".to_owned(),
        (false, None) => format!("{failed} of {total} assertions failed"),
    };
    let class = if report.passed { "good" } else { "bad" };
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{verdict}: {name}</title><style>{STYLE}</style></head>\n<body><main>\n\
         <header><p class=\"verdict {class}\">{verdict}</p><h1>{name}</h1></header>\n",
        name = escape(&name),
    )?;
    if let Some(failure) = &report.failure {
        writeln!(html, "<p class=\"failure\">{}</p>", escape(failure))?;
    }
    let facts = [
        ("Nodes", format!("{} on QEMU’s {}", report.nodes.len(), report.machine)),
        ("Kernel", report.kernel.clone()),
        ("QEMU", report.qemu.clone()),
        ("Began", report.started.clone()),
        ("Took", format!("{:.0} s", report.seconds)),
        ("SHA-256", report.sha256.clone()),
    ];
    html.push_str("<dl>");
    for (key, value) in facts {
        write!(html, "<div><dt>{key}</dt><dd>{}</dd></div>", escape(&value))?;
    }
    html.push_str("</dl>\n<h2>What each node did, and when</h2>\n");
    timeline::render(html, report)?;
    nodes(html, report)?;
    html.push_str("<h2>What was asserted</h2>\n");
    if failed > 0 {
        table(html, "failed", report.failed())?;
    }
    table(html, "held", report.assertions.iter().filter(|assertion| assertion.passed))?;
    write!(
        html,
        "<footer>Everything here as data: <a href=\"report.json\">report.json</a>. Every frame on the wire, port by port: \
         <a href=\"{capture}\">{capture}</a>.</footer>\n</main></body></html>\n",
        capture = escape(&report.capture)
    )
}

fn nodes(html: &mut String, report: &Report) -> std::fmt::Result {
    html.push_str(
        "<div class=\"scroll\"><table class=\"nodes\"><thead><tr><th>Node</th><th>MAC</th><th>Address</th>\
         <th class=\"number\">Frames sent</th><th class=\"number\">Frames received</th><th>Console</th></tr></thead><tbody>",
    );
    for node in &report.nodes {
        write!(
            html,
            "<tr><th scope=\"row\">{}</th><td><code>{}</code></td><td><code>{}</code></td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td><a href=\"{console}\">{console}</a></td></tr>",
            escape(&node.name),
            escape(&node.mac),
            escape(node.address.as_deref().unwrap_or("none")),
            node.frames_from,
            node.frames_to,
            console = escape(&node.console),
        )?;
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

fn table<'a>(html: &mut String, class: &str, rows: impl Iterator<Item = &'a Assertion>) -> std::fmt::Result {
    write!(
        html,
        "<div class=\"scroll\"><table class=\"assertions {class}\"><thead><tr><th></th><th>Assertion</th><th>Node</th>\
         <th>Seen</th><th class=\"number\">Seconds</th></tr></thead><tbody>"
    )?;
    for row in rows {
        let (mark, word) = if row.passed { ("✓", "passed") } else { ("✗", "failed") };
        write!(
            html,
            "<tr><td class=\"mark {class}\" aria-label=\"{word}\">{mark}</td><td><strong>{}</strong><br><span class=\"wanted\">{}</span></td>\
             <td class=\"node\">{}</td><td class=\"seen\">{}</td><td class=\"number\">{}</td></tr>",
            escape(&row.name),
            prose(&row.wanted),
            escape(row.node.as_deref().unwrap_or("lab")),
            escape(&row.seen),
            row.seconds.map_or_else(String::new, |seconds| format!("{seconds:.1}")),
        )?;
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}
