//! The heartbeat, which looks whether the shards turn: a shard that hangs answers nobody, and
//! cannot say so itself.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use crate::server::acceptor::Control;
use crate::shard::handle::Handle;

/// Time between two checks that every shard turns.
const BEAT: Duration = Duration::from_secs(1);
/// Checks that a shard may miss before the server is not ready. They are counted by this thread's
/// own turns, because no shard hangs where the whole process stands still.
const PATIENCE: u32 = 5;

/// Has the shards answer, again and again. A server with a shard that does not answer is not ready.
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
                        "a shard does not turn: a run in its event loop takes long, and its callers wait"
                    ),
                    false => tracing::warn!(shard = number, "a shard turns again"),
                }
            }
        }
        control.state.catalog.set_stuck(stuck > 0);
    }
}
