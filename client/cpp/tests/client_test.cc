#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#define DOCTEST_CONFIG_SUPER_FAST_ASSERTS
#include "sigmax/client.h"

#include <doctest/doctest.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>

#include <atomic>
#include <fstream>
#include <mutex>
#include <thread>
#include <type_traits>

#include "sigmax/v1/classifier.grpc.pb.h"
#include "sigmax/wire.pb.h"

using namespace std::chrono_literals;
using sigmax::Client;
using sigmax::Code;
using sigmax::DataType;
using sigmax::Error;
using sigmax::Inputs;
using sigmax::Options;
using sigmax::Outcome;
using sigmax::Result;
using sigmax::Tensor;

static_assert(!std::is_copy_constructible_v<Client> &&
              std::is_nothrow_move_constructible_v<Client>);
static_assert(std::is_nothrow_move_assignable_v<Client>);

namespace {

using Shape = std::vector<std::int64_t>;
using Request = sigmax::v1::ClassifyRequest;
using Response = sigmax::v1::ClassifyResponse;
using Context = grpc::CallbackServerContext;

/// Runs code that fails, and returns its error.
template <class Code>
Error failure(Code code) {
    try {
        code();
    } catch (const Error& error) {
        return error;
    }
    FAIL("expected an error, got none");
    throw std::logic_error("unreachable");
}

/// A call that is answered by nothing but its end.
class Held : public grpc::ServerUnaryReactor {
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }
};

/// A peer that answers as a test says: with a status, or never.
class Peer : public sigmax::v1::ClassifierService::CallbackService {
  public:
    using Answer = std::function<std::optional<grpc::Status>(Context&, const Request&, Response&)>;

    explicit Peer(Answer answer) : answer_(std::move(answer)) {
        grpc::ServerBuilder builder;
        builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
        builder.RegisterService(this);
        builder.SetMaxReceiveMessageSize(-1);
        server_ = builder.BuildAndStart();
    }

    ~Peer() override { server_->Shutdown(std::chrono::system_clock::now()); }

    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    int calls() const { return calls_; }

    grpc::ServerUnaryReactor* Classify(Context* context, const Request* request,
                                       Response* response) override {
        ++calls_;
        const auto status = answer_(*context, *request, *response);
        if (!status) {
            return new Held;
        }
        auto* reactor = context->DefaultReactor();
        reactor->Finish(*status);
        return reactor;
    }

    grpc::ServerUnaryReactor* ListModels(Context* context, const sigmax::v1::ListModelsRequest*,
                                         sigmax::v1::ListModelsResponse* response) override {
        auto& model = *response->add_models();
        model.set_name("animal");
        model.set_task(sigmax::v1::TASK_MULTICLASS);
        auto& version = *model.add_versions();
        version.set_version("3");
        version.set_state(sigmax::v1::MODEL_STATE_UNAVAILABLE);
        version.set_reason("broken");
        auto* reactor = context->DefaultReactor();
        reactor->Finish(grpc::Status::OK);
        return reactor;
    }

    grpc::ServerUnaryReactor* GetModel(Context* context, const sigmax::v1::GetModelRequest* request,
                                       sigmax::v1::GetModelResponse* response) override {
        auto& model = *response->mutable_model();
        model.set_name(request->model_name());
        model.set_version(request->model_version());
        model.set_max_batch_size(64);
        model.set_rows_independent(true);
        model.add_warnings("slow");
        auto& input = *model.add_inputs();
        input.set_name("x");
        input.set_dtype(sigmax::v1::DATA_TYPE_FP16);
        input.add_shape(-1);
        auto& head = *model.add_heads();
        head.set_task(sigmax::v1::TASK_BINARY);
        head.add_labels("cat");
        head.add_thresholds(0.5F);
        auto* reactor = context->DefaultReactor();
        reactor->Finish(grpc::Status::OK);
        return reactor;
    }

  private:
    const Answer answer_;
    std::atomic<int> calls_ = 0;
    int port_ = 0;
    std::unique_ptr<grpc::Server> server_;
};

grpc::Status accept(Context&, const Request& request, Response& response) {
    response.set_model_name(request.model_name());
    auto& row = *response.add_rows();
    for (auto* scored : {row.add_classes(), row.add_decision()}) {
        scored->set_index(1);
        scored->set_label("lynx");
        scored->set_probability(0.75F);
    }
    return grpc::Status::OK;
}

std::optional<grpc::Status> hold(Context&, const Request&, Response&) { return std::nullopt; }

