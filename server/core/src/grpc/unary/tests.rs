//! Tests of a unary call's framing, one for each rule.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use tonic::{Code, Status};

use super::{Call, PREFIX, serve};
use crate::error::{Dialect, Error};
use crate::grpc::budget::{Budget, Held};
use crate::grpc::head;
use crate::grpc::reply::ReplyBody;

const LIMIT: usize = 1000;

fn budget(limit: usize) -> std::sync::Arc<Budget> {
    Budget::new(limit, Duration::from_secs(60))
}

/// The echo to a call whose body comes in these frames. The message "panic" ends the handler by a
/// panic.
async fn call(headers: &[(&'static str, &str)], frames: Vec<Bytes>) -> Response<ReplyBody> {
    call_with(budget(10 * LIMIT), headers, stream::iter(frames)).await
}

async fn call_with(
    budget: std::sync::Arc<Budget>,
    headers: &[(&'static str, &str)],
    frames: impl Stream<Item = Bytes> + Unpin,
) -> Response<ReplyBody> {
    let request = request(headers, frames);
    let held = budget.account().hold();
    let echo = async |mut message: super::Received, _, _: &mut Held| {
        if message.remaining() == 5 && message.chunk() == b"panic" {
            panic!("as asked");
        }
        let mut reply = BytesMut::zeroed(PREFIX);
        reply.put(message.copy_to_bytes(message.remaining()));
        Ok(reply)
    };
    let head = head::read(&request, Instant::now());
    serve(head, request.into_body(), Dialect::Sigmax, LIMIT, held, echo).await.0
}

fn request(
    headers: &[(&'static str, &str)],
    frames: impl Stream<Item = Bytes> + Unpin,
) -> Request<impl Body<Data = Bytes> + Unpin> {
    let frames = frames.map(|frame| Ok::<_, Infallible>(Frame::data(frame)));
    let mut request = Request::post("/echo").body(StreamBody::new(frames)).expect("valid");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().expect("valid"));
    }
    request
}

const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put(message);
    bytes.freeze()
}

/// The message and status of a reply.
async fn reply(response: Response<ReplyBody>) -> (Bytes, Status) {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let head = response.headers().clone();
    let (message, status) = match response.into_body() {
        ReplyBody::Empty => (Bytes::new(), head),
        ReplyBody::Unary { message, trailers } => (message, trailers),
        ReplyBody::Tonic { .. } => panic!("a unary call is none of tonic's"),
    };
    (message, Status::from_header_map(&status).expect("a status"))
}

async fn fails(headers: &[(&'static str, &str)], frames: Vec<Bytes>, code: Code, text: &str) {
    let (message, status) = reply(call(headers, frames).await).await;
    assert!(message.is_empty(), "an error has no message");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "expected '{text}' in '{}'", status.message());
}

fn with(header: (&'static str, &'static str)) -> Vec<(&'static str, &'static str)> {
    [&GRPC[..], &[header]].concat()
}

#[tokio::test]
async fn a_message_in_one_frame_is_answered() {
    let (message, status) = reply(call(&GRPC, vec![framed(b"hello")]).await).await;
    assert_eq!((message, status.code()), (framed(b"hello"), Code::Ok));
}

#[tokio::test]
async fn a_message_may_come_in_any_frames() {
    let whole = framed(b"some bytes");
    for first in 0..=whole.len() {
        for second in first..=whole.len() {
            let frames =
                vec![whole.slice(..first), whole.slice(first..second), whole.slice(second..)];
            let (message, status) = reply(call(&GRPC, frames).await).await;
            assert_eq!((message, status.code()), (whole.clone(), Code::Ok), "{first} {second}");
        }
    }
}

#[tokio::test]
async fn an_empty_message_is_a_message() {
    let (message, status) = reply(call(&GRPC, vec![framed(b"")]).await).await;
    assert_eq!((message, status.code()), (framed(b""), Code::Ok));
}

#[tokio::test]
async fn other_content_types_are_unsupported() {
    for kind in ["application/json", "application/grpc-web", "application/grpc+json", ""] {
        let response = call(&[("content-type", kind), ("te", "trailers")], vec![]).await;
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
        let headers = [("content-type", kind), ("te", "trailers")];
        let response = call(&headers, vec![framed(b"x")]).await;
        assert_eq!(reply(response).await.1.code(), Code::Ok, "{kind}");
    }
}

#[tokio::test]
async fn te_must_promise_trailers() {
    fails(&GRPC[..1], vec![framed(b"x")], Code::InvalidArgument, "te: trailers").await;
}

#[tokio::test]
async fn an_unknown_compression_is_refused_by_name() {
    let headers = with(("grpc-encoding", "zstd"));
    fails(&headers, vec![framed(b"x")], Code::Unimplemented, "zstd").await;
    let response = call(&headers, vec![framed(b"x")]).await;
    assert_eq!(response.headers()["grpc-accept-encoding"], "identity,gzip,deflate");
    let headers = with(("grpc-encoding", "identity"));
    assert_eq!(reply(call(&headers, vec![framed(b"x")]).await).await.1.code(), Code::Ok);
}

#[tokio::test]
async fn a_compressed_flag_without_an_encoding_is_malformed() {
    let mut message = BytesMut::from(&framed(b"x")[..]);
    message[0] = 1;
    fails(&GRPC, vec![message.clone().freeze()], Code::InvalidArgument, "compressed").await;
    message[0] = 7;
    fails(&GRPC, vec![message.freeze()], Code::InvalidArgument, "expected 0 or 1, got 7").await;
}

#[tokio::test]
async fn one_message_is_expected_and_no_other() {
    fails(&GRPC, vec![], Code::Unimplemented, "got none").await;
    fails(&GRPC, vec![framed(b"a"), framed(b"b")], Code::Unimplemented, "got more").await;
}

#[tokio::test]
async fn a_message_cut_short_says_how_much_came() {
    let cut = framed(b"some bytes").slice(..9);
    fails(&GRPC, vec![cut], Code::InvalidArgument, "expected a message of 10 bytes, got 4").await;
}

#[tokio::test]
async fn the_announced_length_is_checked_first() {
    let announced = Bytes::from_static(&[0, 0x7f, 0xff, 0xff, 0xff]);
    let text = "expected a message of at most 1000 bytes, got 2147483647";
    fails(&GRPC, vec![announced], Code::ResourceExhausted, text).await;
}

#[tokio::test]
async fn unfinished_messages_are_bounded_together() {
    let budget = budget(16); // one connection may hold half
    let frames = || stream::iter(vec![framed(b"123456").slice(..9), framed(b"x")]);
    let response = call_with(budget.clone(), &GRPC, frames()).await;
    assert_eq!(reply(response).await.1.code(), Code::ResourceExhausted);
    // The room that the refused call held is given back.
    let frames = stream::iter(vec![framed(b"123").slice(..4), framed(b"123").slice(4..)]);
    assert_eq!(reply(call_with(budget, &GRPC, frames).await).await.1.code(), Code::Ok);
}

#[tokio::test]
async fn timeouts_come_in_all_units() {
    let timeout = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("valid"));
        head::timeout(&headers)
    };
    assert_eq!(timeout("2H"), Ok(Some(Duration::from_secs(7200))));
    assert_eq!(timeout("3M"), Ok(Some(Duration::from_secs(180))));
    assert_eq!(timeout("4S"), Ok(Some(Duration::from_secs(4))));
    assert_eq!(timeout("5m"), Ok(Some(Duration::from_millis(5))));
    assert_eq!(timeout("6u"), Ok(Some(Duration::from_micros(6))));
    assert_eq!(timeout("99999999n"), Ok(Some(Duration::from_nanos(99_999_999))));
    for bad in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S"] {
        assert!(matches!(timeout(bad), Err(Error::Malformed { .. })), "{bad}");
    }
    assert_eq!(head::timeout(&HeaderMap::new()), Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_body_that_does_not_come() {
    let headers = with(("grpc-timeout", "5m"));
    let response = call_with(budget(LIMIT), &headers, stream::pending()).await;
    assert_eq!(reply(response).await.1.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn the_time_for_which_a_client_keeps_its_message_back_is_not_the_servers() {
    const PAUSE: Duration = Duration::from_millis(1);
    let whole = framed(b"some bytes");
    assert_eq!(kept_back(stream::iter([whole.clone()])).await, Duration::ZERO);
    let late = stream::iter([whole.slice(..7), whole.slice(7..)]).then(async |part| {
        tokio::task::yield_now().await;
        let since = Instant::now();
        while since.elapsed() < PAUSE {}
        part
    });
    assert!(kept_back(pin!(late)).await >= 2 * PAUSE);
}

/// The time for which a client is found to have kept back a message that comes in these frames.
async fn kept_back(frames: impl Stream<Item = Bytes> + Unpin) -> Duration {
    let found = Cell::default();
    let handle = async |_: super::Received, call: Call, _: &mut Held| {
        found.set(call.ready - call.arrived);
        Ok(BytesMut::zeroed(PREFIX))
    };
    let request = request(&GRPC, frames);
    let held = budget(LIMIT).account().hold();
    let head = head::read(&request, Instant::now());
    serve(head, request.into_body(), Dialect::Sigmax, LIMIT, held, handle).await;
    found.get()
}

#[tokio::test]
async fn a_panic_ends_its_call_alone() {
    let (_, status) = reply(call(&GRPC, vec![framed(b"panic")]).await).await;
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("as asked"), "details go to the log");
}

#[tokio::test]
async fn messages_and_details_survive_the_headers() {
    let error = Error::BadField { field: "threshold", detail: "100 % of \u{fc}\n".into() };
    let response = super::failed(&error, Dialect::Sigmax);
    let headers = response.headers();
    assert_eq!(headers["grpc-message"], "threshold:%20100%20%25%20of%20%C3%BC%0A");
    let details = headers["grpc-status-details-bin"].to_str().expect("text");
    assert!(!details.ends_with('='), "unpadded");
    let status = Status::from_header_map(headers).expect("a status");
    assert_eq!(status.message(), "threshold: 100 % of \u{fc}\n");
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("BAD_FIELD", "sigmax"));
    let violations = &details.bad_request().expect("a BadRequest").field_violations;
    assert_eq!(violations[0].field, "threshold");
}

#[test]
fn a_refusal_says_its_own_reason_whatever_was_refused_before() {
    let late = |left| Error::too_late(Duration::from_millis(60), Duration::from_millis(left));
    let asked = [
        (late(50), Dialect::Sigmax),
        (late(50), Dialect::Sigmax),
        (late(50), Dialect::Inference),
        (late(40), Dialect::Inference),
        (Error::DeadlineExceeded, Dialect::Inference),
        (late(50), Dialect::Sigmax),
    ];
    for (error, dialect) in asked {
        let response = super::failed(&error, dialect);
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.message(), error.message(dialect));
    }
}
