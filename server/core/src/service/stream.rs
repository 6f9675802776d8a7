//! A stream of requests, each answered by one answer.

use futures_util::stream::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Code, Response, Status, Streaming};

use crate::error::{Dialect, Error};

/// Requests of one stream that run at once; the next is read when one is answered.
const AT_ONCE: usize = 1024;

/// Starts to answer a stream. `running` is empty still and says in which order answers leave.
pub fn start<Q, A, F, R>(
    requests: Streaming<Q>,
    running: R,
    dialect: Dialect,
    answer: impl Fn(Q) -> F + Send + 'static,
) -> Response<BoxStream<A>>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, Status>> + Send + 'static,
    R: Stream<Item = Result<A, Status>> + Extend<F> + Unpin + Send + 'static,
{
    let (answers, replies) = mpsc::channel(AT_ONCE);
    tokio::spawn(run(requests, running, dialect, answers, answer));
    Response::new(Box::pin(ReceiverStream::new(replies)))
}

/// Runs the requests side by side, until the client has half-closed and all are answered, an answer
/// is an error, or the client is gone.
async fn run<Q, A, F, R>(
    mut requests: Streaming<Q>,
    mut running: R,
    dialect: Dialect,
    answers: mpsc::Sender<Result<A, Status>>,
    answer: impl Fn(Q) -> F,
) where
    R: Stream<Item = Result<A, Status>> + Extend<F> + Unpin,
{
    let mut at_once = 0;
    let mut end = None;
    while end.is_none() || at_once > 0 {
        tokio::select! {
            request = requests.message(), if end.is_none() && at_once < AT_ONCE => {
                match request {
                    Ok(Some(request)) => {
                        running.extend([answer(request)]);
                        at_once += 1;
                    }
                    Ok(None) => end = Some(Ok(())),
                    Err(status) => end = Some(Err(broken_off(status, dialect))),
                }
            }
            Some(result) = running.next() => {
                at_once -= 1;
                let is_end = result.is_err();
                if answers.send(result).await.is_err() || is_end {
                    return;
                }
            }
            () = answers.closed() => return,
        }
    }
    if let Some(Err(status)) = end {
        let _ = answers.send(Err(status)).await;
    }
}

/// Why no more requests are read, as the service says it.
fn broken_off(status: Status, dialect: Dialect) -> Status {
    match status.code() {
        // tonic's word for a message over the limit; its text has both sizes.
        Code::OutOfRange => Status::new(Code::ResourceExhausted, status.message()),
        // The server drains: the body knows no dialect.
        Code::Unavailable => Error::Draining.status(dialect),
        _ => status,
    }
}
