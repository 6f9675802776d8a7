#include "sigmax/client.h"

#include <grpc/support/time.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <condition_variable>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>

#include "address.h"
#include "convert.h"
#include "sigmax/v1/classifier.grpc.pb.h"
#include "sigmax/wire.pb.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "expected a machine that is little-endian, as the protocol's raw tensors are"
#endif

namespace sigmax {
namespace {

using std::chrono::milliseconds;
using v1::ClassifierService;

constexpr const char* kServiceConfig = R"({
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [{"name": [{}], "retryPolicy": {
        "maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    }}]
})";

[[noreturn]] void fail_credentials(const std::string& option, const std::string& problem) {
    const std::string message = option + ": " + problem;
    throw Error(Code::InvalidArgument, message, "BAD_CREDENTIALS", {{option, message}});
}

/// The content of a file of PEM; empty where no file is named.
std::string read_pem(const std::string& path, const std::string& option) {
    if (path.empty()) {
        return "";
    }
    std::ifstream file(path, std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)), {});
    if (content.find("-----BEGIN ") == std::string::npos) {
        fail_credentials(option, "expected a file of PEM that can be read, got \"" + path + "\"");
    }
    return content;
}

std::shared_ptr<grpc::ChannelCredentials> make_credentials(const std::optional<Tls>& tls) {
    if (!tls) {
        return grpc::InsecureChannelCredentials();
    }
    if (tls->certificate_file.empty() != tls->key_file.empty()) {
        fail_credentials("tls", "expected a certificate and its key, got one of both");
    }
    return grpc::SslCredentials({read_pem(tls->ca_file, "tls.ca_file"),
                                 read_pem(tls->key_file, "tls.key_file"),
                                 read_pem(tls->certificate_file, "tls.certificate_file")});
}

grpc::ChannelArguments make_arguments(const internal::Target& target, const Options& options) {
    const int most = static_cast<int>(std::min<std::size_t>(options.max_message_bytes, INT_MAX));
    grpc::ChannelArguments arguments;
    arguments.SetServiceConfigJSON(kServiceConfig);
    arguments.SetMaxSendMessageSize(most);
    arguments.SetMaxReceiveMessageSize(most);
    // A request that this buffer cannot hold is never tried again.
    arguments.SetInt(GRPC_ARG_PER_RPC_RETRY_BUFFER_SIZE, most);
    // Pings find out that a server has vanished while a call waits for its answer.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
    // gRPC's own pauses, 1 to 120 seconds, are longer than a call's retries.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
    if (target.is_local) {
        arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    }
    if (!target.authority.empty()) {
        arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, target.authority);
    }
    if (options.tls && !options.tls->server_name.empty()) {
        arguments.SetSslTargetNameOverride(options.tls->server_name);
        arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, options.tls->server_name);
    }
    return arguments;
}

bool has_token(const Options& options) {
    const auto* text = std::get_if<std::string>(&options.token);
    return text == nullptr || !text->empty();
}

/// The token of a call. The error does not show it.
std::string get_token(const Options& options) {
    const auto* function = std::get_if<std::function<std::string()>>(&options.token);
    const std::string token = function ? (*function)() : std::get<std::string>(options.token);
    const auto is_visible = [](char character) { return character >= '!' && character <= '~'; };
    if (token.empty() || !std::all_of(token.begin(), token.end(), is_visible)) {
        fail_credentials("token", token.empty() ? "expected a token, got an empty one"
                                                : "expected visible ASCII, got other characters");
    }
    return token;
}

std::shared_ptr<grpc::Channel> make_channel(const std::string& address, const Options& options) {
    const internal::Target target = internal::parse_address(address);
    if (has_token(options) && !options.tls && !target.is_local) {
        fail_credentials("token", "expected TLS to " + target.name +
                                      ", for a token in plaintext can be read on the way: set tls; "
                                      "only to this machine is a token sent without");
    }
    if (std::holds_alternative<std::string>(options.token) && has_token(options)) {
        get_token(options);
    }
    return grpc::CreateCustomChannel(target.name, make_credentials(options.tls),
                                     make_arguments(target, options));
}

}  // namespace

// A channel, and the calls that are under way on it.
class Client::Connection {
  public:
    Connection(const std::string& address, const Options& options)
        : options(options),
          channel(make_channel(address, options)),
          stub(ClassifierService::NewStub(channel)) {}

    /// Gives a call its deadline and the token.
    void prepare(grpc::ClientContext& context, milliseconds timeout) const {
        if (timeout != milliseconds::max()) {
            const gpr_timespec time = gpr_time_from_millis(timeout.count(), GPR_TIMESPAN);
            context.set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), time));
        }
        if (has_token(options)) {
            context.AddMetadata("authorization", "Bearer " + get_token(options));
        }
    }

    /// Cancels all calls, and lets none begin.
    void close() {
        std::unique_lock lock(mutex_);
        is_closed_ = true;
        const auto calls = calls_;
        lock.unlock();  // a call that is cancelled may end, and leave, in this thread
        for (const auto& context : calls) {
            context->TryCancel();
        }
    }

    /// Waits until no call is under way.
    void wait() {
        std::unique_lock lock(mutex_);
        idle_.wait(lock, [this] { return calls_.empty(); });
    }

    void enter(const std::shared_ptr<grpc::ClientContext>& call) {
        const std::lock_guard lock(mutex_);
        if (is_closed_) {
            throw Error(Code::Cancelled, "the client is closed: make another");
        }
        calls_.insert(call);
    }

    void leave(const std::shared_ptr<grpc::ClientContext>& call) {
        const std::lock_guard lock(mutex_);
        calls_.erase(call);
        idle_.notify_all();
    }

    const Options options;
    const std::shared_ptr<grpc::Channel> channel;
    const std::unique_ptr<ClassifierService::Stub> stub;

  private:
    std::mutex mutex_;
    std::condition_variable idle_;
    std::set<std::shared_ptr<grpc::ClientContext>> calls_;
    bool is_closed_ = false;
};

