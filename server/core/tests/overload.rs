//! Requests over the queue's limit are refused at once; requests in the queue are answered.

mod common;

use std::time::Duration;

use common::{Client, heavy, serve, serve_classifier, until_held, until_queued};
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_try_again() {
    let fake = heavy();
    let server = serve_classifier(&fake, |config| config.queue_rows = 4);
    let client = Client::connect(&server).await;
    fake.close();
    let held = client.start([0.0, 0.0], None);
    until_held(&fake, 1).await;
    let queued: Vec<_> = (1..5).map(|i| client.start([i as f32, 0.0], None)).collect();
    until_queued(&server, 4).await;

    let refused = client.infer([9.0, 0.0], None).await.expect_err("full");
    assert_eq!(refused.code(), Code::Unavailable, "as Triton does");
    assert_eq!(refused.message(), "[request id: <id_unknown>] Exceeds maximum queue size");
    let refused = client.classify([9.0, 0.0]).await.expect_err("full");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("holds 4 rows of at most 4"), "{}", refused.message());
    let details = refused.get_error_details();
    assert_eq!(details.error_info().expect("an ErrorInfo").reason, "QUEUE_FULL");
    let delay = details.retry_info().and_then(|info| info.retry_delay).expect("a delay");
    assert!(delay >= Duration::from_millis(1), "{delay:?}");

    fake.open();
    assert_eq!(held.await.expect("no panic").expect("answered"), [0.0, 0.0]);
    for (i, call) in queued.into_iter().enumerate() {
        assert_eq!(call.await.expect("no panic").expect("answered"), [i as f32 + 1.0, 0.0]);
    }
    assert_eq!(client.infer([5.0, 0.0], None).await.expect("room again"), [5.0, 0.0]);
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_where_all_others_have_calls() {
    let fake = heavy();
    let server = serve(&fake, |config| config.max_connections = 1);
    let client = Client::connect(&server).await;
    fake.close();
    let held = client.start([1.0, 2.0], None);
    until_held(&fake, 1).await;
    let mut second = std::net::TcpStream::connect(server.grpc_address()).expect("accepted");
    let read = std::io::Read::read(&mut second, &mut [0; 1]);
    assert!(matches!(read, Ok(0) | Err(_)), "closed without a word, got {read:?}");
    let metrics = common::get(server.http_address(), "/metrics");
    assert!(metrics.contains("sigmax_connections_refused_total 1\n"), "{metrics}");
    fake.open();
    held.await.expect("no panic").expect("the first goes on");
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_a_new_one() {
    let fake = heavy();
    let server = serve(&fake, |config| config.max_connections = 1);
    let first = Client::connect(&server).await;
    first.infer([1.0, 2.0], None).await.expect("answered");
    let second = Client::connect(&server).await;
    second.infer([1.0, 2.0], None).await.expect("answered");
    let metrics = common::get(server.http_address(), "/metrics");
    assert!(metrics.contains("sigmax_connections_evicted_total 1\n"), "{metrics}");
    assert!(metrics.contains("sigmax_connections_refused_total 0\n"), "{metrics}");
    first.closed().await;
}
