//! Accepted requests are answered; idle connections and streams end.

mod common;

use std::time::{Duration, Instant};

use common::{Client, PATIENCE, heavy, serve, until_held, until_queued};
use http_body_util::BodyExt;
use prost::Message;
use sigmax_core::engine::fake::Fake;
use sigmax_core::proto::health::{HealthCheckRequest, HealthCheckResponse};

#[tokio::test(flavor = "multi_thread")]
async fn accepted_work_is_answered_and_new_work_refused() {
    let fake = heavy();
    let server = serve(&fake, |_| {});
    let client = Client::connect(&server).await;
    fake.close();
    let mut calls = vec![client.start([0.0, 0.0], None)];
    until_held(&fake, 1).await;
    calls.extend((1..4).map(|i| client.start([i as f32, 0.0], None)));
    until_queued(&server, 3).await;
    server.drain();
    assert!(!server.is_ready());
    assert!(!server.wait(Duration::ZERO), "work is in flight");
    assert!(common::get(server.http_address(), "/readyz").starts_with("HTTP/1.1 503"));
    fake.open();
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.expect("no panic").expect("answered"), [i as f32, 0.0]);
    }
    assert!(server.wait(PATIENCE), "nothing is left to do");
    let patience = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(server.grpc_address()).is_ok() {
        assert!(Instant::now() < patience, "it listens still");
    }
    assert_eq!(server.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_and_open_watches_end() {
    let server = serve(&Fake::new(2), |_| {});
    let idle = Client::connect(&server).await;
    idle.infer([1.0, 2.0], None).await.expect("answered");
    let watcher = Client::connect(&server).await;
    let request = HealthCheckRequest { service: "fake".into() };
    let mut watch = watcher.send("/grpc.health.v1.Health/Watch", request, None).await;
    watch.body_mut().frame().await.expect("the state").expect("now");
    server.drain();
    assert!(server.wait(PATIENCE), "nothing holds it up");
    let end = watch.into_body().collect().await.expect("ended in order");
    assert_eq!(end.trailers().expect("a status")["grpc-status"], "0");
    assert_eq!(end.to_bytes()[5..], HealthCheckResponse { status: 2 }.encode_to_vec());
    assert_eq!(server.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_counted() {
    let fake = heavy();
    let server = serve(&fake, |_| {});
    let client = Client::connect(&server).await;
    fake.close();
    let mut calls = vec![client.start([0.0, 0.0], None)];
    until_held(&fake, 1).await;
    calls.extend((1..3).map(|i| client.start([i as f32, 0.0], None)));
    until_queued(&server, 2).await;
    server.drain();
    let stop = std::thread::spawn(move || server.stop());
    for call in calls {
        call.await.expect_err("cut off");
    }
    fake.open();
    assert_eq!(stop.join().expect("no panic"), 3);
}
