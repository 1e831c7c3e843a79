//! `hcl-image lab`.

use anyhow::bail;

use crate::{
    lab::{control::Remote, order::HELP},
    progress::{Mode, Reporter},
};

/// Arguments of `lab`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Orders are those that can be typed where `hcl-image up` runs; `hcl-image lab help` lists them.

Examples:
  hcl-image lab                  # which labs run, and how they are
  hcl-image lab add              # a fourth node
  hcl-image lab pull 2           # its power is cut
  hcl-image lab on 2
  hcl-image lab --lab Xy12ab cut 1")]
pub struct Args {
    /// Which lab, where more than one runs
    #[arg(long, value_name = "NAME")]
    pub lab: Option<String>,
    /// The order; without one, the status of all labs
    #[arg(value_name = "ORDER")]
    pub order: Vec<String>,
}

/// Runs `lab`.
///
/// # Errors
///
/// No lab runs, or it refuses the order.
pub fn run(args: &Args, reporter: &Reporter) -> anyhow::Result<()> {
    if args.order.is_empty() && args.lab.is_none() {
        let labs = Remote::all()?;
        if labs.is_empty() {
            reporter.note("no lab runs here: start one with `hcl-image up`");
        }
        for mut lab in labs {
            if reporter.mode() == Mode::Text {
                println!("lab {}", lab.name);
            }
            order(&mut lab, "status", reporter)?;
        }
        return Ok(());
    }
    if args.order == ["help"] {
        println!("{HELP}");
        return Ok(());
    }
    let line = if args.order.is_empty() { "status".to_owned() } else { args.order.join(" ") };
    order(&mut Remote::find(args.lab.as_deref())?, &line, reporter)
}

fn order(lab: &mut Remote, line: &str, reporter: &Reporter) -> anyhow::Result<()> {
    let answer = lab.order(line)?;
    reporter.emit(&serde_json::json!({
        "event": "order", "lab": lab.name, "line": line, "ok": answer.ok, "answer": answer.answer
    }));
    if !answer.ok {
        bail!("{}", answer.answer);
    }
    if reporter.mode() != Mode::Json {
        println!("{}", answer.answer);
    }
    Ok(())
}
