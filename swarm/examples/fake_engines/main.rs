//! Engines made of memory, on unix sockets: a hundred of them on a laptop, to see how the Swarm API bears it.
//!
//! `cargo run --release -p hcl-swarm --example fake_engines -- FOLDER ENGINES [CONTAINERS]` makes `FOLDER/node-1.sock` and so on with
//! CONTAINERS containers in all, prints `--engine node-1=unix://…` for each, ready for `hcl-swarm manage`, and runs until its
//! standard input ends or a signal comes. Containers can be made, listed, inspected, started, stopped, killed, renamed and removed, and
//! events tell of it; images can be pulled. Nothing runs in them. Everything else is answered 501.

mod answer;
mod engine;
mod events;

use std::{env, fs, io::Read as _, path::PathBuf, process::ExitCode, sync::Arc, thread};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixListener, sync::oneshot};

use self::engine::Engine;

fn main() -> ExitCode {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    let number = |index: usize| arguments.get(index).map_or(Some(0), |number| number.parse::<usize>().ok());
    let (Some(folder), Some(engines @ 1..), Some(containers)) = (arguments.first(), number(1), number(2)) else {
        eprintln!("usage: fake_engines FOLDER ENGINES [CONTAINERS]");
        return ExitCode::from(2);
    };
    match run(&PathBuf::from(folder), engines, containers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fake_engines: {folder}: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(folder: &PathBuf, engines: usize, containers: usize) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for number in 1..=engines {
        let name = format!("node-{number}");
        let socket = fs::canonicalize(folder)?.join(format!("{name}.sock"));
        // Of a run before this one.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&socket)?;
        let engine = Arc::new(Engine::new(&name));
        for made in (number - 1..containers).step_by(engines) {
            engine.fill(&format!("one-{made}"));
        }
        tokio::spawn(serve(listener, engine));
        println!("--engine {name}=unix://{}", socket.display());
    }
    let (ended, end) = oneshot::channel();
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    let _ = end.await;
    Ok(())
}

async fn serve(listener: UnixListener, engine: Arc<Engine>) {
    while let Ok((stream, _)) = listener.accept().await {
        let engine = Arc::clone(&engine);
        let service = service_fn(move |request| answer::answer(Arc::clone(&engine), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
