#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <sstream>
#include <vector>

#include "sigmax/client.h"

namespace sigmax::internal {
namespace {

constexpr const char* kDefaultPort = "8001";
constexpr const char* kDigits = "0123456789";
// Characters that no host has; most come from URLs of other kinds.
constexpr const char* kNotInHosts = " \t\r\n/\\?#@:,[]\"'<>{}|^`";

[[noreturn]] void fail(const std::string& address, const std::string& how = "") {
    const std::string message =
        "address: expected \"HOST\", \"HOST:PORT\", \"unix:PATH\" or a target in gRPC's notation" +
        how + "; got \"" + address + "\"";
    throw Error(Code::InvalidArgument, message, "BAD_ADDRESS", {{"address", message}});
}

bool is_ip(int family, const std::string& host, void* address) {
    return inet_pton(family, host.c_str(), address) == 1;
}

bool is_loopback(const std::string& host) {
    in_addr four{};
    in6_addr six{};
    if (is_ip(AF_INET, host, &four)) {
        return (ntohl(four.s_addr) >> 24) == 127;
    }
    if (is_ip(AF_INET6, host, &six)) {
        return IN6_IS_ADDR_LOOPBACK(&six);
    }
    return host == "localhost";
}

bool is_port(const std::string& text) {
    return !text.empty() && text.size() <= 5 &&
           text.find_first_not_of(kDigits) == std::string::npos && std::stoi(text) > 0 &&
           std::stoi(text) < 65536;
}

/// One server: its host without brackets, and its port.
struct Server {
    std::string host;
    std::string port = kDefaultPort;
};

Server read_server(const std::string& text, const std::string& address) {
    in6_addr six{};
    if (is_ip(AF_INET6, text, &six)) {
        return {text};
    }
    Server server;
    std::string rest;
    if (text.compare(0, 1, "[") == 0) {
        const auto end = text.find(']');
        server.host = text.substr(1, end - 1);
        rest = end == std::string::npos ? "" : text.substr(end + 1);
        if (end == std::string::npos || !is_ip(AF_INET6, server.host, &six)) {
            fail(address, " with an IPv6 address in the brackets");
        }
    } else {
        const auto end = std::min(text.find(':'), text.size());
        server.host = text.substr(0, end);
        rest = text.substr(end);
        if (server.host.empty() || server.host.find_first_of(kNotInHosts) != std::string::npos) {
            fail(address);
        }
    }
    if (!rest.empty()) {
        server.port = rest.substr(1);
        if (rest[0] != ':' || !is_port(server.port)) {
            fail(address, " with a port from 1 to 65535");
        }
    }
    return server;
}

/// The host and the port as gRPC takes them.
std::string joined(const Server& server) {
    const bool is_ipv6 = server.host.find(':') != std::string::npos;
    return (is_ipv6 ? "[" + server.host + "]" : server.host) + ":" + server.port;
}

/// Reads what follows "dns:", "ipv4:" or "ipv6:".
Target read_grpc_target(const std::string& scheme, const std::string& rest,
                        const std::string& address) {
    const auto path = rest.rfind('/') == std::string::npos ? 0 : rest.rfind('/') + 1;
    Target target{scheme + ":" + rest.substr(0, path), "", true};
    // A DNS server that is named may say what it likes, also of localhost.
    const bool asks_server = rest.substr(0, path).find_first_not_of('/') != std::string::npos;
    std::istringstream servers(rest.substr(path));
    std::vector<std::string> names;
    for (std::string text; std::getline(servers, text, ',');) {
        const Server server = read_server(text, address);
        target.is_local = target.is_local && is_loopback(server.host) && !asks_server;
        target.name += (names.empty() ? "" : ",") + joined(server);
        names.push_back(joined(server));
    }
    if (names.empty() || (names.size() > 1 && scheme == "dns")) {
        fail(address);
    }
    if (names.size() > 1) {
        target.authority = names.front();  // gRPC would name the whole list, which is none
    }
    return target;
}

}  // namespace

Target parse_address(const std::string& address) {
    const auto colon = address.find(':');
    if (colon != std::string::npos) {
        const std::string scheme = address.substr(0, colon);
        const std::string rest = address.substr(colon + 1);
        const bool is_named = rest.find_first_not_of("/") != std::string::npos && !is_port(rest);
        if (is_named && (scheme == "dns" || scheme == "ipv4" || scheme == "ipv6")) {
            return read_grpc_target(scheme, rest, address);
        }
        if (is_named && (scheme == "unix" || scheme == "unix-abstract")) {
            return {address, "", true};
        }
        if (is_named && scheme == "xds") {
            return {address, "", false};
        }
        if (rest.compare(0, 2, "//") == 0) {
            fail(address, " without \"" + scheme + "://\"");
        }
    }
    if (address.find(',') != std::string::npos) {
        fail(address, "; several IP addresses are \"ipv4:10.0.0.1:8001,10.0.0.2:8001\"");
    }
    const Server server = read_server(address, address);
    return {joined(server), "", is_loopback(server.host)};
}

}  // namespace sigmax::internal
