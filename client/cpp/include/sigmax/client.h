/// The client of Sigmax: typed values in; labels, probabilities and decisions out.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <future>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace grpc {
class Channel;
class ClientContext;
}  // namespace grpc

namespace sigmax {

/// The codes of gRPC's statuses.
enum class Code {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
};

/// The code's name in gRPC, such as "INVALID_ARGUMENT".
std::string to_string(Code code);

/// A failed call. Errors that the client finds before sending look the same as the server's.
class Error : public std::runtime_error {
  public:
    Error(Code code, const std::string& message, std::string reason = "",
          std::map<std::string, std::string> fields = {});

    /// Code of the gRPC status.
    Code code;
    /// Reason for programs, such as "SHAPE_MISMATCH"; empty where none was given.
    std::string reason;
    /// Fields of the request that are wrong, each with a description; may be empty.
    std::map<std::string, std::string> fields;
    /// Time after which another try may succeed; absent where the server named none.
    std::optional<std::chrono::milliseconds> retry_after;
    /// Whether another try of the same call may succeed. The client has tried several times before
    /// it reports such an error.
    bool is_retryable = false;
};

/// The type of a tensor's elements; the numbers are the protocol's.
enum class DataType {
    Unspecified,  ///< In a request: the type of the model's input.
    Bool,         ///< 1 byte, 0 or 1.
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,   ///< IEEE 754 binary16, 2 bytes.
    Bf16,   ///< bfloat16, 2 bytes.
    Fp32,   ///< IEEE 754 binary32, `float`.
    Fp64,   ///< IEEE 754 binary64, `double`.
    Bytes,  ///< Strings of any bytes.
};

/// The type's name in the protocol, without "DATA_TYPE_", such as "FP32".
std::string to_string(DataType type);

/// Elements in contiguous memory that somebody else owns, as std::span of C++20.
template <class T>
class View {
  public:
    View(const T* data, std::size_t size) : data_(data), size_(size) {}
    View(const std::vector<T>& elements) : View(elements.data(), elements.size()) {}
    template <std::size_t N>
    View(const std::array<T, N>& elements) : View(elements.data(), N) {}
    template <std::size_t N>
    View(const T (&elements)[N]) : View(elements, N) {}

    const T* data() const { return data_; }
    std::size_t size() const { return size_; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }

  private:
    const T* data_;
    std::size_t size_;
};

/// A dense, row-major tensor.
///
/// The type of C++ is the type of the elements: `float` is FP32, `std::int64_t` INT64,
/// `std::string` BYTES. FP16 and BF16, which C++17 lacks, are given as raw bytes.
struct Tensor {
    /// Name of the input; may be empty for a model with one input.
    std::string name;
    /// Type of the elements.
    DataType dtype = DataType::Unspecified;
    /// Size of each axis, the batch first.
    std::vector<std::int64_t> shape;
    /// Elements in little-endian, without padding. Each string of BYTES follows its length, 4
    /// bytes.
    std::string data;

    Tensor() = default;
    /// A tensor of raw bytes.
    Tensor(std::string name, DataType dtype, std::vector<std::int64_t> shape, std::string data);

    /// One row: a tensor of the shape [1, elements].
    template <class T>
    Tensor(std::string name, const std::vector<T>& row);
    template <class T>
    Tensor(const std::vector<T>& row) : Tensor("", row) {}

    /// A batch: a tensor of the shape [rows, elements].
    /// @throws Error of the reason "SHAPE_MISMATCH": the rows differ in size.
    template <class T>
    Tensor(std::string name, const std::vector<std::vector<T>>& rows);
    template <class T>
    Tensor(const std::vector<std::vector<T>>& rows) : Tensor("", rows) {}

    /// Elements in row-major order, copied, with any shape.
    template <class T>
    static Tensor of(View<T> elements, std::vector<std::int64_t> shape, std::string name = "");

