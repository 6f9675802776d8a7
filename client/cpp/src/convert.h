#pragma once

#include <grpcpp/support/status.h>

#include <string>
#include <vector>

#include "sigmax/client.h"
#include "sigmax/v1/classifier.pb.h"

namespace sigmax::internal {

v1::ClassifyRequest to_request(const std::string& model, std::vector<Tensor> inputs,
                               const ClassifyOptions& options);

Result from_response(v1::ClassifyResponse response);
std::vector<ModelSummary> from_list(const v1::ListModelsResponse& response);
Model from_model(const v1::Model& model);

/// The error of a call that has failed.
/// @param is_final Whether the server says that another try cannot succeed.
Error from_status(const grpc::Status& status, bool is_final);

}  // namespace sigmax::internal
