//! Looks whether the shards turn: one that hangs answers nobody, and cannot say so itself.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use crate::server::acceptor::Control;
use crate::shard::handle::Handle;

/// How often a shard is to show that it turns ...
const BEAT: Duration = Duration::from_secs(1);
/// ... and how many times this thread turns meanwhile, before the server is not ready: where the whole
/// process stands still, nobody hangs.
const PATIENCE: u32 = 5;

/// Has the shards answer, again and again; a server whose shard does not is not ready.
pub async fn watch(control: Rc<Control>) {
    let mut missed = vec![0; control.shards.len()];
    loop {
        control.shards.iter().filter(|shard| shard.has_turned()).for_each(Handle::turn);
        sleep(BEAT).await;
        let mut stuck = 0;
        for (number, (shard, missed)) in control.shards.iter().zip(&mut missed).enumerate() {
            *missed = if shard.has_turned() { 0 } else { *missed + 1 };
            let is_stuck = *missed >= PATIENCE;
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
        control.state.catalog.set_stuck(stuck > 0);
    }
}
