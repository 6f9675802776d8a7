//! The metrics as Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use tonic::Code;

use crate::log;
use crate::metrics::counters::Histogram;
use crate::metrics::model::ModelMetrics;
use crate::metrics::outcome::Refusal;
use crate::metrics::{Metrics, Shown, WorkerMetrics, Writers};

/// The numbers that are not counted but looked up at a scrape.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Whether the server is ready.
    pub is_ready: bool,
    /// The connections that are open.
    pub open_connections: usize,
    /// The bytes that requests and answers under way hold.
    pub message_bytes: usize,
    /// The most bytes that requests and answers under way may hold.
    pub message_bytes_limit: usize,
    /// The lines of the audit log that were dropped; none: there is no audit log.
    pub audit_lines_dropped: Option<u64>,
}

impl Metrics {
    /// All metrics, in Prometheus' text format 0.0.4.
    pub fn text(&self, now: Now) -> String {
        let mut text = String::new();
        let mut single = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        single("sigmax_ready", "gauge", "Whether the server is ready.", u64::from(now.is_ready));
        single(
            "sigmax_open_connections",
            "gauge",
            "Open connections.",
            now.open_connections as u64,
        );
        let opened = self.connections.load(Relaxed);
        single("sigmax_connections_total", "counter", "Connections accepted.", opened);
        let refused = self.connections_refused.load(Relaxed);
        let help = "Connections refused for being too many.";
        single("sigmax_connections_refused_total", "counter", help, refused);
        let help = "Lines of the log that found no room, or could not be written.";
        single("sigmax_log_lines_dropped_total", "counter", help, log::STDERR.dropped());
        let evicted = self.connections_evicted.load(Relaxed);
        let help = "Idle connections ended to make room for others.";
        single("sigmax_connections_evicted_total", "counter", help, evicted);
        let late = self.handshakes_late.load(Relaxed);
        let help = "Connections whose clients did not begin to speak HTTP/2 in time.";
        single("sigmax_handshakes_late_total", "counter", help, late);
        let stalled = self.connections_stalled.load(Relaxed);
        let help =
            "Connections cut off because their clients kept a message waiting or took no answer.";
        single("sigmax_connections_stalled_total", "counter", help, stalled);
        let aged = self.connections_aged.load(Relaxed);
        let help = "Connections whose clients were asked to connect anew, for their age.";
        single("sigmax_connections_aged_total", "counter", help, aged);
        let help = "Bytes that requests and answers under way hold.";
        single("sigmax_message_bytes", "gauge", help, now.message_bytes as u64);
        let help = "Most bytes that requests and answers under way may hold.";
        single("sigmax_message_bytes_limit", "gauge", help, now.message_bytes_limit as u64);

        if let Some(dropped) = now.audit_lines_dropped {
            let help = "Lines of the audit log that found no room, or could not be written.";
            single("sigmax_audit_lines_dropped_total", "counter", help, dropped);
        }
        if let Some(tls) = &self.tls {
            tls.write(&mut text);
        }
        self.reloads.write(&mut text);
        if let Some(access) = &self.access {
            access.write(&mut text);
        }
        shown_text(&mut text, &self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        requests_text(&mut text, &writers);
        refusals_text(&mut text, &writers);
        let seconds = 1e9;
        histogram_text(
            &mut text,
            &writers,
            ("sigmax_request_seconds", "From a request's first byte to its answer, in seconds."),
            seconds,
            |metrics| &metrics.latency,
        );
        histogram_text(
            &mut text,
            &writers,
            (
                "sigmax_queue_seconds",
                "From a checked request to the start of its batch, in seconds.",
            ),
            seconds,
            |metrics| &metrics.queue,
        );
        histogram_text(
            &mut text,
            &writers,
            (
                "sigmax_compute_seconds",
                "Time of a batch: rows gathered, network run, outputs split, in seconds.",
            ),
            seconds,
            |metrics| &metrics.compute,
        );
        histogram_text(
            &mut text,
            &writers,
            ("sigmax_batch_rows", "Rows in a batch that was run."),
            1.0,
            |metrics| &metrics.batch_rows,
        );
        text
    }
}

fn shown_text(text: &mut String, shown: &BTreeMap<(String, u64), Shown>) {
    let head = |text: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    };
    let name = "sigmax_model_info";
    head(text, name, "gauge", "1 for every model, with the devices that it runs on.");
    for (key, Shown { device, .. }) in shown {
        let _ = writeln!(text, "{name}{{{},device=\"{device}\"}} 1", labels(key));
    }
    let name = "sigmax_queued_rows";
    head(text, name, "gauge", "Rows waiting for a batch.");
    for (key, Shown { queued_rows, .. }) in shown {
        let _ = writeln!(text, "{name}{{{}}} {}", labels(key), queued_rows.get());
    }
    let workers =
        || shown.iter().flat_map(|(key, shown)| shown.workers.iter().map(move |one| (key, one)));
    let name = "sigmax_workers";
    head(text, name, "gauge", "Threads with an engine of their own that serve a model.");
    for (key, WorkerMetrics { device, alive, .. }) in
        workers().map(|(key, worker)| (key, &**worker))
    {
        let alive = alive.load(Relaxed);
        let _ = writeln!(text, "{name}{{{},device=\"{device}\"}} {alive}", labels(key));
    }
    let name = "sigmax_worker_faults_total";
    head(text, name, "counter", "Engines lost by a failure of their device or by a panic.");
    for (key, WorkerMetrics { device, faults, .. }) in
        workers().map(|(key, worker)| (key, &**worker))
    {
        let faults = faults.load(Relaxed);
        let _ = writeln!(text, "{name}{{{},device=\"{device}\"}} {faults}", labels(key));
    }
}

