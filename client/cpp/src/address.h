#pragma once

#include <string>

namespace sigmax::internal {

/// A server, or several, as gRPC takes it.
struct Target {
    /// Target of a channel, such as "localhost:8001".
    std::string name;
    /// Authority of the calls; empty: gRPC's own choice.
    std::string authority;
    /// Whether every server is on this machine, by the address alone; no proxy leads there.
    bool is_local = false;
};

/// Reads an address, as `Client` takes it.
/// @throws Error of the reason "BAD_ADDRESS".
Target parse_address(const std::string& address);

}  // namespace sigmax::internal