/// A call, which is under way for as long as this lives.
class Client::Call {
  public:
    Call(std::shared_ptr<Connection> connection, std::optional<milliseconds> timeout)
        : connection_(std::move(connection)), context_(std::make_shared<grpc::ClientContext>()) {
        connection_->prepare(*context_, timeout.value_or(connection_->options.timeout));
        connection_->enter(context_);
    }
    ~Call() { connection_->leave(context_); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    grpc::ClientContext* context() const { return context_.get(); }
    ClassifierService::Stub& stub() const { return *connection_->stub; }

    /// The error that the call has ended with.
    Error error(const grpc::Status& status) const {
        const auto& trailers = context_->GetServerTrailingMetadata();
        const auto found = trailers.find("grpc-retry-pushback-ms");
        const bool is_final = found != trailers.end() && found->second.starts_with("-");
        return internal::from_status(status, is_final);
    }

    /// Throws the error where the call has failed.
    void check(const grpc::Status& status) const {
        if (!status.ok()) {
            throw error(status);
        }
    }

  private:
    const std::shared_ptr<Connection> connection_;
    const std::shared_ptr<grpc::ClientContext> context_;
};

/// A classification that nobody waits for: all that must live until its answer.
struct Client::Pending : Call {
    using Call::Call;

    v1::ClassifyRequest request;
    v1::ClassifyResponse response;

    Outcome outcome(const grpc::Status& status) {
        if (!status.ok()) {
            return error(status);
        }
        return internal::from_response(std::move(response));
    }
};

Client::Client(const std::string& address, const Options& options)
    : connection_(std::make_shared<Connection>(address, options)) {}

Client::~Client() {
    if (connection_) {
        connection_->close();
        connection_->wait();
    }
}

Client::Client(Client&& other) noexcept = default;

Client& Client::operator=(Client&& other) noexcept {
    if (this != &other) {
        const Client old(std::move(*this));
        connection_ = std::move(other.connection_);
    }
    return *this;
}

Result Client::classify(const std::string& model, Inputs inputs,
                        const ClassifyOptions& options) const {
    const auto request = internal::to_request(model, std::move(inputs).take(), options);
    v1::ClassifyResponse response;
    const Call call(connection_, options.timeout);
    call.check(call.stub().Classify(call.context(), request, &response));
    return internal::from_response(std::move(response));
}

void Client::classify_async(const std::string& model, Inputs inputs,
                            std::function<void(Outcome)> callback,
                            const ClassifyOptions& options) const {
    const auto pending = std::make_shared<Pending>(connection_, options.timeout);
    pending->request = internal::to_request(model, std::move(inputs).take(), options);
    pending->stub().async()->Classify(
        pending->context(), &pending->request, &pending->response,
        [pending, callback = std::move(callback)](const grpc::Status& status) {
            callback(pending->outcome(status));
        });
}

std::future<Result> Client::classify_async(const std::string& model, Inputs inputs,
                                           const ClassifyOptions& options) const {
    const auto promise = std::make_shared<std::promise<Result>>();
    const auto keep = [promise](Outcome outcome) {
        if (const auto* error = std::get_if<Error>(&outcome)) {
            promise->set_exception(std::make_exception_ptr(*error));
        } else {
            promise->set_value(std::get<Result>(std::move(outcome)));
        }
    };
    auto future = promise->get_future();
    classify_async(model, std::move(inputs), keep, options);
    return future;
}

std::vector<ModelSummary> Client::models() const {
    v1::ListModelsResponse response;
    const Call call(connection_, std::nullopt);
    call.check(call.stub().ListModels(call.context(), {}, &response));
    return internal::from_list(response);
}

Model Client::model(const std::string& name, const std::string& version) const {
    v1::GetModelRequest request;
    request.set_model_name(name);
    request.set_model_version(version);
    v1::GetModelResponse response;
    const Call call(connection_, std::nullopt);
    call.check(call.stub().GetModel(call.context(), request, &response));
    return internal::from_model(response.model());
}

Health Client::health(const std::string& service) const {
    wire::HealthCheckRequest request;
    request.set_service(service);
    wire::HealthCheckResponse response;
    const Call call(connection_, std::nullopt);
    const auto promise = std::make_shared<std::promise<grpc::Status>>();
    grpc::TemplatedGenericStub<wire::HealthCheckRequest, wire::HealthCheckResponse>(
        connection_->channel)
        .UnaryCall(call.context(), "/grpc.health.v1.Health/Check", {}, &request, &response,
                   [promise](grpc::Status status) { promise->set_value(std::move(status)); });
    call.check(promise->get_future().get());
    return static_cast<Health>(response.status());
}

void Client::close() noexcept { connection_->close(); }

std::shared_ptr<grpc::Channel> Client::channel() const { return connection_->channel; }

void Client::prepare(grpc::ClientContext& context) const {
    connection_->prepare(context, connection_->options.timeout);
}

}  // namespace sigmax