    /// The elements in row-major order. BYTES have none of this kind.
    /// @throws Error of the reason "DTYPE_MISMATCH": the tensor has elements of another type.
    template <class T>
    std::vector<T> values() const;
};

/// The inputs of a request: one tensor or typed values for a model of one input, else a tensor with
/// a name for each input, in any order.
class Inputs {
  public:
    Inputs(Tensor tensor) { tensors_.push_back(std::move(tensor)); }
    Inputs(std::vector<Tensor> tensors) : tensors_(std::move(tensors)) {}
    Inputs(std::initializer_list<Tensor> tensors) : tensors_(tensors) {}
    /// One row, or a batch where the elements are rows.
    template <class T>
    Inputs(const std::vector<T>& values) : Inputs(Tensor(values)) {}

    /// The tensors, to be moved away.
    std::vector<Tensor> take() && { return std::move(tensors_); }

  private:
    std::vector<Tensor> tensors_;
};

/// A class and its probability.
struct ScoredClass {
    std::uint32_t index = 0;  ///< Index of the class, from 0.
    std::string label;        ///< Name of the class; empty where the model declares no labels.
    float probability = 0;    ///< Probability of the class, in [0, 1].
};

/// The answer to one row.
struct Row {
    /// Most probable classes first; at most `top_k`. A binary model has two.
    std::vector<ScoredClass> classes;
    /// Classes decided on, in the order of their indices: exactly one of a binary or multi-class
    /// model, any number of a multi-label model.
    std::vector<ScoredClass> decision;

    /// The label of the one class decided on, its index, and its probability.
    /// @throws std::logic_error: none or several are decided on (multi-label); see `decision`.
    const std::string& label() const { return decided().label; }
    std::uint32_t index() const { return decided().index; }
    float probability() const { return decided().probability; }

