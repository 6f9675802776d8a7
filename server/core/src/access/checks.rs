//! The bound on checks of new credentials. A signature takes so long to check that the checks of one
//! client's calls in a row would hold up a shard's other clients.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Semaphore;
use tokio::task::{spawn_local, yield_now};

/// The most checks that a shard makes in a turn of its loop.
const A_TURN: usize = 8;

/// The room for checks of new credentials in this turn of a shard's loop.
#[derive(Debug)]
pub struct Checks {
    room: Semaphore,
    /// Whether checks have been made in this turn: the next one has room for as many again.
    are_counted: Cell<bool>,
}

impl Default for Checks {
    fn default() -> Self {
        Self { room: Semaphore::new(A_TURN), are_counted: Cell::default() }
    }
}

impl Checks {
    /// Waits for room for one check. Room goes to connections in the order in which they have asked.
    /// The caller asks for one check of a connection at a time.
    pub async fn room(self: &Rc<Self>) {
        let Ok(room) = self.room.acquire().await else { return };
        room.forget();
        if !self.are_counted.replace(true) {
            let checks = self.clone();
            spawn_local(async move {
                yield_now().await;
                checks.are_counted.set(false);
                checks.room.add_permits(A_TURN.saturating_sub(checks.room.available_permits()));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    /// The turns of the loop in which the checks of connections are made, which ask for so many each.
    fn turns(asked: &[usize]) -> Vec<Vec<usize>> {
        let (checks, turn) = (Rc::<Checks>::default(), Rc::<Cell<usize>>::default());
        let made = Rc::new(RefCell::new(vec![Vec::new(); asked.len()]));
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default());
        runtime.expect("a runtime").block_on(async {
            let connections: Vec<_> = asked
                .iter()
                .enumerate()
                .map(|(number, asked)| {
                    let (checks, turn, made, asked) =
                        (checks.clone(), turn.clone(), made.clone(), *asked);
                    spawn_local(async move {
                        for _ in 0..asked {
                            checks.room().await;
                            made.borrow_mut()[number].push(turn.get());
                        }
                    })
                })
                .collect();
            while !connections.iter().all(|connection| connection.is_finished()) {
                turn.set(turn.get() + 1);
                yield_now().await;
            }
        });
        made.take()
    }

    #[test]
    fn a_turn_of_the_loop_has_few_checks() {
        let [one] = &turns(&[1000])[..] else { panic!("expected one connection") };
        for turn in 0..*one.last().expect("a turn") {
            assert!(one.iter().filter(|made| **made == turn).count() <= A_TURN, "{one:?}");
        }
        assert_eq!(one.len(), 1000);
    }

    #[test]
    fn a_connection_with_one_check_does_not_wait_for_those_with_many() {
        let made = turns(&[1000, 1000, 1000, 1]);
        let [.., few] = &made[..] else { panic!("expected connections") };
        assert!(few[0] <= 2, "{few:?}");
        // Nor do those with many wait for each other: each has one in every turn.
        let each = made.iter().all(|turns| turns.windows(2).all(|pair| pair[1] - pair[0] <= 1));
        assert!(each, "{made:?}");
    }
}