/// Refuses the first calls, with a word on when to come again, and accepts all others.
Peer::Answer refuse(int times, const std::string& pushback) {
    const auto left = std::make_shared<std::atomic<int>>(times);
    return [left, pushback](Context& context, const Request& request, Response& response) {
        if ((*left)-- <= 0) {
            return accept(context, request, response);
        }
        context.AddTrailingMetadata("grpc-retry-pushback-ms", pushback);
        return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full");
    };
}

/// Details of a status as the server sends them, under these types of google.rpc.
std::string details(const std::map<std::string, std::string>& messages) {
    sigmax::wire::Status status;
    for (const auto& [type, value] : messages) {
        auto& detail = *status.add_details();
        detail.set_type_url("type.googleapis.com/google.rpc." + type);
        detail.set_value(value);
    }
    return status.SerializeAsString();
}

Peer::Answer fail(const std::string& details) {
    return [details](Context&, const Request&, Response&) {
        return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "wrong", details);
    };
}

const std::vector<float> kRow{1, 2};

}  // namespace

TEST_CASE("the type of C++ is the type of the tensor") {
    CHECK(Tensor(std::vector<float>{}).dtype == DataType::Fp32);
    CHECK(Tensor(std::vector<double>{}).dtype == DataType::Fp64);
    CHECK(Tensor(std::vector<bool>{}).dtype == DataType::Bool);
    CHECK(Tensor(std::vector<std::int8_t>{}).dtype == DataType::Int8);
    CHECK(Tensor(std::vector<std::int16_t>{}).dtype == DataType::Int16);
    CHECK(Tensor(std::vector<std::int32_t>{}).dtype == DataType::Int32);
    CHECK(Tensor(std::vector<std::int64_t>{}).dtype == DataType::Int64);
    CHECK(Tensor(std::vector<std::uint8_t>{}).dtype == DataType::Uint8);
    CHECK(Tensor(std::vector<std::uint16_t>{}).dtype == DataType::Uint16);
    CHECK(Tensor(std::vector<std::uint32_t>{}).dtype == DataType::Uint32);
    CHECK(Tensor(std::vector<std::uint64_t>{}).dtype == DataType::Uint64);
    CHECK(Tensor(std::vector<std::string>{}).dtype == DataType::Bytes);
}

TEST_CASE("types have the protocol's names") {
    for (int number = 0; number <= static_cast<int>(DataType::Bytes); ++number) {
        const auto name = sigmax::v1::DataType_Name(static_cast<sigmax::v1::DataType>(number));
        CHECK("DATA_TYPE_" + sigmax::to_string(static_cast<DataType>(number)) == name);
    }
}

