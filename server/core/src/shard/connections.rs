//! The open connections. Their number is bounded, and at the bound idle ones make room, the one
//! that has been idle for longest first.
//!
//! A connection is idle while its client waits for nothing: it has no calls, or has not sent what
//! they need.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::grpc::budget::Account;

/// All open connections.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    table: Mutex<Table>,
    /// The time from which times are counted.
    start: Instant,
}

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<u64, Arc<State>>,
    next: u64,
}

#[derive(Debug)]
struct State {
    /// The time at which the connection's last call began, or the connection itself, in
    /// microseconds from `Connections::start`.
    active: AtomicU64,
    account: Arc<Account>,
    evicted: Notify,
}

/// An open connection, which has its place until this is dropped.
#[derive(Debug)]
pub struct Open {
    connections: Arc<Connections>,
    number: u64,
    since: Instant,
    state: Arc<State>,
}

/// The place of a new connection.
#[derive(Debug)]
pub enum Place {
    /// A place that was free.
    Free(Open),
    /// A place for which an idle connection has been told to make room.
    OfIdle(Open),
    /// No place, because all open connections have work.
    None,
}

impl Connections {
    /// A table with room for `limit` connections.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, table: Mutex::default(), start: Instant::now() })
    }

    /// The most connections that may be open.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A place for one more connection.
    pub fn open(self: &Arc<Self>, account: Arc<Account>) -> Place {
        let mut table = self.lock();
        let is_full = table.open.len() >= self.limit;
        if is_full && !table.evict_one() {
            return Place::None;
        }
        let since = Instant::now();
        let number = table.next;
        table.next += 1;
        let state = Arc::new(State {
            active: AtomicU64::new(self.time(since)),
            account,
            evicted: Notify::new(),
        });
        table.open.insert(number, state.clone());
        let open = Open { connections: self.clone(), number, since, state };
        if is_full { Place::OfIdle(open) } else { Place::Free(open) }
    }

    fn time(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_micros() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Has the connection end that has been idle for the longest time. Returns whether one was
    /// idle.
    fn evict_one(&mut self) -> bool {
        let idle = self.open.iter().filter(|(_, state)| !state.account.has_work());
        let oldest = idle.min_by_key(|(_, state)| state.active.load(Relaxed));
        let Some(number) = oldest.map(|(number, _)| *number) else { return false };
        if let Some(state) = self.open.remove(&number) {
            state.evicted.notify_one();
        }
        true
    }
}

impl Open {
    /// The time at which the connection was accepted.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Notes that a call of the connection has begun.
    pub fn called(&self, now: Instant) {
        self.state.active.store(self.connections.time(now), Relaxed);
    }

    /// The account of what the connection's messages hold.
    pub fn account(&self) -> &Arc<Account> {
        &self.state.account
    }

    /// Waits until the connection is to make room.
    pub async fn evicted(&self) {
        self.state.evicted.notified().await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::grpc::budget::{Budget, Held};

    fn open(connections: &Arc<Connections>) -> Open {
        match place(connections) {
            Place::Free(open) | Place::OfIdle(open) => open,
            Place::None => panic!("expected a place"),
        }
    }

    fn place(connections: &Arc<Connections>) -> Place {
        connections.open(Budget::new(1000, Duration::from_secs(1)).account())
    }

    /// Gives a connection work until the result is dropped.
    fn work(open: &Open) -> Held {
        let mut held = open.account().hold();
        held.work();
        held
    }

    #[test]
    fn the_connection_that_is_idle_for_longest_makes_room() {
        let connections = Connections::new(3);
        let [first, second, third] = [0; 3].map(|_| open(&connections));
        let works = work(&first);
        let later = Instant::now() + Duration::from_secs(1);
        second.called(later);
        let _fourth = open(&connections);
        assert!(third.evicted().now_or_never().is_some());
        assert!(first.evicted().now_or_never().is_none());
        assert!(second.evicted().now_or_never().is_none());
        drop(works);
        let _fifth = open(&connections);
        assert!(first.evicted().now_or_never().is_some());
    }

    #[test]
    fn none_finds_a_place_where_all_have_work_until_one_is_closed() {
        let connections = Connections::new(2);
        let [first, second] = [0; 2].map(|_| open(&connections));
        let _work = [work(&first), work(&second)];
        assert!(matches!(place(&connections), Place::None));
        drop(second);
        assert!(matches!(place(&connections), Place::Free(_)));
    }

    #[test]
    fn who_has_made_room_gives_no_more_when_it_closes() {
        let connections = Connections::new(1);
        let first = open(&connections);
        let second = open(&connections);
        let _work = work(&second);
        drop(first);
        assert!(matches!(place(&connections), Place::None));
    }
}
