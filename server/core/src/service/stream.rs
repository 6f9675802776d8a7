//! Streams of requests, each of which has one answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, StreamExt};
use prost::Message;
use tokio::sync::{Notify, mpsc};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::access::caller::Caller;
use crate::error::{Dialect, Error, Result};
use crate::grpc::body::{Load, MESSAGE};
use crate::grpc::budget::Held;
use crate::grpc::head::Call;
use crate::grpc::message::{PackedMessage, Unread, within_limit};
use crate::metrics::outcome::Outcome;
use crate::service::trace::Trace;
use crate::shard::Shard;

/// The most requests of one stream that run, or whose answers wait to be taken, at once. Where
/// there are so many, the next request is read when an answer is taken.
const AT_ONCE: usize = 1024;

/// An answer, or the status that ends the stream, and the room that it holds in the budget.
pub type Answered<A> = (Result<A, Status>, Held);

/// Starts to answer a stream of requests, and returns the stream of answers. `running` is an empty
/// set of futures, and its kind decides in which order answers leave. `answer` runs one request,
/// and returns the answer with the room that the request has held.
pub fn start<A, F, R>(
    request: Request<Streaming<Unread>>,
    running: R,
    answer: impl Fn(PackedMessage, Held) -> F + Send + 'static,
) -> Result<Response<BoxStream<A>>, Status>
where
    A: Message + 'static,
    F: Future<Output = Answered<A>> + Send + 'static,
    R: Stream<Item = Answered<A>> + Extend<F> + Unpin + Send + 'static,
{
    let (answers, inbox) = mpsc::channel(AT_ONCE);
    let load = request.extensions().get::<Arc<Load>>().cloned();
    let load = load.ok_or_else(|| Error::Internal.status(Dialect::Sigmax))?;
    let open = Arc::<Open>::default();
    tokio::spawn(run(request.into_inner(), load, open.clone(), running, answers, answer));
    Ok(Response::new(Box::pin(Answers { inbox, open })))
}

/// The number of a stream's requests whose answers are not taken yet.
#[derive(Debug, Default)]
struct Open {
    count: AtomicUsize,
    /// Notified of every answer that is taken.
    taken: Notify,
}

/// The answers of a stream. Each counts as taken when tonic polls it, and tonic polls no faster
/// than the client takes them.
struct Answers<A> {
    inbox: mpsc::Receiver<Answered<A>>,
    open: Arc<Open>,
}

impl<A> Stream for Answers<A> {
    type Item = Result<A, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = self.inbox.poll_recv(context);
        if let Poll::Ready(Some(_)) = answer {
            self.open.count.fetch_sub(1, Relaxed);
            self.open.taken.notify_one();
        }
        answer.map(|answer| answer.map(|(answer, _held)| answer))
    }
}

/// Runs the requests of a stream side by side. Ends when the client has half-closed and every
/// request is answered, when an answer is an error, or when the client is gone.
async fn run<A, F, R>(
    mut requests: Streaming<Unread>,
    load: Arc<Load>,
    open: Arc<Open>,
    mut running: R,
    answers: mpsc::Sender<Answered<A>>,
    answer: impl Fn(PackedMessage, Held) -> F,
) where
    A: Message,
    R: Stream<Item = Answered<A>> + Extend<F> + Unpin,
{
    let mut at_once = 0;
    let mut end = None;
    while end.is_none() || at_once > 0 {
        // One request is read whatever the connection's other calls hold; more are read only where
        // there is room for them and their answers.
        let more = match open.count.load(Relaxed) {
            0 => true,
            open => open < AT_ONCE && load.account().has_room(),
        };
        tokio::select! {
            request = requests.message(), if end.is_none() && more => {
                match request {
                    Ok(Some(Unread)) => {
                        let (message, held) = load.take();
                        running.extend([answer(PackedMessage::unpacked(message), held)]);
                        at_once += 1;
                        open.count.fetch_add(1, Relaxed);
                    }
                    Ok(None) => end = Some(Ok(())),
                    Err(status) => end = Some(Err(status)),
                }
            }
            Some((result, mut held)) = running.next() => {
                at_once -= 1;
                let is_end = result.is_err();
                held.resize(result.as_ref().map_or(0, Message::encoded_len) + MESSAGE);
                if answers.send((result, held)).await.is_err() || is_end {
                    return;
                }
            }
            () = open.taken.notified(), if end.is_none() && !more => {}
            () = answers.closed() => return,
        }
    }
    if let Some(Err(status)) = end {
        let _ = answers.send((Err(status), load.take().1)).await;
    }
}

/// Answers one request of a stream, with a message that begins with `reply_head`, and counts it.
pub async fn run_one<Q>(
    shard: &Shard,
    request: Q,
    caller: &Caller,
    mut held: Held,
    reply_head: &'static [u8],
    answer: impl AsyncFnOnce(&Shard, Q, Call, &Caller, &mut Held, &Trace) -> Result<BytesMut>,
) -> Result<Bytes> {
    let call = Call::of_stream(reply_head);
    let trace = Trace::default();
    let result = answer(shard, request, call, caller, &mut held, &trace).await;
    let result = result.and_then(within_limit);
    let failed = |error| Outcome::of(error, caller.dialect());
    let outcome = result.as_ref().map_or_else(failed, |_| Outcome::OK);
    trace.count(shard, outcome, call.arrived);
    result.map(BytesMut::freeze)
}
