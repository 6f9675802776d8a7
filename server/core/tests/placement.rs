//! The device with the better throughput serves a model, of those that the model may run on.

mod common;

use std::time::Duration;

use common::{Client, get, load, start};
use sigmax_core::engine::fake::Fake;
use sigmax_core::model::Placement;
use sigmax_core::model::device::Device;

const SLOW: Duration = Duration::from_micros(500);

fn on(device: &str, count: usize) -> Placement {
    Placement { device: device.parse().expect("a device"), count }
}

/// Two sets of engines to choose from: one on the GPU, or as many as serve best on the CPU.
fn either() -> Vec<Vec<Placement>> {
    vec![vec![on("cuda:0", 1)], vec![on("cpu", 0)]]
}

#[tokio::test]
async fn the_better_throughput_is_taken_and_both_are_told() {
    for (cpu, gpu, better) in [(SLOW, SLOW / 10, "cuda:0"), (SLOW / 10, SLOW, "cpu")] {
        let fake = Fake::new(2).with_cost(Duration::ZERO, cpu).with_gpu_cost(gpu);
        let server = start(|_| {});
        let report = load(&server, &fake, either()).expect("it loads");
        assert_eq!(report.device, better);
        let [on_gpu, on_cpu] = &*report.alternatives else { panic!("{report:?}") };
        assert_eq!((&*on_gpu.device, &*on_cpu.device), ("cuda:0", "cpu"));
        assert_eq!(on_gpu.rows_per_second > on_cpu.rows_per_second, better == "cuda:0");
        assert!(on_cpu.microseconds_per_row >= cpu.as_secs_f64() * 1e6, "{on_cpu:?}");
        assert!(report.device_reason.contains("cuda:0 gives"), "{}", report.device_reason);
        server.finish_loading();
        let client = Client::connect(&server).await;
        assert_eq!(client.infer([1.0, 2.0], None).await.expect("answered"), [1.0, 2.0]);
        let metrics = get(server.http_address(), "/metrics");
        let line =
            format!("sigmax_model_info{{model=\"fake\",version=\"1\",device=\"{better}\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[test]
fn several_engines_count_for_the_throughput() {
    let fake = Fake::new(2).with_cost(Duration::ZERO, SLOW).with_gpu_cost(SLOW * 2);
    let placements = vec![vec![on("cpu", 1)], vec![on("cuda:0", 3), on("cuda:1", 3)]];
    let report = load(&start(|_| {}), &fake, placements).expect("it loads");
    assert_eq!(report.device, "cuda:0, cuda:1");
    let mut made = fake.take_made();
    made.sort_unstable();
    let expected = [Device::Cpu; 1].into_iter().chain([Device::Cuda(0); 3]);
    assert_eq!(made, expected.chain([Device::Cuda(1); 3]).collect::<Vec<_>>());
}

#[test]
fn what_does_not_work_is_left_out_and_told() {
    let fake = Fake::new(2);
    fake.break_devices(&[Device::Cuda(0)]);
    let server = start(|_| {});
    let report = load(&server, &fake, either()).expect("it loads");
    assert_eq!((&*report.device, report.heavy), ("cpu", false));
    assert!(report.device_reason.ends_with("not cuda:0: cuda:0 is broken"), "{report:?}");
    fake.break_devices(&[Device::Cuda(0), Device::Cpu]);
    let error = load(&server, &fake, either()).expect_err("nothing works");
    assert_eq!(error, "cuda:0: cuda:0 is broken; cpu: cpu is broken");
    let error = load(&server, &fake, vec![vec![on("cuda:0", 1)]]).expect_err("it does not work");
    assert_eq!(error, "cuda:0 is broken");
}

#[test]
fn a_light_model_runs_in_the_shards_only_where_each_has_an_engine() {
    let server = start(|config| config.shards = 2);
    for (placement, heavy) in [
        (on("cpu", 0), false),
        (on("cpu", 2), false),
        (on("cpu", 1), true),
        (on("cpu", 3), true),
        (on("cuda:0", 2), true),
    ] {
        let report = load(&server, &Fake::new(2), vec![vec![placement]]).expect("it loads");
        assert_eq!(report.heavy, heavy, "{placement:?}");
        let metrics = get(server.http_address(), "/metrics");
        let workers = format!(
            "sigmax_workers{{model=\"fake\",version=\"1\",device=\"{}\"}} {}\n",
            placement.device, placement.count
        );
        assert_eq!(metrics.contains(&workers), heavy, "{metrics}");
    }
}
