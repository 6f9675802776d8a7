//! ModelStatistics: the counters of models, in Triton's terms.

use tonic::Status;

use crate::error::{Dialect, Error};
use crate::metrics::Metrics;
use crate::metrics::statistics::{BatchStatistics, Elapsed, Statistics};
use crate::model::catalog::{Snapshot, State, parse_version};
use crate::proto::inference::{
    InferBatchStatistics, InferStatistics, ModelStatistics, ModelStatisticsRequest,
    ModelStatisticsResponse, StatisticDuration,
};

/// The statistics of one version, of all versions of a model, or of all models: of those versions
/// that are ready.
pub fn of_models(
    snapshot: &Snapshot,
    metrics: &Metrics,
    request: &ModelStatisticsRequest,
) -> Result<ModelStatisticsResponse, Status> {
    let ModelStatisticsRequest { name, version } = request;
    let wanted = parse_version(version).map_err(|error| error.status(Dialect::Inference))?;
    if !name.is_empty() && snapshot.versions(name).is_none() {
        let detail = format!("requested model '{name}' is not available");
        return Err(Error::BadField { field: "name", detail }.status(Dialect::Inference));
    }
    let of_model = snapshot.models().filter(|(model, _)| name.is_empty() || model == name);
    let ready = of_model.flat_map(|(model, versions)| {
        let ready = versions.iter().filter(|(_, state)| matches!(state, State::Ready(_)));
        ready.map(move |(version, _)| (model, *version))
    });
    let asked = ready.filter(|(_, version)| wanted.is_none_or(|wanted| wanted == *version));
    let model_stats: Vec<_> = asked
        .map(|(model, version)| wire(model, version, &metrics.statistics(model, version)))
        .collect();
    if model_stats.is_empty() && !name.is_empty() {
        let detail = format!("requested model version is not available for model '{name}'");
        return Err(Error::BadField { field: "version", detail }.status(Dialect::Inference));
    }
    Ok(ModelStatisticsResponse { model_stats })
}

fn wire(model: &str, version: u64, statistics: &Statistics) -> ModelStatistics {
    let duration = |elapsed: Elapsed| {
        Some(StatisticDuration { count: elapsed.count, ns: elapsed.nanoseconds })
    };
    let batch = |(rows, batch): (&usize, &BatchStatistics)| InferBatchStatistics {
        batch_size: *rows as u64,
        compute_input: duration(batch.input),
        compute_infer: duration(batch.infer),
        compute_output: duration(batch.output),
    };
    ModelStatistics {
        name: model.to_owned(),
        version: version.to_string(),
        last_inference: statistics.last_inference,
        inference_count: statistics.rows,
        execution_count: statistics.executions,
        inference_stats: Some(InferStatistics {
            success: duration(statistics.success),
            fail: duration(statistics.fail),
            queue: duration(statistics.queue),
            compute_input: duration(statistics.input),
            compute_infer: duration(statistics.infer),
            compute_output: duration(statistics.output),
            cache_hit: duration(Elapsed::default()),
            cache_miss: duration(Elapsed::default()),
        }),
        batch_stats: statistics.batches.iter().map(batch).collect(),
        ..Default::default()
    }
}
