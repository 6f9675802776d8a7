// Asks a server all cases of $SIGMAX_VECTORS, and prints of each whether the answer is the expected
// one.
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "sigmax/client.h"

using nlohmann::json;

namespace {

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

std::string decode_base64(const std::string& text) {
    static const std::string kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string bytes;
    std::uint32_t buffer = 0;
    int bits = 0;
    for (const char character : text.substr(0, text.find('='))) {
        buffer = buffer << 6 | static_cast<std::uint32_t>(kDigits.find(character));
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes.push_back(static_cast<char>(buffer >> bits));
        }
    }
    return bytes;
}

sigmax::DataType read_dtype(const std::string& name) {
    if (name.empty()) {
        return sigmax::DataType::Unspecified;
    }
    for (int number = 1; number <= static_cast<int>(sigmax::DataType::Bytes); ++number) {
        const auto type = static_cast<sigmax::DataType>(number);
        if (sigmax::to_string(type) == name) {
            return type;
        }
    }
    throw std::runtime_error("dtype: expected one of the protocol's, got '" + name + "'");
}

sigmax::Tensor read_tensor(const json& tensor) {
    return {tensor.value("name", ""), read_dtype(tensor.at("dtype")), tensor.at("shape"),
            decode_base64(tensor.at("data"))};
}

json found_classes(const std::vector<sigmax::ScoredClass>& classes) {
    json found = json::array();
    for (const sigmax::ScoredClass& scored : classes) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &scored.probability, sizeof bits);
        found.push_back({{"index", scored.index}, {"label", scored.label}, {"bits", bits}});
    }
    return found;
}

/// A tensor with its bytes as numbers, which can be printed.
json found_tensor(const sigmax::Tensor& tensor) {
    return {{"dtype", sigmax::to_string(tensor.dtype)},
            {"shape", tensor.shape},
            {"data", std::vector<unsigned char>(tensor.data.begin(), tensor.data.end())}};
}

json found_answer(const sigmax::Result& result) {
    json rows = json::array();
    for (const sigmax::Row& row : result.rows) {
        rows.push_back(
            {{"classes", found_classes(row.classes)}, {"decision", found_classes(row.decision)}});
    }
    const json probabilities = result.probabilities ? found_tensor(*result.probabilities) : json();
    return {{"model", result.model},
            {"version", result.version},
            {"head", result.head},
            {"rows", std::move(rows)},
            {"probabilities", probabilities}};
}

json found_error(const sigmax::Error& error) {
    json fields = json::array();
    for (const auto& [field, description] : error.fields) {
        fields.push_back(field);
    }
    return {{"code", sigmax::to_string(error.code)}, {"reason", error.reason}, {"fields", fields}};
}

/// What a case expects, in the form of what is found.
json expected(const json& test) {
    json outcome = test;
    outcome.erase("name");
    outcome.erase("request");
    if (outcome.contains("answer") && !outcome["answer"]["probabilities"].is_null()) {
        json& probabilities = outcome["answer"]["probabilities"];
        probabilities = found_tensor(read_tensor(probabilities));
    }
    if (outcome.contains("error")) {
        json& fields = outcome["error"]["fields"];
        fields = fields.get<std::set<std::string>>();
    }
    return outcome;
}

json found(const sigmax::Client& client, const json& request) {
    sigmax::ClassifyOptions options;
    options.version = request.at("version");
    options.head = request.at("head");
    options.top_k = request.at("top_k");
    options.return_probabilities = request.at("return_probabilities");
    if (!request.at("threshold").is_null()) {
        options.threshold = request.at("threshold").get<float>();
    }
    std::vector<sigmax::Tensor> inputs;
    for (const json& input : request.at("inputs")) {
        inputs.push_back(read_tensor(input));
    }
    try {
        const auto result = client.classify(request.at("model"), std::move(inputs), options);
        return {{"answer", found_answer(result)}};
    } catch (const sigmax::Error& error) {
        return {{"error", found_error(error)}};
    }
}

void run(const sigmax::Client& client, const std::filesystem::path& file) {
    const json content = json::parse(std::ifstream(file));
    for (const json& test : content.at("cases")) {
        const json outcome = found(client, test.at("request"));
        json line = {{"name", test.at("name")}, {"ok", outcome == expected(test)}};
        if (!line["ok"]) {
            line["found"] = outcome.dump();
        }
        std::cout << line.dump() << '\n';
    }
}

}  // namespace

int main() {
    try {
        sigmax::Options options;
        options.token = variable("SIGMAX_CLIENT_TOKEN");
        if (const std::string ca = variable("SIGMAX_CLIENT_TLS_CA"); !ca.empty()) {
            options.tls.emplace().ca_file = ca;
        }
        const sigmax::Client client(variable("SIGMAX_ADDRESS"), options);
        for (const auto& entry : std::filesystem::directory_iterator(variable("SIGMAX_VECTORS"))) {
            if (entry.path().extension() == ".json") {
                run(client, entry.path());
            }
        }
    } catch (const std::exception& error) {
        std::cerr << "vectors: " << error.what() << '\n';
        return 1;
    }
}