  private:
    const ScoredClass& decided() const;
};

/// The time that a request spent in the server.
struct Timings {
    std::chrono::nanoseconds queue{};    ///< From the request's check to the start of its batch.
    std::chrono::nanoseconds compute{};  ///< The whole batch.
    std::chrono::nanoseconds total{};    ///< From the call's headers to the answer's encoding.
    std::uint32_t batch_rows = 0;        ///< Rows of the batch, the request's own included.
};

/// The answer to a batch of rows.
struct Result {
    std::string model;      ///< Name of the model that answered.
    std::string version;    ///< Version that answered, as a decimal number.
    std::string head;       ///< Head that classified; empty where the model's one has no name.
    std::vector<Row> rows;  ///< Answers to the rows, in the order of the request.
    /// Output of the head, unchanged: [rows, classes], or one for each row of a binary head. Absent
    /// unless asked for.
    std::optional<Tensor> probabilities;
    Timings timings;
};

/// What may be asked of a classification.
struct ClassifyOptions {
    std::string version;                ///< Version, decimal; empty: the newest that is ready.
    std::string head;                   ///< Head of the model; empty: the first.
    std::uint32_t top_k = 0;            ///< Most classes of each row; 0: all.
    std::optional<float> threshold;     ///< Instead of the model's own, in [0, 1].
    bool return_probabilities = false;  ///< Whether to return the tensor of all probabilities.
    /// Time for the call with all its tries; absent: the client's.
    std::optional<std::chrono::milliseconds> timeout;
};

/// The meaning of a model's output.
enum class Task { Unspecified, Binary, Multiclass, Multilabel };

/// The state of a version of a model.
enum class ModelState { Unspecified, Loading, Ready, Unavailable };

/// One version of a model.
struct ModelVersion {
    std::string version;  ///< Number, decimal.
    ModelState state = ModelState::Unspecified;
    std::string reason;  ///< Why the version is not ready, for people.
};

/// A model as a list has it.
struct ModelSummary {
    std::string name;
    std::vector<ModelVersion> versions;  ///< The newest first.
    Task task = Task::Unspecified;       ///< Of the newest ready version.
};

/// One input or output of a model.
struct TensorDescription {
    std::string name;
    DataType dtype = DataType::Unspecified;
    std::vector<std::int64_t> shape;  ///< The batch first; -1: any size.
    std::string meaning;              ///< For people; may be empty.
    std::string encoding;             ///< "utf-8" of text in bytes; else empty.
    bool any_rank = false;            ///< Any number of axes; `shape` is empty then.
};

/// An output of a model as a classification.
struct Head {
    std::string name;    ///< Empty where the model has one head without a name.
    std::string output;  ///< Output that has the probabilities.
    Task task = Task::Unspecified;
    std::vector<std::string> labels;  ///< By index; empty where none are declared.
    std::vector<float> thresholds;    ///< Binary: one. Multi-label: one each. Multi-class: none.
};

/// The description of one version of a model.
struct Model {
    std::string name;
    std::string version;                     ///< Version described, decimal.
    std::vector<ModelVersion> versions;      ///< All versions, the newest first.
    std::vector<TensorDescription> inputs;   ///< In the graph's order.
    std::vector<TensorDescription> outputs;  ///< In the graph's order.
    std::vector<Head> heads;                 ///< The first is the default; none: not a classifier.
    std::string device;                      ///< Such as "cpu" or "cuda:0".
    std::uint32_t max_batch_size = 0;        ///< Most rows of a request; 0: no batch axis.
    std::uint32_t preferred_batch_size = 0;  ///< Rows from which on a row gets no cheaper.
    bool rows_independent = false;           ///< Whether rows do not affect each other's answers.
    std::vector<std::string> warnings;       ///< What a user of the model should know.
};

/// The health of a server or a model, by grpc.health.v1.
enum class Health { Unknown, Serving, NotServing, ServiceUnknown };

/// How TLS is spoken. Files are PEM, and read when a client is made. gRPC itself finds out whether
/// a key belongs to its certificate: where the key does not, calls fail as UNAVAILABLE.
struct Tls {
    std::string ca_file;           ///< Authorities to trust; empty: the system's.
    std::string certificate_file;  ///< The client's own certificate; empty: none is shown.
    std::string key_file;          ///< The key of that certificate.
    std::string server_name;       ///< Name in the server's certificate; empty: the address's.
};

/// How a client reaches its server.
struct Options {
    /// TLS; absent: plaintext.
    std::optional<Tls> tls;
    /// Token of visible ASCII, or a function that is called for every call by the thread that makes
    /// it. An empty text: no token.
    std::variant<std::string, std::function<std::string()>> token;
    /// Time for each call with all its tries; `milliseconds::max()`: no limit.
    std::chrono::milliseconds timeout{10'000};
    /// Most bytes of a request, and of an answer.
    std::size_t max_message_bytes = std::size_t{64} << 20;
};

/// The outcome of a call: a result, or why there is none.
using Outcome = std::variant<Result, Error>;

/// A client of one server, or of several behind one name. All threads may share a client.
///
/// Every function that asks the server throws Error where the call fails. Calls that end as
/// UNAVAILABLE or RESOURCE_EXHAUSTED are tried up to four times, when the server says.
///
/// The destructor cancels the calls that are under way, and waits for their callbacks; so a
/// callback must not destroy its client.
class Client {
  public:
    /// A client, which connects when a call first needs it.
    /// @param address "HOST", "HOST:PORT" (8001 where there is none), "unix:PATH", or a target in
    ///     gRPC's notation, such as "dns:///name:8001" or "ipv4:10.0.0.1:8001,10.0.0.2:8001".
    /// @throws Error INVALID_ARGUMENT: the address is none ("BAD_ADDRESS"), a file of TLS cannot be
    ///     used, or a token would be sent in plaintext to another machine ("BAD_CREDENTIALS").
    explicit Client(const std::string& address, const Options& options = {});
    ~Client();
    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;

    /// Classifies one row or a batch.
    Result classify(const std::string& model, Inputs inputs,
                    const ClassifyOptions& options = {}) const;

    /// Classifies without waiting. An error of the call is thrown by the future's `get`.
    /// @throws Error at once: the client is closed, or the token is none.
    std::future<Result> classify_async(const std::string& model, Inputs inputs,
                                       const ClassifyOptions& options = {}) const;
    /// Classifies without waiting. The callback runs once, in a thread of gRPC; the callback must
    /// not throw, and should not block.
    /// @throws Error at once: the client is closed, or the token is none.
    void classify_async(const std::string& model, Inputs inputs,
                        std::function<void(Outcome)> callback,
                        const ClassifyOptions& options = {}) const;

    /// All models of the server, in the order of their names.
    std::vector<ModelSummary> models() const;
    /// The description of one version of a model; without a version, of the newest that is ready.
    Model model(const std::string& name, const std::string& version = "") const;
    /// The health of a model, or of the server where the name is empty.
    Health health(const std::string& service = "") const;

