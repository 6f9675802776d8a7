//! The memory budget: bytes that clients' messages hold, bounded for all connections together and
//! for each one, and not held for ever.
//!
//! A message counts from its first byte to the last byte of its answer. While the client is waited
//! for, to send the rest or to take the answer, time is counted as well.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::lifecycle::Counted;

/// Ticks of an account's clock in the longest time that its client may keep a message waiting.
const TICKS: u32 = 4;
/// The most streams that a connection may have open, watches among them. Each holds memory though
/// nothing is sent on it, and nothing ends it.
const STREAMS: usize = 256;
/// The most bytes of a small message, which may go over the limits by the reserve.
const LITTLE: usize = 64 << 10;
/// Divides the budget's limit into the reserve: the bytes by which small messages may go over the
/// limits, so that they are answered though large ones fill the budget.
const RESERVE: usize = 4;
/// Slots in which waits are counted, by the tick in which they began. There are more of them than
/// ticks after which a wait is found out.
const SLOTS: usize = 8;

/// The bytes that all messages hold together, and their limit.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
    patience: Duration,
}

impl Budget {
    /// A budget of `limit` bytes. `patience` is the longest time for which a client may keep a
    /// message half sent or an answer untaken.
    pub fn new(limit: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit, patience })
    }

    /// The account of one more connection.
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        Arc::new(Account {
            budget: self.clone(),
            used: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            work: AtomicUsize::new(0),
            now: AtomicU32::new(0),
            waits: Default::default(),
        })
    }

    /// The most bytes that one connection may hold: half of all, so that its flood leaves the
    /// others room.
    pub fn share(&self) -> usize {
        self.limit / 2
    }

    /// The most bytes that all connections may hold together.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The longest time for which a client may keep a message waiting.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The bytes that all connections hold now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

/// The account of one connection: the bytes that its messages hold, and its clock.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    used: AtomicUsize,
    streams: AtomicUsize,
    /// Messages that are whole and not answered yet.
    work: AtomicUsize,
    /// The account's clock, in ticks.
    now: AtomicU32,
    /// The number of messages that wait for the client, by the tick in which the wait began.
    waits: [AtomicU32; SLOTS],
}

impl Account {
    /// Begins to hold room for a message, of no bytes yet.
    pub fn hold(self: &Arc<Self>) -> Held {
        Held { account: self.clone(), bytes: 0, slot: None, works: false, pending: None }
    }

    /// Opens one more stream; an error where the connection has as many as it may have.
    pub fn open_stream(self: &Arc<Self>) -> Result<OpenStream> {
        let open = OpenStream(self.clone());
        match self.streams.fetch_add(1, Relaxed) {
            ..STREAMS => Ok(open),
            _ => Err(Error::TooManyStreams { limit: STREAMS }),
        }
    }

    /// Whether over half of the connection's share is free, and over half of the whole budget.
    pub fn has_room(&self) -> bool {
        let budget = &self.budget;
        self.used.load(Relaxed) < budget.share() / 2 && budget.used() < budget.limit / 2
    }

    /// Whether a message has come whole and its answer has not left, so that the client waits for
    /// the server.
    pub fn has_work(&self) -> bool {
        self.work.load(Relaxed) > 0
    }

    /// Time between ticks.
    pub fn tick_time(&self) -> Duration {
        self.budget.patience / TICKS
    }

    /// Counts one more tick. Returns whether the client has kept a message waiting for too long.
    pub fn tick(&self) -> bool {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        now > TICKS && self.waits[slot(now - TICKS - 1)].load(Relaxed) > 0
    }
}

/// An open stream of a connection, counted until this is dropped.
#[derive(Debug)]
pub struct OpenStream(Arc<Account>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

fn slot(tick: u32) -> usize {
    tick as usize % SLOTS
}

/// The room in the budget that one message and its answer hold, until this is dropped.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: usize,
    /// The slot in which the message's wait for the client is counted; none while nothing waits.
    slot: Option<usize>,
    /// Whether the message has come whole.
    works: bool,
    /// The call that the message belongs to, which counts as answered when this is dropped.
    pending: Option<Counted>,
}

impl Held {
    /// Counts a call as pending with this room, until the room is given back when its answer has
    /// left.
    pub fn of_call(mut self, pending: Counted) -> Self {
        self.pending = Some(pending);
        self
    }