TEST_CASE("values become raw bytes in little-endian") {
    const Tensor row("x", std::vector<std::int16_t>{1, -2});
    CHECK(row.name == "x");
    CHECK(row.shape == Shape{1, 2});
    CHECK(row.data == std::string("\x01\x00\xfe\xff", 4));

    const Tensor batch(std::vector<std::vector<float>>{{1, 2, 3}, {4, 5, 6}});
    CHECK(batch.shape == Shape{2, 3});
    CHECK(batch.values<float>() == std::vector<float>{1, 2, 3, 4, 5, 6});

    const Tensor texts(std::vector<std::string>{"", std::string("a\0b", 3)});
    CHECK(texts.shape == Shape{1, 2});
    CHECK(texts.data == std::string("\0\0\0\0\3\0\0\0a\0b", 11));

    const Tensor flags(std::vector<std::vector<bool>>{{true, false}, {false, true}});
    CHECK(flags.data == std::string("\1\0\0\1", 4));

    const double cube[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const Tensor view = Tensor::of(sigmax::View(cube), {2, 2, 2}, "cube");
    CHECK(view.shape == Shape{2, 2, 2});
    CHECK(view.values<double>().back() == 8);
}

TEST_CASE("rows of different sizes are refused") {
    const auto error = failure([] { Tensor(std::vector<std::vector<float>>{{1, 2}, {3}}); });
    CHECK(error.code == Code::InvalidArgument);
    CHECK(error.reason == "SHAPE_MISMATCH");
    CHECK(std::string(error.what()) ==
          "rows: expected 2 elements in each, as in the first, got 1 in row 1");
}

TEST_CASE("a tensor's values have its own type only") {
    const Tensor tensor(kRow);
    CHECK(failure([&] { tensor.values<double>(); }).reason == "DTYPE_MISMATCH");
    const Tensor torn("x", DataType::Fp32, {1}, "123");
    CHECK(failure([&] { torn.values<float>(); }).reason == "DTYPE_MISMATCH");
}

TEST_CASE("inputs are values, a tensor, or several with names") {
    const std::vector<std::vector<float>> rows{{1}, {2}};
    CHECK(Inputs(kRow).take().size() == 1);
    CHECK(Inputs(rows).take().front().shape == Shape{2, 1});
    CHECK(Inputs(Tensor("x", rows)).take().front().name == "x");
    const Inputs pair = {{"x", rows}, {"flags", std::vector<bool>{true}}};
    CHECK(Inputs(pair).take().back().dtype == DataType::Bool);
}

TEST_CASE("a row has one label, unless none or several are decided on") {
    sigmax::Row row;
    row.decision = {{2, "lynx", 0.5F}};
    CHECK(row.label() == "lynx");
    CHECK(row.index() == 2);
    CHECK(row.probability() == 0.5F);
    row.decision.clear();
    CHECK_THROWS_AS(row.label(), std::logic_error);
}

TEST_CASE("addresses that are none are refused") {
    for (const char* address : {"", ":8001", "a:0", "a:65536", "a:x", "a:", "http://a:8001",
                                "https://a", "a b", "a/b", "a:1,b:2", "[::1", "[a]:1", "[::1]x",
                                "::1::2", "ipv4:", "dns:///", "dns:///a:1,b:2", "user@a:1"}) {
        CAPTURE(address);
        CHECK(failure([&] { Client{address}; }).reason == "BAD_ADDRESS");
    }
    for (const char* address :
         {"a", "a:1", "dns:8001", "::1", "[::1]", "[::1]:1", "10.0.0.1:8001", "unix:/run/sigmax",
          "unix-abstract:sigmax", "dns:///a:1", "ipv4:10.0.0.1:1,10.0.0.2:2", "ipv6:[::1]:1"}) {
        CAPTURE(address);
        CHECK_NOTHROW(Client{address});
    }
}

TEST_CASE("a token goes in plaintext to this machine only") {
    Options options;
    options.token = "secret";
    for (const char* address : {"localhost", "127.0.0.1:1", "127.8.8.8", "[::1]:1", "unix:/run/s",
                                "dns:///localhost:1", "ipv4:127.0.0.1:1,127.0.0.2:1"}) {
        CAPTURE(address);
        CHECK_NOTHROW(Client(address, options));
    }
    for (const char* address :
         {"sigmax.example", "10.0.0.1", "127.evil.example", "localhost.example", "0x7f.1", "[::2]",
          "dns://10.0.0.1/localhost:1", "ipv4:127.0.0.1:1,10.0.0.2:1", "xds:///localhost"}) {
        CAPTURE(address);
        const auto error = failure([&] { Client(address, options); });
        CHECK(error.reason == "BAD_CREDENTIALS");
        CHECK(error.fields.count("token") == 1);
        CHECK(std::string(error.what()).find("secret") == std::string::npos);
    }
    options.tls.emplace();
    CHECK_NOTHROW(Client("sigmax.example", options));
}

TEST_CASE("a token that no header can carry is refused") {
    Options options;
    options.token = "secret\n";
    CHECK(failure([&] { Client("localhost", options); }).reason == "BAD_CREDENTIALS");
    options.token = [] { return std::string(); };
    const Client client("localhost", options);
    CHECK(failure([&] { client.models(); }).reason == "BAD_CREDENTIALS");
    CHECK(failure([&] { client.classify_async("m", kRow); }).reason == "BAD_CREDENTIALS");
}

TEST_CASE("files of TLS that cannot be used are named") {
    Options options;
    options.tls.emplace().ca_file = "/nowhere/ca.pem";
    const auto missing = failure([&] { Client("localhost", options); });
    CHECK(missing.reason == "BAD_CREDENTIALS");
    CHECK(std::string(missing.what()).find("/nowhere/ca.pem") != std::string::npos);
    options.tls->ca_file = "/dev/null";
    CHECK(failure([&] { Client("localhost", options); }).fields.count("tls.ca_file") == 1);
    options.tls.emplace().certificate_file = "me.pem";
    CHECK(failure([&] { Client("localhost", options); }).fields.count("tls") == 1);
}

TEST_CASE("a request says what was asked, and an answer is read") {
    Request seen;
    Peer peer([&](Context& context, const Request& request, Response& response) {
        seen = request;
        return accept(context, request, response);
    });
    const Client client(peer.address());
    const Result result =
        client.classify("animal", {{"x", kRow}}, {"3", "kind", 5, 0.25F, true, std::nullopt});
    CHECK(seen.model_version() == "3");
    CHECK(seen.head() == "kind");
    CHECK(seen.top_k() == 5);
    CHECK(seen.threshold() == 0.25F);
    CHECK(seen.return_probabilities());
    CHECK(seen.inputs(0).name() == "x");
    CHECK(seen.inputs(0).dtype() == sigmax::v1::DATA_TYPE_FP32);
    CHECK(result.model == "animal");
    CHECK(result.rows.at(0).label() == "lynx");
    CHECK_FALSE(result.probabilities.has_value());
    client.classify("animal", kRow);
    CHECK_FALSE(seen.has_threshold());
}

TEST_CASE("an answer comes by a future, or to a callback") {
    Peer peer(accept);
    const Client client(peer.address());
    CHECK(client.classify_async("animal", kRow).get().rows.at(0).index() == 1);
    std::promise<Outcome> outcome;
    client.classify_async("animal", kRow, [&](Outcome found) { outcome.set_value(found); });
    CHECK(std::get<Result>(outcome.get_future().get()).model == "animal");
}

TEST_CASE("models are listed and described") {
    Peer peer(accept);
    const Client client(peer.address());
    const auto models = client.models();
    REQUIRE(models.size() == 1);
    CHECK(models[0].name == "animal");
    CHECK(models[0].task == sigmax::Task::Multiclass);
    CHECK(models[0].versions.at(0).version == "3");
    CHECK(models[0].versions.at(0).state == sigmax::ModelState::Unavailable);
    CHECK(models[0].versions.at(0).reason == "broken");

    const sigmax::Model model = client.model("animal", "3");
    CHECK(model.name == "animal");
    CHECK(model.version == "3");
    CHECK(model.max_batch_size == 64);
    CHECK(model.rows_independent);
    CHECK(model.warnings == std::vector<std::string>{"slow"});
    CHECK(model.inputs.at(0).name == "x");
    CHECK(model.inputs.at(0).dtype == DataType::Fp16);
    CHECK(model.inputs.at(0).shape == Shape{-1});
    CHECK(model.heads.at(0).task == sigmax::Task::Binary);
    CHECK(model.heads.at(0).labels == std::vector<std::string>{"cat"});
    CHECK(model.heads.at(0).thresholds == std::vector<float>{0.5F});
}

TEST_CASE("health is asked by gRPC's own protocol") {
    grpc::EnableDefaultHealthCheckService(true);
    Peer peer(accept);
    grpc::EnableDefaultHealthCheckService(false);
    const Client client(peer.address());
    CHECK(client.health() == sigmax::Health::Serving);
    CHECK(failure([&] { client.health("nobody"); }).code == Code::NotFound);
}

TEST_CASE("an error keeps the server's details") {
    sigmax::wire::ErrorInfo info;
    info.set_reason("SHAPE_MISMATCH");
    sigmax::wire::BadRequest bad_request;
    auto& violation = *bad_request.add_field_violations();
    violation.set_field("inputs[0].shape");
    violation.set_description("too long");
    sigmax::wire::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(1);
    retry.mutable_retry_delay()->set_nanos(1);
    Peer peer(fail(details({{"ErrorInfo", info.SerializeAsString()},
                            {"BadRequest", bad_request.SerializeAsString()},
                            {"RetryInfo", retry.SerializeAsString()}})));
    const Client client(peer.address());
    for (const auto& error : {failure([&] { client.classify("m", kRow); }),
                              failure([&] { client.classify_async("m", kRow).get(); })}) {
        CHECK(error.code == Code::InvalidArgument);
        CHECK(std::string(error.what()) == "wrong");
        CHECK(error.reason == "SHAPE_MISMATCH");
        CHECK(error.fields == std::map<std::string, std::string>{{"inputs[0].shape", "too long"}});
        CHECK(error.retry_after == 1001ms);
        CHECK_FALSE(error.is_retryable);
    }
}

TEST_CASE("details that make no sense are left out") {
    for (const auto& garbage : {std::string("\xff\xff"), details({{"ErrorInfo", "\xff\xff"}})}) {
        Peer peer(fail(garbage));
        const auto error = failure([&] { Client(peer.address()).classify("m", kRow); });
        CHECK(error.code == Code::InvalidArgument);
        CHECK(error.reason.empty());
    }
}

TEST_CASE("a call is tried again when the server says") {
    // Without the server's word the client would try again after 120 ms at the latest.
    Peer peer(refuse(1, "400"));
    const auto start = std::chrono::steady_clock::now();
    CHECK(Client(peer.address()).classify("animal", kRow).model == "animal");
    CHECK(std::chrono::steady_clock::now() - start >= 400ms);
    CHECK(peer.calls() == 2);
}

TEST_CASE("a request of many bytes is tried again, too") {
    Peer peer(refuse(1, "0"));
    const std::vector<float> row(1'000'000);
    CHECK(Client(peer.address()).classify("animal", row).model == "animal");
    CHECK(peer.calls() == 2);
}

TEST_CASE("a call is given up after four tries") {
    Peer peer(refuse(100, "0"));
    const auto error = failure([&] { Client(peer.address()).classify("m", kRow); });
    CHECK(error.code == Code::ResourceExhausted);
    CHECK(error.is_retryable);
    CHECK(peer.calls() == 4);
}

TEST_CASE("a call that cannot succeed is not tried again") {
    Peer peer(refuse(100, "-1"));
    const auto error = failure([&] { Client(peer.address()).classify("m", kRow); });
    CHECK_FALSE(error.is_retryable);
    CHECK(peer.calls() == 1);
}

TEST_CASE("a call ends at its deadline") {
    Peer peer(hold);
    Options options;
    options.timeout = std::chrono::milliseconds::max();
    const Client client(peer.address(), options);
    sigmax::ClassifyOptions brief;
    brief.timeout = 50ms;
    const auto error = failure([&] { client.classify("m", kRow, brief); });
    CHECK(error.code == Code::DeadlineExceeded);
    options.timeout = 50ms;
    const Client hasty(peer.address(), options);
    CHECK(failure([&] { hasty.classify("m", kRow); }).code == Code::DeadlineExceeded);
}

TEST_CASE("a message over the limit is refused") {
    Peer peer(accept);
    Options options;
    options.max_message_bytes = 1000;
    const Client client(peer.address(), options);
    const auto error = failure([&] { client.classify("m", std::vector<float>(1000)); });
    CHECK(error.code == Code::ResourceExhausted);
    CHECK(peer.calls() == 0);
}

TEST_CASE("a token goes with every call, and a function is asked for each") {
    std::vector<std::string> tokens;
    Peer peer([&](Context& context, const Request& request, Response& response) {
        const auto& metadata = context.client_metadata();
        const auto found = metadata.find("authorization");
        tokens.push_back(found == metadata.end()
                             ? "none"
                             : std::string(found->second.data(), found->second.size()));
        return accept(context, request, response);
    });
    Options options;
    Client(peer.address(), options).classify("m", kRow);
    options.token = "fixed";
    Client(peer.address(), options).classify("m", kRow);
    int number = 0;
    options.token = [&] { return "t" + std::to_string(++number); };
    const Client client(peer.address(), options);
    client.classify("m", kRow);
    client.classify_async("m", kRow).get();
    CHECK(tokens == std::vector<std::string>{"none", "Bearer fixed", "Bearer t1", "Bearer t2"});
}

TEST_CASE("closing a client cancels its calls") {
    Peer peer(hold);
    Client client(peer.address());
    auto future = client.classify_async("m", kRow);
    client.close();
    CHECK(failure([&] { future.get(); }).code == Code::Cancelled);
    CHECK(failure([&] { client.classify("m", kRow); }).code == Code::Cancelled);
    CHECK(failure([&] { client.models(); }).code == Code::Cancelled);
}

TEST_CASE("a client that ends waits for its callbacks") {
    Peer peer(hold);
    std::atomic<int> ended = 0;
    const auto count = [&](Outcome outcome) {
        ended += std::get<Error>(outcome).code == Code::Cancelled;
    };
    {
        Client first(peer.address());
        first.classify_async("m", kRow, count);
        Client second(peer.address());
        second.classify_async("m", kRow, count);
        second = std::move(first);  // ends the second's calls, and goes on with the first's
        CHECK(ended == 1);
    }
    CHECK(ended == 2);
}

TEST_CASE("a server that is not there is said") {
    Options options;
    options.timeout = 5s;
    const auto error = failure([&] { Client("unix:/nowhere/sigmax", options).models(); });
    CHECK(error.code == Code::Unavailable);
    CHECK(error.is_retryable);
}

TEST_CASE("many threads share a client") {
    Peer peer(accept);
    const Client client(peer.address());
    std::atomic<int> answers = 0;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; ++thread) {
        threads.emplace_back([&] {
            for (int call = 0; call < 50; ++call) {
                answers += client.classify_async("m", kRow).get().model == "m";
                answers += client.classify("m", kRow).model == "m";
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    CHECK(answers == 800);
}
