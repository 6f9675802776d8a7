//! Work that nobody waits for any more is not done.

mod common;

use std::time::Duration;

use common::{
    Client, PATIENCE, have_metrics, heavy, queued, serve, until_held, until_metrics, until_queued,
};
use tonic::Code;

#[tokio::test]
async fn a_request_that_expires_in_the_queue_is_not_run() {
    let fake = heavy();
    let server = serve(&fake, |_| {});
    let client = Client::connect(&server).await;
    fake.close();
    let held = client.start([0.0, 0.0], None);
    until_held(&fake, 1).await;
    let patient = client.start([2.0, 0.0], None);
    until_queued(&server, 1).await;
    // The timeout is long enough for the request to be queued, however long that takes here, and
    // passes then.
    let mut timeout = Duration::from_millis(50);
    let late = loop {
        let late = client.start([1.0, 0.0], Some(timeout));
        while !late.is_finished() && have_metrics(&server, &queued(2)).await.is_err() {}
        if !late.is_finished() {
            break late;
        }
        assert!(timeout < PATIENCE, "it was never queued: {:?}", late.await);
        timeout *= 2;
    };
    tokio::time::sleep(timeout).await;
    fake.open();
    let error = late.await.expect("no panic").expect_err("too late");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(held.await.expect("no panic").expect("answered"), [0.0, 0.0]);
    assert_eq!(patient.await.expect("no panic").expect("answered"), [2.0, 0.0]);
    assert_eq!(fake.take_sizes(), [1, 1]);
}

#[tokio::test]
async fn a_deadline_in_the_queue_is_kept_though_a_run_hangs() {
    let fake = heavy();
    let server = serve(&fake, |_| {});
    let client = Client::connect(&server).await;
    fake.close();
    let held = client.start([0.0, 0.0], None);
    until_held(&fake, 1).await;
    let late = client.infer([1.0, 0.0], Some(Duration::from_millis(50)));
    let error = tokio::time::timeout(PATIENCE, late).await.expect("in time").expect_err("late");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    fake.open();
    assert_eq!(held.await.expect("no panic").expect("answered"), [0.0, 0.0]);
    assert_eq!(fake.take_sizes(), [1]);
}

#[tokio::test]
async fn a_request_that_is_late_already_is_not_queued() {
    let fake = heavy();
    let server = serve(&fake, |_| {});
    let client = Client::connect(&server).await;
    let error = client.infer([1.0, 0.0], Some(Duration::ZERO)).await.expect_err("too late");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(fake.take_sizes().is_empty());
}

#[tokio::test]
async fn a_request_whose_client_has_left_is_not_run() {
    let fake = heavy();
    let server = serve(&fake, |_| {});
    let client = Client::connect(&server).await;
    fake.close();
    let held = client.start([0.0, 0.0], None);
    until_held(&fake, 1).await;
    let left = client.start([1.0, 0.0], None);
    let stays = client.start([2.0, 0.0], None);
    until_queued(&server, 2).await;
    left.abort();
    let _ = left.await;
    let cancelled = "sigmax_refused_total{model=\"fake\",version=\"1\",reason=\"cancelled\"} 1";
    until_metrics(&server, cancelled).await;
    fake.open();
    assert_eq!(held.await.expect("no panic").expect("answered"), [0.0, 0.0]);
    assert_eq!(stays.await.expect("no panic").expect("answered"), [2.0, 0.0]);
    assert_eq!(fake.take_sizes(), [1, 1]);
}
