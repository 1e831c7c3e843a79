//! `hcl poweroff --all` and `hcl reboot --all`.

use std::{fmt::Display, process::ExitCode};

use super::fail;
use crate::{
    driver::Options,
    services::orders::{
        Order,
        local::{self, Unheard},
    },
};

/// Has all nodes obey `order`; a line for each node goes to `say` as it comes.
pub(super) fn give(options: &Options, order: Order, timeout_s: u64, say: impl Fn(&dyn Display)) -> ExitCode {
    let mut left = Vec::new();
    let heard = local::ask(&options.run_dir, order, timeout_s, |text| {
        say(&format_args!("{}: {}", text.node, text.text));
        if !text.accepted {
            left.push(text.node);
        }
    });
    match heard {
        Ok(()) if left.is_empty() => ExitCode::SUCCESS,
        Ok(()) => fail(1, format_args!("these nodes have not accepted, {order} them yourself: {}", left.join(", "))),
        Err(Unheard::NotRunning) => fail(
            3,
            format_args!(
                "hcl-cluster is not running, nothing was ordered: `sudo hcl start` starts it; `sudo {order}` is for this node alone"
            ),
        ),
        Err(Unheard::Refused(why)) => fail(1, format_args!("nothing was ordered: {why}")),
        Err(Unheard::Broken(error)) => fail(
            1,
            format_args!(
                "hcl-cluster went away in the middle ({error}): nodes named above obey; `journalctl -u hcl-cluster` has the rest"
            ),
        ),
    }
}
