//! The handler of a call, found by the call's path. The two hot calls are framed by this crate, all
//! others by tonic.

use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tonic::service::Routes;
use tower_service::Service as _;

use crate::access::caller::{Caller, Client};
use crate::access::methods::{self, Method};
use crate::access::principal::Principal;
use crate::access::principals::Principals;
use crate::error::{Dialect, Error, Result, Unauthenticated};
use crate::grpc::body::RequestBody;
use crate::grpc::budget::Held;
use crate::grpc::head::{self, Call, Refused};
use crate::grpc::incoming::Incoming;
use crate::grpc::message::Content;
use crate::grpc::reply::{Reply, ReplyBody};
use crate::grpc::{response, unary};
use crate::panics::panic_text;
use crate::service::classifier::classify;
use crate::service::inference::infer;
use crate::service::routes::routes;
use crate::service::trace::Trace;
use crate::shard::connections::Open;
use crate::shard::handle::Handle;
use crate::shard::peer::Peer;
use crate::shard::{Service, Shard};

/// Bytes, about, that a call holds besides its metadata and its messages.
const CALL_BYTES: usize = 4096;

/// All services, as one shard runs them.
#[derive(Debug)]
pub struct Dispatch {
    shard: Shard,
    handle: Handle<Self>,
    routes: Routes,
    principals: Principals,
}

impl Service for Dispatch {
    type Call = Reply;
    type Client = Arc<Client>;

    fn new(shard: Shard, handle: Handle<Self>) -> Self {
        let routes = routes(&shard.state, &handle);
        let principals = Principals::new(shard.state.access.clone());
        Self { shard, handle, routes, principals }
    }

    fn shard(&self) -> &Shard {
        &self.shard
    }

    fn client(&self, Peer { address, certificate }: Peer) -> Arc<Client> {
        let access = self.shard.state.access.clone();
        Arc::new(Client::new(access, address, certificate.as_deref()))
    }

    fn begin(
        self: &Rc<Self>,
        connection: &Open,
        client: &Arc<Client>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Reply {
        let arrived = Instant::now();
        connection.called(arrived);
        let mut held = connection.account().hold().of_call(self.handle.accept());
        let admitted = self.admit(request.headers(), &mut held);
        let principal = match admitted {
            Ok(()) => self.principals.find(client, request.headers()),
            // The call is refused whoever makes it.
            Err(_) => Some(Arc::new(Principal::Unknown(Unauthenticated::NoCredentials))),
        };
        let begun = Begun { arrived, held, admitted, request, client: client.clone() };
        let work = match principal {
            Some(principal) => self.work(begun, principal),
            None => Box::pin(self.clone().check(begun)),
        };
        Reply::new(respond, work)
    }
}

/// A call that has begun.
struct Begun {
    arrived: Instant,
    held: Held,
    /// Whether there is room for the call and its metadata.
    admitted: Result<()>,
    request: Request<RecvStream>,
    client: Arc<Client>,
}

fn no_such_method() -> Error {
    Error::Unimplemented { detail: "there is no such method".into() }
}

impl Dispatch {
    /// Checks the size of a call's metadata against the limit, and takes room for the call in the
    /// budget.
    fn admit(&self, metadata: &HeaderMap, held: &mut Held) -> Result<()> {
        let (size, limit) = (head::metadata_size(metadata), self.shard.state.metadata_limit);
        if size > limit {
            return Err(Error::MetadataTooLarge { found: size, limit });
        }
        held.grow(CALL_BYTES + size)
    }

    /// Works on a call whose token is to be checked first.
    async fn check(self: Rc<Self>, begun: Begun) -> Response<ReplyBody> {
        let principal = self.principals.check(&begun.client, begun.request.headers()).await;
        self.work(begun, principal).await
    }

    /// The work on a call. The head of a hot call is read here, so that the future that answers the
    /// call does not carry it.
    fn work(
        self: &Rc<Self>,
        begun: Begun,
        principal: Arc<Principal>,
    ) -> LocalBoxFuture<'static, Response<ReplyBody>> {
        let Begun { arrived, held, admitted, request, client } = begun;
        let dialect = Dialect::of(request.uri().path());
        let method = methods::find(request.uri().path());
        let caller = Caller::new(principal, client, method.unwrap_or(Method::unknown()));
        let admitted = admitted
            .and_then(|()| caller.may_enter())
            .and_then(|()| method.map(|_| ()).ok_or_else(no_such_method));
        let is_classify = match request.uri().path() {
            classify::PATH => true,
            infer::PATH => false,
            _ => {
                let mut request = request.map(Incoming::from);
                request.extensions_mut().insert(caller);
                return match admitted {
                    Ok(()) => Box::pin(self.clone().cold(request, held)),
                    Err(error) => Box::pin(ready(response::failed(&error, dialect))),
                };
            }
        };
        let head = admitted.map_err(Refused::from).and_then(|()| head::read(&request, arrived));
        let (body, dispatch) = (Incoming::from(request.into_body()), self.clone());
        match is_classify {
            true => Box::pin(dispatch.hot(held, head, body, caller, classify::classify)),
            false => Box::pin(dispatch.hot(held, head, body, caller, infer::infer)),
        }
    }

    /// Answers a hot call, which is unary and framed by this crate, and counts it.
    async fn hot<M: Content>(
        self: Rc<Self>,
        held: Held,
        head: Result<Call, Refused>,
        body: Incoming,
        caller: Caller,
        handle: impl AsyncFnOnce(&Shard, M, Call, &Caller, &mut Held, &Trace) -> Result<BytesMut>,
    ) -> Response<ReplyBody> {
        let arrived = head.as_ref().map_or_else(|_| Instant::now(), |call| call.arrived);
        self.shard.busy_poll.request(arrived);
        let trace = Trace::default();
        let handle = async |message: M, call: Call, held: &mut Held| {
            handle(&self.shard, message, call, &caller, held, &trace).await
        };
        let (dialect, limit) = (caller.dialect(), self.shard.state.message_limit);
        let (response, outcome) = unary::serve(head, body, dialect, limit, held, handle).await;
        trace.count(&self.shard, outcome, arrived);
        response
    }

    /// Answers any other call, by tonic.
    async fn cold(self: Rc<Self>, request: Request<Incoming>, held: Held) -> Response<ReplyBody> {
        let dialect = Dialect::of(request.uri().path());
        let Shard { state, life, .. } = &self.shard;
        let limit = state.message_limit;
        let (request, load) = RequestBody::of(request, held, life.clone(), limit);
        let call = AssertUnwindSafe(self.routes.clone().call(request)).catch_unwind();
        let Ok(response) = call.await.unwrap_or_else(|panic| {
            tracing::error!("a request {}", panic_text(&*panic));
            Ok(Error::Internal.status(dialect).into_http())
        });
        response.map(|body| ReplyBody::Tonic { body, load })
    }
}
