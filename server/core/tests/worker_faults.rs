//! A device that fails costs one batch. Its worker gets another engine; where none can be made, the
//! server's readiness tells.

mod common;

use common::{Client, get, load, start, until_held, until_metrics, until_queued};
use sigmax_core::engine::fake::Fake;
use sigmax_core::model::Placement;
use sigmax_core::model::device::Device;
use sigmax_core::server::Server;
use tonic::Code;

const GPU: Device = Device::Cuda(0);
const OTHER: Device = Device::Cuda(1);

/// A server with the network, which has a worker on each device.
fn serve(fake: &Fake, devices: &[Device]) -> Server {
    let server = start(|_| {});
    let placement = |&device| Placement { device, count: 1 };
    load(&server, fake, vec![devices.iter().map(placement).collect()]).expect("it loads");
    server.finish_loading();
    assert!(server.is_ready());
    fake.take_sizes();
    fake.take_made();
    server
}

fn workers(device: Device, alive: usize) -> String {
    format!("sigmax_workers{{model=\"fake\",version=\"1\",device=\"{device}\"}} {alive}")
}

fn faults(device: Device, count: usize) -> String {
    format!(
        "sigmax_worker_faults_total{{model=\"fake\",version=\"1\",device=\"{device}\"}} {count}"
    )
}

#[tokio::test]
async fn a_failed_device_fails_its_batch_at_once_and_the_next_is_answered() {
    let fake = Fake::new(2);
    let server = serve(&fake, &[GPU]);
    let client = Client::connect(&server).await;
    fake.close();
    let held = client.start([0.0, 0.0], None);
    until_held(&fake, 1).await;
    let calls = [1.0, Fake::DEVICE_LOST, 2.0].map(|value| client.start([value, 0.5], None));
    until_queued(&server, 3).await;
    fake.open();
    held.await.expect("no panic").expect("answered");
    for call in calls {
        let error = call.await.expect("no panic").expect_err("its device is lost");
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.message().contains("a row is a loss"), "that is for the log: {error:?}");
    }
    assert_eq!(client.infer([3.0, 4.0], None).await.expect("it goes on"), [3.0, 4.0]);
    assert_eq!(fake.take_sizes(), [1, 3, 1], "nothing is run again on a lost device");
    assert_eq!(fake.take_made(), [GPU]);
    until_metrics(&server, &faults(GPU, 1)).await;
    until_metrics(&server, &workers(GPU, 1)).await;
}

#[tokio::test]
async fn after_a_panic_the_worker_gets_another_engine() {
    let fake = Fake::new(2);
    let server = serve(&fake, &[GPU]);
    let client = Client::connect(&server).await;
    let error = client.infer([Fake::PANIC, 0.0], None).await.expect_err("a panic");
    assert_eq!(error.code(), Code::Internal);
    assert_eq!(client.infer([3.0, 4.0], None).await.expect("it goes on"), [3.0, 4.0]);
    assert_eq!(fake.take_made(), [GPU]);
    until_metrics(&server, &faults(GPU, 1)).await;
}

#[tokio::test]
async fn without_a_worker_the_model_is_not_ready_until_it_has_one_again() {
    let fake = Fake::new(2);
    let server = serve(&fake, &[GPU]);
    let client = Client::connect(&server).await;
    fake.break_devices(&[GPU]);
    client.infer([Fake::DEVICE_LOST, 0.0], None).await.expect_err("its device is lost");
    until_metrics(&server, &workers(GPU, 0)).await;
    until_metrics(&server, "sigmax_ready 0").await;
    assert!(get(server.http_address(), "/readyz").starts_with("HTTP/1.1 503"));
    let error = client.infer([1.0, 2.0], None).await.expect_err("nobody answers");
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("no engine is left on cuda:0"), "{error:?}");
    fake.break_devices(&[]);
    until_metrics(&server, "sigmax_ready 1").await;
    assert_eq!(client.infer([1.0, 2.0], None).await.expect("it is back"), [1.0, 2.0]);
}

#[tokio::test]
async fn the_other_workers_go_on() {
    let fake = Fake::new(2);
    let server = serve(&fake, &[GPU, OTHER]);
    let client = Client::connect(&server).await;
    fake.break_devices(&[GPU, OTHER]);
    client.infer([Fake::DEVICE_LOST, 0.0], None).await.expect_err("its device is lost");
    for number in 0..10 {
        let row = [number as f32, 0.0];
        assert_eq!(client.infer(row, None).await.expect("by the other worker"), row);
    }
    assert!(server.is_ready());
    client.infer([Fake::DEVICE_LOST, 0.0], None).await.expect_err("the other one, too");
    until_metrics(&server, "sigmax_ready 0").await;
}

#[tokio::test]
async fn a_model_that_lost_its_workers_can_be_loaded_anew() {
    let fake = Fake::new(2);
    let server = serve(&fake, &[GPU]);
    let client = Client::connect(&server).await;
    fake.break_devices(&[GPU]);
    client.infer([Fake::DEVICE_LOST, 0.0], None).await.expect_err("its device is lost");
    until_metrics(&server, "sigmax_ready 0").await;
    load(&server, &fake, vec![vec![Placement::default()]]).expect("it loads");
    assert!(server.is_ready());
    assert_eq!(client.infer([1.0, 2.0], None).await.expect("on the CPU"), [1.0, 2.0]);
}
