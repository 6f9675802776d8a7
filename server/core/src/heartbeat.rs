//! Looks whether the shards turn: one that hangs answers nobody, and cannot say so itself.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::listen::Control;

/// How often a shard is to show that it turns ...
const BEAT: Duration = Duration::from_secs(1);
/// ... and how long it may take to, before the server is not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has the shards answer, again and again; a server whose shard does not is not ready.
pub async fn watch(control: Rc<Control>) {
    let mut asked = vec![Instant::now(); control.shards.len()];
    loop {
        for (shard, asked) in control.shards.iter().zip(&mut asked) {
            if shard.has_turned() {
                shard.turn();
                *asked = Instant::now();
            }
        }
        sleep(BEAT).await;
        let mut stuck = 0;
        for (number, (shard, asked)) in control.shards.iter().zip(&asked).enumerate() {
            let is_stuck = !shard.has_turned() && asked.elapsed() >= PATIENCE;
            stuck += usize::from(is_stuck);
            if shard.set_stuck(is_stuck) != is_stuck {
                match is_stuck {
                    true => tracing::error!(
                        shard = number,
                        "it does not turn: a run in its loop takes long, and whoever it serves waits"
                    ),
                    false => tracing::warn!(shard = number, "it turns again"),
                }
            }
        }
        control.shared.catalog.set_stuck(stuck > 0);
    }
}
