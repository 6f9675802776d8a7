//! Requests share runs, and nobody gets another's answer.

mod common;

use common::{Client, heavy, serve, until_held, until_queued};
use sigmax_core::engine::fake::Fake;

#[tokio::test]
async fn what_comes_during_a_run_shares_the_next() {
    let fake = heavy();
    let server = serve(&fake, |_| {});
    let client = Client::connect(&server).await;
    fake.close();
    let first = client.start([1.0, 2.0], None);
    until_held(&fake, 1).await;
    let others: Vec<_> = (0..5).map(|i| client.start([i as f32, 7.0], None)).collect();
    until_queued(&server, 5).await;
    fake.open();
    assert_eq!(first.await.expect("no panic").expect("answered"), [1.0, 2.0]);
    for (i, other) in others.into_iter().enumerate() {
        assert_eq!(other.await.expect("no panic").expect("answered"), [i as f32, 7.0]);
    }
    assert_eq!(fake.take_sizes(), [1, 5]);
}

#[tokio::test]
async fn rows_that_depend_on_each_other_share_no_run() {
    let fake = heavy().with_dependent_rows();
    let server = serve(&fake, |_| {});
    let client = Client::connect(&server).await;
    fake.close();
    let calls: Vec<_> = (0..4).map(|i| client.start([i as f32, 0.0], None)).collect();
    until_held(&fake, 1).await;
    until_queued(&server, 3).await;
    fake.open();
    for (i, call) in calls.into_iter().enumerate() {
        // The network adds the number of rows in its run.
        assert_eq!(call.await.expect("no panic").expect("answered"), [i as f32 + 1.0, 1.0]);
    }
    assert_eq!(fake.take_sizes(), [1, 1, 1, 1]);
}

#[tokio::test]
async fn many_at_once_get_their_own_answers() {
    let fake = Fake::new(2);
    let server = serve(&fake, |config| config.shards = 2);
    let mut calls = Vec::new();
    for connection in 0..4 {
        let client = Client::connect(&server).await;
        calls.extend((0..200).map(|i| {
            let row = [connection as f32, i as f32];
            (row, client.start(row, None))
        }));
    }
    for (row, call) in calls {
        assert_eq!(call.await.expect("no panic").expect("answered"), row);
    }
    assert_eq!(fake.take_sizes().iter().sum::<usize>(), 800, "every row ran once");
}
