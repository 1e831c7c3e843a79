//! How this machine reaches a lab: its page and its Swarm API, on ports of 127.0.0.1 that follow the leader.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::{
    Lab,
    guide::{Doors, Finding, Guide, PAGE, SWARM},
    proxy::Proxy,
};
use crate::{error::one_line, progress::Reporter};

/// The ports, and who stands behind them.
#[derive(Debug)]
pub struct Reach {
    guide: Guide,
    page: Option<Proxy>,
    swarm: Option<Proxy>,
    /// By node; kept while a node is off, since it comes back with its address.
    doors: Vec<Option<Doors>>,
    /// The node that connections go to, and whether it leads.
    here: Option<(usize, bool)>,
    answers: bool,
}

impl Reach {
    /// For a lab that has formed with `nodes` nodes.
    ///
    /// # Errors
    ///
    /// The system starts no thread.
    pub fn new(nodes: usize) -> anyhow::Result<Self> {
        let guide = Guide::start(nodes)?;
        Ok(Self { guide, page: None, swarm: None, doors: Vec::new(), here: None, answers: false })
    }

    /// A node has an address on the home LAN. The line to be shown, where there is one.
    ///
    /// # Errors
    ///
    /// The router refused, or no port can be had.
    pub fn addressed(&mut self, lab: &mut Lab, node: usize) -> anyhow::Result<Option<String>> {
        let doors = Doors { page: lab.forward(node, PAGE)?, swarm: lab.forward(node, SWARM)? };
        self.doors.resize(self.doors.len().max(node + 1), None);
        self.doors[node] = Some(doors);
        self.guide.reached(node, doors);
        if self.page.is_some() {
            // A node that got another address is reached elsewhere now.
            self.point();
            return Ok(None);
        }
        let page = self.page.insert(Proxy::listen(PAGE).context("opening a port for the page")?);
        let taken = if page.port() == PAGE { String::new() } else { format!("; port {PAGE} is taken") };
        Ok(Some(format!("page: {} (once a node answers{taken})", page_url(page))))
    }

    /// A node was switched off.
    pub fn gone(&self, node: usize) {
        self.guide.gone(node);
    }

    /// A node was switched on, perhaps again.
    pub fn back(&self, node: usize) {
        if let Some(Some(doors)) = self.doors.get(node) {
            self.guide.reached(node, *doors);
        }
    }

    /// Points the ports to where they belong now. `at` is the lab's time; `say` is given the lines to be shown. Whether all nodes have
    /// formed a cluster since the last time.
    pub fn follow(&mut self, at: Duration, reporter: &Reporter, mut say: impl FnMut(&str)) -> bool {
        let mut formed = false;
        let seconds = at.as_secs_f64();
        while let Some(finding) = self.guide.next() {
            match finding {
                Finding::Page => {
                    let url = self.page.as_ref().map(page_url).unwrap_or_default();
                    self.answers = true;
                    say(&format!("page: {url} answers after {seconds:.1} s"));
                    reporter.emit(&json!({"event": "page", "url": url, "seconds": seconds}));
                }
                Finding::Here { node, leads } => {
                    self.here = Some((node, leads));
                    self.point();
                    if leads {
                        say(&format!("node-{} leads", node + 1));
                        reporter.emit(&json!({"event": "leader", "node": format!("node-{}", node + 1), "seconds": seconds}));
                    }
                }
                Finding::Swarm => match Proxy::listen(SWARM) {
                    Ok(proxy) => {
                        let url = format!("tcp://127.0.0.1:{}", proxy.port());
                        say(&format!("Swarm API: {url}"));
                        reporter.emit(&json!({"event": "swarm", "url": url, "seconds": seconds}));
                        self.swarm = Some(proxy);
                        self.point();
                    }
                    Err(error) => say(&format!("no port for the Swarm API: {}", one_line(&error))),
                },
                Finding::Formed => {
                    formed = true;
                    say(&format!("formed: all nodes are in and well after {seconds:.1} s"));
                    reporter.emit(&json!({"event": "formed", "seconds": seconds}));
                }
            }
        }
        formed
    }

    fn point(&self) {
        let doors = self.here.and_then(|(node, _)| *self.doors.get(node)?);
        for (proxy, port) in [(&self.page, doors.map(|doors| doors.page)), (&self.swarm, doors.map(|doors| doors.swarm))] {
            if let Some(proxy) = proxy {
                proxy.point(port);
            }
        }
    }

    /// The lab as it is, a line a node and one for each port.
    pub fn status(&self, lab: &Lab) -> String {
        let mut lines = Vec::new();
        for (index, node) in lab.nodes().take(lab.used()).enumerate() {
            let leads = if self.here == Some((index, true)) { ", leads" } else { "" };
            lines.push(match (lab.is_on(index), lab.address(index)) {
                (false, _) => format!("{}  off", node.name),
                (true, None) => format!("{}  on, no address yet", node.name),
                (true, Some(address)) => format!("{}  on, {address}{leads}", node.name),
            });
        }
        if let Some(page) = &self.page {
            lines.push(format!("page    {}{}", page_url(page), if self.answers { "" } else { " (does not answer yet)" }));
        }
        if let Some(swarm) = &self.swarm {
            lines.push(format!("swarm   tcp://127.0.0.1:{}", swarm.port()));
        }
        lines.join("\n")
    }
}

fn page_url(page: &Proxy) -> String {
    format!("http://127.0.0.1:{}", page.port())
}