fn requests_text(text: &mut String, writers: &Writers) {
    let name = "sigmax_requests_total";
    let _ = writeln!(text, "# HELP {name} Requests that have ended, by model and status code.");
    let _ = writeln!(text, "# TYPE {name} counter");
    for (key, writers) in writers {
        for code in 0..17 {
            let count: u64 = writers.iter().map(|writer| writer.requests[code].get()).sum();
            if count > 0 {
                let code = code_name(Code::from(code as i32));
                let _ = writeln!(text, "{name}{{{},code=\"{code}\"}} {count}", labels(key));
            }
        }
    }
}

fn refusals_text(text: &mut String, writers: &Writers) {
    let name = "sigmax_refused_total";
    let _ = writeln!(text, "# HELP {name} Requests not run though they were right, by reason.");
    let _ = writeln!(text, "# TYPE {name} counter");
    for (key, writers) in writers {
        for (refusal, reason) in Refusal::ALL {
            let count: u64 =
                writers.iter().map(|writer| writer.refusals[refusal as usize].get()).sum();
            let _ = writeln!(text, "{name}{{{},reason=\"{reason}\"}} {count}", labels(key));
        }
    }
}

fn histogram_text<const N: usize>(
    text: &mut String,
    writers: &Writers,
    (name, help): (&str, &str),
    unit: f64,
    pick: impl Fn(&ModelMetrics) -> &Histogram<N>,
) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    for (key, writers) in writers.iter().filter(|(key, _)| key.1 > 0) {
        let all: Vec<_> = writers.iter().map(|writer| pick(writer)).collect();
        let labels = labels(key);
        let mut below = 0;
        for slot in 0..N {
            below += all.iter().map(|one| one.counts[slot].get()).sum::<u64>();
            let bound = all[0].bounds[slot] as f64 / unit;
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        below += all.iter().map(|one| one.over.get()).sum::<u64>();
        let sum = all.iter().map(|one| one.sum.get()).sum::<u64>() as f64 / unit;
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {below}");
        let _ = writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {below}");
    }
}

fn labels((model, version): &(String, u64)) -> String {
    let model = model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("model=\"{model}\",version=\"{version}\"")
}

/// The name of a code as gRPC's specification writes it, such as `INVALID_ARGUMENT`.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
