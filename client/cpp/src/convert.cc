#include "convert.h"

#include <utility>

#include "sigmax/wire.pb.h"

namespace sigmax::internal {
namespace {

template <class Field, class Convert>
auto convert_all(const Field& field, Convert convert) {
    std::vector<decltype(convert(*field.begin()))> converted;
    converted.reserve(static_cast<std::size_t>(field.size()));
    for (const auto& element : field) {
        converted.push_back(convert(element));
    }
    return converted;
}

template <class Field>
auto to_vector(const Field& field) {
    return std::vector<typename Field::value_type>(field.begin(), field.end());
}

ScoredClass from_class(const v1::ScoredClass& scored) {
    return {scored.index(), scored.label(), scored.probability()};
}

Row from_row(const v1::Classification& row) {
    Row converted;
    converted.classes = convert_all(row.classes(), from_class);
    converted.decision = convert_all(row.decision(), from_class);
    return converted;
}

ModelVersion from_version(const v1::ModelVersion& version) {
    return {version.version(), static_cast<ModelState>(version.state()), version.reason()};
}

ModelSummary from_summary(const v1::ModelSummary& summary) {
    return {summary.name(), convert_all(summary.versions(), from_version),
            static_cast<Task>(summary.task())};
}

TensorDescription from_description(const v1::TensorDescription& tensor) {
    return {tensor.name(),
            static_cast<DataType>(tensor.dtype()),
            to_vector(tensor.shape()),
            tensor.meaning(),
            tensor.encoding(),
            tensor.any_rank()};
}

Head from_head(const v1::Head& head) {
    return {head.name(), head.output(), static_cast<Task>(head.task()), to_vector(head.labels()),
            to_vector(head.thresholds())};
}

/// The first detail of a type of google.rpc; an empty message where there is none, or no whole one.
template <class Message>
Message find_detail(const wire::Status& status, const std::string& type) {
    Message message;
    for (const wire::Detail& detail : status.details()) {
        if (detail.type_url().substr(detail.type_url().rfind('/') + 1) == "google.rpc." + type) {
            if (!message.ParseFromString(detail.value())) {
                message.Clear();
            }
            break;
        }
    }
    return message;
}

std::chrono::milliseconds to_milliseconds(const google::protobuf::Duration& time) {
    // A fraction of a millisecond counts as a whole one: the time is not over before.
    return std::chrono::seconds(time.seconds()) +
           std::chrono::milliseconds((time.nanos() + 999'999) / 1'000'000);
}

}  // namespace

v1::ClassifyRequest to_request(const std::string& model, std::vector<Tensor> inputs,
                               const ClassifyOptions& options) {
    v1::ClassifyRequest request;
    request.set_model_name(model);
    request.set_model_version(options.version);
    request.set_head(options.head);
    request.set_top_k(options.top_k);
    request.set_return_probabilities(options.return_probabilities);
    if (options.threshold) {
        request.set_threshold(*options.threshold);
    }
    for (Tensor& input : inputs) {
        v1::Tensor& tensor = *request.add_inputs();
        tensor.set_name(std::move(input.name));
        tensor.set_dtype(static_cast<v1::DataType>(input.dtype));
        tensor.mutable_shape()->Add(input.shape.begin(), input.shape.end());
        tensor.set_raw(std::move(input.data));
    }
    return request;
}

Result from_response(v1::ClassifyResponse response) {
    using std::chrono::nanoseconds;
    Result result;
    result.model = std::move(*response.mutable_model_name());
    result.version = std::move(*response.mutable_model_version());
    result.head = std::move(*response.mutable_head());
    result.rows = convert_all(response.rows(), from_row);
    if (response.has_probabilities()) {
        v1::Tensor& tensor = *response.mutable_probabilities();
        result.probabilities.emplace(std::move(*tensor.mutable_name()),
                                     static_cast<DataType>(tensor.dtype()),
                                     to_vector(tensor.shape()), std::move(*tensor.mutable_raw()));
    }
    const v1::Timings& timings = response.timings();
    result.timings = {nanoseconds(timings.queue_ns()), nanoseconds(timings.compute_ns()),
                      nanoseconds(timings.total_ns()), timings.batch_rows()};
    return result;
}

std::vector<ModelSummary> from_list(const v1::ListModelsResponse& response) {
    return convert_all(response.models(), from_summary);
}

Model from_model(const v1::Model& model) {
    return {model.name(),
            model.version(),
            convert_all(model.versions(), from_version),
            convert_all(model.inputs(), from_description),
            convert_all(model.outputs(), from_description),
            convert_all(model.heads(), from_head),
            model.device(),
            model.max_batch_size(),
            model.preferred_batch_size(),
            model.rows_independent(),
            to_vector(model.warnings())};
}

Error from_status(const grpc::Status& status, bool is_final) {
    wire::Status details;
    if (!details.ParseFromString(status.error_details())) {
        details.Clear();
    }
    const auto code = static_cast<Code>(status.error_code());
    const auto text = status.error_message().empty() ? to_string(code) : status.error_message();
    Error error(code, text, find_detail<wire::ErrorInfo>(details, "ErrorInfo").reason());
    const auto bad_request = find_detail<wire::BadRequest>(details, "BadRequest");
    for (const auto& violation : bad_request.field_violations()) {
        error.fields[violation.field()] = violation.description();
    }
    const auto retry = find_detail<wire::RetryInfo>(details, "RetryInfo");
    if (retry.has_retry_delay()) {
        error.retry_after = to_milliseconds(retry.retry_delay());
    }
    error.is_retryable =
        !is_final && (code == Code::Unavailable || code == Code::ResourceExhausted);
    return error;
}

}  // namespace sigmax::internal
