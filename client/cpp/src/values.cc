#include <stdexcept>
#include <utility>

#include "sigmax/client.h"
#include "sigmax/v1/classifier.pb.h"

namespace sigmax {

std::string to_string(Code code) {
    static constexpr const char* kNames[] = {"OK",
                                             "CANCELLED",
                                             "UNKNOWN",
                                             "INVALID_ARGUMENT",
                                             "DEADLINE_EXCEEDED",
                                             "NOT_FOUND",
                                             "ALREADY_EXISTS",
                                             "PERMISSION_DENIED",
                                             "RESOURCE_EXHAUSTED",
                                             "FAILED_PRECONDITION",
                                             "ABORTED",
                                             "OUT_OF_RANGE",
                                             "UNIMPLEMENTED",
                                             "INTERNAL",
                                             "UNAVAILABLE",
                                             "DATA_LOSS",
                                             "UNAUTHENTICATED"};
    const auto number = static_cast<std::size_t>(code);
    return number < std::size(kNames) ? kNames[number] : "CODE_" + std::to_string(number);
}

std::string to_string(DataType type) {
    const std::string name = v1::DataType_Name(static_cast<v1::DataType>(type));
    const std::string prefix = "DATA_TYPE_";
    return name.empty() ? std::to_string(static_cast<int>(type)) : name.substr(prefix.size());
}

Error::Error(Code code, const std::string& message, std::string reason,
             std::map<std::string, std::string> fields)
    : std::runtime_error(message),
      code(code),
      reason(std::move(reason)),
      fields(std::move(fields)) {}

Tensor::Tensor(std::string name, DataType dtype, std::vector<std::int64_t> shape, std::string data)
    : name(std::move(name)), dtype(dtype), shape(std::move(shape)), data(std::move(data)) {}

const ScoredClass& Row::decided() const {
    if (decision.size() != 1) {
        throw std::logic_error("expected one class decided on, got " +
                               std::to_string(decision.size()) +
                               ": a multi-label model's are in `decision`");
    }
    return decision.front();
}

namespace detail {

void throw_ragged(std::size_t row, std::size_t expected, std::size_t found) {
    const std::string message = "rows: expected " + std::to_string(expected) +
                                " elements in each, as in the first, got " + std::to_string(found) +
                                " in row " + std::to_string(row);
    throw Error(Code::InvalidArgument, message, "SHAPE_MISMATCH", {{"rows", message}});
}

void throw_dtype(DataType expected, const Tensor& tensor) {
    const std::string message =
        "tensor '" + tensor.name + "': expected whole elements of " + to_string(expected) +
        ", got " + std::to_string(tensor.data.size()) + " bytes of " + to_string(tensor.dtype);
    throw Error(Code::InvalidArgument, message, "DTYPE_MISMATCH", {{"dtype", message}});
}

}  // namespace detail

}  // namespace sigmax
