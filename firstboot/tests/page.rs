//! The page in a real browser, headless Chromium, beside real Consul agents.
//!
//! Pictures of what it looked like are left in `target/tmp/page-*.png`. A judge that is not installed fails its test.

#![cfg(target_os = "linux")]

#[path = "page/agents.rs"]
mod agents;
#[path = "page/axe.rs"]
mod axe;
#[path = "page/browser.rs"]
mod browser;
#[path = "page/departure.rs"]
mod departure;
#[path = "page/example.rs"]
mod example;
#[path = "page/looks.rs"]
mod looks;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    http::{Client, Limits, Server},
    page::Page,
    view::View,
};

/// How long anything may take that should happen at once, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until `there` sees what it looks for, and returns that.
#[track_caller]
fn wait<T>(limit: Duration, what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < until, "not within {} s: {what}", limit.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// A page that is served at `address`; `socket` leads to its Consul.
fn serve(address: SocketAddr, socket: &Path) -> (Server, Arc<Page>) {
    let page = Arc::new(Page::new("lab", "node-a", Client::unix(socket)));
    let handler = Arc::clone(&page);
    let server = Server::bind(address, Limits::default(), move |request| handler.answer(request)).unwrap();
    (server, page)
}

/// The browser asked for the page and its figures, and nobody else for anything.
#[track_caller]
fn assert_only_here(browser: &mut browser::Browser, address: &str) {
    let requests = browser.requests();
    assert!(requests.len() >= 4, "page, style, script and figures: {requests:?}");
    for url in requests {
        assert!(url.starts_with(&format!("http://{address}/")), "{url}");
    }
}

/// What the supervisor does: looks, and shows, again and again until it is dropped.
struct Feeder {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Feeder {
    fn start(page: Arc<Page>, look: impl Fn() -> Result<View, String> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match look() {
                    Ok(view) => page.show(view),
                    Err(error) => eprintln!("{error}"),
                }
                thread::sleep(Duration::from_millis(500));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}
