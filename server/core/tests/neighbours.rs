//! One caller never harms another.

mod common;

use common::{Client, heavy, serve, serve_classifier, until_held, until_queued};
use sigmax_core::engine::fake::Fake;
use tonic::Code;

/// Runs nine requests in a batch, one of which carries poison, and checks that it fails alone, with
/// this code.
async fn only_the_culprit_fails(poison: f32, code: Code) {
    let fake = heavy();
    let server = serve(&fake, |_| {});
    let client = Client::connect(&server).await;
    fake.close();
    let held = client.start([0.0, 0.0], None);
    until_held(&fake, 1).await;
    let values = [1.0, 2.0, 3.0, 4.0, poison, 5.0, 6.0, 7.0, 8.0];
    let calls = values.map(|value| client.start([value, 0.5], None));
    until_queued(&server, 9).await;
    fake.open();
    held.await.expect("no panic").expect("answered");
    for (value, call) in values.into_iter().zip(calls) {
        match call.await.expect("no panic") {
            Ok(row) => assert_eq!(row, [value, 0.5]),
            Err(status) => assert_eq!((value, status.code()), (poison, code), "{status:?}"),
        }
    }
    assert_eq!(fake.take_sizes(), [1, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(client.infer([1.0, 2.0], None).await.expect("it goes on"), [1.0, 2.0]);
}

#[tokio::test]
async fn values_that_the_network_refuses_fail_their_own_request() {
    only_the_culprit_fails(Fake::REFUSED, Code::InvalidArgument).await;
}

#[tokio::test]
async fn a_fault_fails_its_own_request() {
    only_the_culprit_fails(Fake::FAULT, Code::Internal).await;
}

#[tokio::test]
async fn a_panic_fails_its_own_request() {
    only_the_culprit_fails(Fake::PANIC, Code::Internal).await;
}

#[tokio::test]
async fn a_row_without_a_finite_probability_fails_its_own_request() {
    let server = serve_classifier(&Fake::new(2), |_| {});
    let client = Client::connect(&server).await;
    let error = client.classify([f32::NAN, 1.0]).await.expect_err("not finite");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("row 0 of input 'x'"), "{}", error.message());
    let row = client.infer([f32::NAN, 1.0], None).await.expect("as it is");
    assert!(row[0].is_nan());
}