    /// Takes room for so many more bytes; an error where there is no room. The bytes are counted
    /// even then, until this is dropped.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        let Account { budget, used, .. } = &*self.account;
        self.bytes += bytes;
        let own = used.fetch_add(bytes, Relaxed) + bytes;
        let all = budget.used.fetch_add(bytes, Relaxed) + bytes;
        let reserve = if self.bytes <= LITTLE { budget.limit / RESERVE } else { 0 };
        if own > budget.share() + reserve || all > budget.limit + reserve {
            return Err(Error::NoMemory { limit: budget.limit });
        }
        Ok(())
    }

    /// The account of the connection.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The bytes that this holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes room for so many more bytes of a message that has come whole. A message that would
    /// find no room in any try, because it takes more than a connection's share, has an error of
    /// its own.
    pub fn unfold(&mut self, bytes: usize) -> Result<()> {
        let (found, limit) = (self.bytes + bytes, self.account.budget.share());
        if found > limit {
            return Err(Error::DecodedTooLarge { found, limit });
        }
        self.grow(bytes)
    }

    /// Begins to hold more room for the same connection, of no bytes yet.
    pub fn beside(&self) -> Self {
        self.account.hold()
    }

    /// Moves so many of the bytes to a room of their own.
    pub fn split(&mut self, bytes: usize) -> Self {
        let mut given = self.beside();
        self.bytes -= bytes;
        given.bytes = bytes;
        given
    }

    /// Holds from now on the bytes that another room of the same connection has held.
    pub fn join(&mut self, mut other: Self) {
        self.bytes += mem::take(&mut other.bytes);
    }

    /// Begins to count time, because the client is waited for.
    pub fn wait(&mut self) {
        if self.slot.is_none() {
            let slot = slot(self.account.now.load(Relaxed));
            self.account.waits[slot].fetch_add(1, Relaxed);
            self.slot = Some(slot);
        }
    }

    /// Stops counting time: the client has done its part.
    pub fn go_on(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.account.waits[slot].fetch_sub(1, Relaxed);
        }
    }

    /// Notes that the message has come whole: until this is dropped, the client waits for the
    /// server.
    pub fn work(&mut self) {
        if !mem::replace(&mut self.works, true) {
            self.account.work.fetch_add(1, Relaxed);
        }
    }

    /// Holds so many bytes from now on, whatever was held before. Nothing is refused here, because
    /// answers are how room is made.
    pub fn resize(&mut self, bytes: usize) {
        let Account { budget, used, .. } = &*self.account;
        let difference = bytes.wrapping_sub(self.bytes);
        used.fetch_add(difference, Relaxed);
        budget.used.fetch_add(difference, Relaxed);
        self.bytes = bytes;
    }

    /// The bytes of an answer, which hold their room until the client has taken them.
    pub fn reply(mut self, message: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        self.resize(message.as_ref().len());
        self.work();
        self.wait();
        Bytes::from_owner(HeldBytes { message, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.go_on();
        self.resize(0);
        if self.works {
            self.account.work.fetch_sub(1, Relaxed);
        }
    }
}

/// The memory of an answer, with its room in the budget.
struct HeldBytes<T> {
    message: T,
    _held: Held,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for HeldBytes<T> {
    fn as_ref(&self) -> &[u8] {
        self.message.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_given_back_when_the_answer_has_left() {
        let budget = Budget::new(1000, Duration::from_secs(1));
        let account = budget.account();
        let mut held = account.hold();
        held.grow(300).expect("room");
        assert_eq!(budget.used(), 300);
        let answer = held.reply(vec![7; 40]);
        assert_eq!((budget.used(), answer.len()), (40, 40));
        drop(answer.clone());
        assert_eq!(budget.used(), 40);
        drop(answer);
        assert_eq!((budget.used(), account.used.load(Relaxed)), (0, 0));
    }

    #[test]
    fn there_is_work_from_a_whole_message_to_its_answer_s_end() {
        let account = Budget::new(1000, Duration::from_secs(1)).account();
        let mut held = account.hold();
        held.wait();
        assert!(!account.has_work(), "it is the client who is waited for");
        held.go_on();
        held.work();
        let answer = held.reply("taken");
        assert!(account.has_work());
        drop(answer);
        assert!(!account.has_work());
    }

    #[test]
    fn one_connection_leaves_room_for_others() {
        let mebibyte = 1 << 20;
        let budget = Budget::new(mebibyte, Duration::from_secs(1));
        let full = Err(Error::NoMemory { limit: mebibyte });
        let large = LITTLE + 1;
        let (greedy, modest) = (budget.account(), budget.account());
        let mut much = greedy.hold();
        much.grow(mebibyte / 2).expect("its share");
        assert_eq!(greedy.hold().grow(large), full);
        let mut rest = modest.hold();
        rest.grow(mebibyte / 2).expect("the rest");
        assert_eq!(budget.account().hold().grow(large), full);
        drop(rest);
        budget.account().hold().grow(large).expect("room again");
    }

    #[test]
    fn what_holds_little_finds_room_when_large_messages_hold_all() {
        let mebibyte = 1 << 20;
        let budget = Budget::new(mebibyte, Duration::from_secs(1));
        let accounts = [budget.account(), budget.account()];
        let mut held = accounts.each_ref().map(Account::hold);
        held.iter_mut().for_each(|each| each.grow(mebibyte / 2).expect("its share"));
        let mut small = Vec::new();
        let refused = loop {
            let mut next = budget.account().hold();
            match next.grow(LITTLE) {
                Ok(()) => small.push(next),
                Err(error) => break error,
            }
        };
        assert_eq!((small.len(), refused), (4, Error::NoMemory { limit: mebibyte }));
    }

    #[test]
    fn who_keeps_a_message_waiting_is_found_out() {
        let account = Budget::new(1000, Duration::from_secs(1)).account();
        let ticks = |count: u32| (0..count).filter(|_| account.tick()).count();
        let mut held = account.hold();
        assert_eq!(ticks(20), 0, "nobody waits for the client");
        held.wait();
        assert_eq!(ticks(TICKS), 0, "not for so long");
        held.go_on();
        assert_eq!(ticks(20), 0);
        let answer = held.reply("taken late");
        assert_eq!((ticks(TICKS), ticks(1)), (0, 1));
        drop(answer);
        assert_eq!(ticks(20), 0);
    }
}
