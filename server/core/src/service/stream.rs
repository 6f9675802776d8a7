//! A stream of requests, each answered by one answer.

use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::body::Load;
use crate::error::{Dialect, Error};
use crate::memory::Held;

/// Requests of one stream that run at once; the next is read when one is answered.
const AT_ONCE: usize = 1024;

/// Starts to answer a stream. `running` is empty still and says in which order answers leave.
/// `answer` keeps what a request holds until it has been run.
pub fn start<Q, A, F, R>(
    request: Request<Streaming<Q>>,
    running: R,
    answer: impl Fn(Q, Held) -> F + Send + 'static,
) -> Result<Response<BoxStream<A>>, Status>
where
    Q: Message + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, Status>> + Send + 'static,
    R: Stream<Item = Result<A, Status>> + Extend<F> + Unpin + Send + 'static,
{
    let (answers, replies) = mpsc::channel(AT_ONCE);
    let load = request.extensions().get::<Arc<Load>>().cloned();
    let load = load.ok_or_else(|| Error::Internal.status(Dialect::Sigmax))?;
    tokio::spawn(run(request.into_inner(), load, running, answers, answer));
    Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
}

/// Runs the requests side by side, until the client has half-closed and all are answered, an answer
/// is an error, or the client is gone.
async fn run<Q, A, F, R>(
    mut requests: Streaming<Q>,
    load: Arc<Load>,
    mut running: R,
    answers: mpsc::Sender<Result<A, Status>>,
    answer: impl Fn(Q, Held) -> F,
) where
    Q: Message,
    R: Stream<Item = Result<A, Status>> + Extend<F> + Unpin,
{
    let mut at_once = 0;
    let mut end = None;
    while end.is_none() || at_once > 0 {
        // One runs whatever the others hold; more only where there is room for them.
        let more = at_once == 0 || (at_once < AT_ONCE && load.account().has_room());
        tokio::select! {
            request = requests.message(), if end.is_none() && more => {
                match request {
                    Ok(Some(request)) => {
                        running.extend([answer(request, load.take())]);
                        at_once += 1;
                    }
                    Ok(None) => end = Some(Ok(())),
                    Err(status) => end = Some(Err(status)),
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
