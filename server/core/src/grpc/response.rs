//! The heads and trailers of answers to unary calls.

use std::cell::RefCell;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use tonic::Code;

use crate::error::{Dialect, Error};
use crate::grpc::reply::ReplyBody;
use crate::metrics::outcome::Refusal;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,deflate");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The response with a message, which has its prefix already.
pub fn succeeded(message: Bytes) -> Response<ReplyBody> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(ReplyBody::Unary { message, trailers });
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// The response of a call that has failed: trailers only, which is one block of headers and no
/// body.
pub fn failed(error: &Error, dialect: Dialect) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Empty);
    *response.headers_mut() = match Refusal::of(error) {
        Some(_) => refused_head(error, dialect),
        None => failed_head(error, dialect),
    };
    response
}

/// The headers of a refusal. They are kept for the next one, because in an overload refusals are
/// alike, and the time to make them is taken from the answers.
fn refused_head(error: &Error, dialect: Dialect) -> HeaderMap {
    thread_local! {
        static LAST: RefCell<Option<(Error, Dialect, HeaderMap)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((before, of, head)) if before == error && *of == dialect => head.clone(),
        _ => last.insert((error.clone(), dialect, failed_head(error, dialect))).2.clone(),
    })
}

fn failed_head(error: &Error, dialect: Dialect) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, GRPC);
    if matches!(error, Error::Unimplemented { .. }) {
        headers.insert(ACCEPT_ENCODING, ENCODINGS);
    }
    if error.status(dialect).add_header(&mut headers).is_err() {
        headers.insert(GRPC_STATUS, HeaderValue::from(Code::Internal as i32));
    }
    headers
}