    /// Cancels the calls that are under way; later calls fail as CANCELLED.
    void close() noexcept;

    /// The channel, for stubs of other services and for `ClassifyStream` of
    /// `sigmax::v1::ClassifierService`. Such code includes `grpcpp/grpcpp.h` and
    /// `sigmax/v1/classifier.grpc.pb.h`.
    std::shared_ptr<grpc::Channel> channel() const;
    /// Gives a call of such a stub the client's token and timeout.
    void prepare(grpc::ClientContext& context) const;

  private:
    class Connection;
    class Call;
    struct Pending;
    std::shared_ptr<Connection> connection_;
};

// What follows is the templates' code.

/// The type of the protocol for a type of C++.
template <class T>
constexpr DataType data_type() {
    if constexpr (std::is_same_v<T, std::string>) {
        return DataType::Bytes;
    } else if constexpr (std::is_same_v<T, bool>) {
        return DataType::Bool;
    } else if constexpr (std::is_same_v<T, float>) {
        return DataType::Fp32;
    } else if constexpr (std::is_same_v<T, double>) {
        return DataType::Fp64;
    } else {
        static_assert(std::is_integral_v<T> && sizeof(T) <= 8,
                      "expected bool, an integer, float, double or std::string; give other types "
                      "as raw bytes with their DataType");
        // The four sizes of either sign are neighbours in the enumeration.
        constexpr int first =
            static_cast<int>(std::is_signed_v<T> ? DataType::Int8 : DataType::Uint8);
        constexpr int size = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
        return static_cast<DataType>(first + size);
    }
}

namespace detail {

/// The error of a row whose size is not that of the rows before, given as counts of elements.
[[noreturn]] void throw_ragged(std::size_t row, std::size_t expected, std::size_t found);
/// The error of a tensor whose bytes are not whole elements of the expected type.
[[noreturn]] void throw_dtype(DataType expected, const Tensor& tensor);

/// Appends elements in the memory's order of bytes, which src/client.cc holds to be little-endian.
template <class T>
void append(std::string& data, View<T> elements) {
    data.append(reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(T));
}

inline void append(std::string& data, View<std::string> elements) {
    for (const std::string& element : elements) {
        const auto length = static_cast<std::uint32_t>(element.size());
        append(data, View<std::uint32_t>(&length, 1));
        data += element;
    }
}

template <class T>
void append(std::string& data, const std::vector<T>& elements) {
    append(data, View<T>(elements));
}

inline void append(std::string& data, const std::vector<bool>& elements) {
    data.append(elements.begin(), elements.end());
}

}  // namespace detail

template <class T>
Tensor::Tensor(std::string name, const std::vector<T>& row)
    : name(std::move(name)),
      dtype(data_type<T>()),
      shape{1, static_cast<std::int64_t>(row.size())} {
    detail::append(data, row);
}

template <class T>
Tensor::Tensor(std::string name, const std::vector<std::vector<T>>& rows)
    : name(std::move(name)), dtype(data_type<T>()) {
    const std::size_t width = rows.empty() ? 0 : rows.front().size();
    shape = {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(width)};
    for (std::size_t row = 0; row < rows.size(); ++row) {
        if (rows[row].size() != width) {
            detail::throw_ragged(row, width, rows[row].size());
        }
        detail::append(data, rows[row]);
    }
}

template <class T>
Tensor Tensor::of(View<T> elements, std::vector<std::int64_t> shape, std::string name) {
    Tensor tensor(std::move(name), data_type<T>(), std::move(shape), "");
    detail::append(tensor.data, elements);
    return tensor;
}

template <class T>
std::vector<T> Tensor::values() const {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>,
                  "expected a type of numbers");
    if (dtype != data_type<T>() || data.size() % sizeof(T) != 0) {
        detail::throw_dtype(data_type<T>(), *this);
    }
    std::vector<T> elements(data.size() / sizeof(T));
    if (!data.empty()) {
        std::memcpy(elements.data(), data.data(), data.size());
    }
    return elements;
}

}  // namespace sigmax
