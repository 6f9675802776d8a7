//! The table of all methods, with what each asks of its caller.

use crate::access::rules::Right;

/// The thing that a method asks of its caller before its message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing: the method is open to everybody.
    Open,
    /// The caller has shown who it is.
    Known,
    /// The caller has the method's right with the server as a whole.
    Server,
}

/// A method of a service.
#[derive(Debug)]
pub struct Method {
    /// The path of the method, as calls name it.
    pub path: &'static str,
    /// The thing that the method asks of its caller before its message is read.
    pub entry: Entry,
    /// The right that the method asks for with the model that a message names, or with each model
    /// that an answer names.
    pub right: Right,
}

/// All methods. A method that has no row is not served.
const METHODS: &[Method] = {
    use Entry::{Known, Open, Server};
    use Right::{Classify, Control, Describe, Infer};
    &[
        method("/sigmax.v1.ClassifierService/Classify", Known, Classify),
        method("/inference.GRPCInferenceService/ModelInfer", Known, Infer),
        method("/sigmax.v1.ClassifierService/ClassifyStream", Known, Classify),
        method("/sigmax.v1.ClassifierService/GetModel", Known, Describe),
        method("/sigmax.v1.ClassifierService/ListModels", Known, Describe),
        method("/inference.GRPCInferenceService/ModelStreamInfer", Known, Infer),
        method("/inference.GRPCInferenceService/ModelConfig", Known, Describe),
        method("/inference.GRPCInferenceService/ModelMetadata", Known, Describe),
        method("/inference.GRPCInferenceService/ModelReady", Known, Describe),
        method("/inference.GRPCInferenceService/ModelStatistics", Known, Describe),
        method("/inference.GRPCInferenceService/RepositoryIndex", Known, Describe),
        method("/inference.GRPCInferenceService/RepositoryModelLoad", Known, Control),
        method("/inference.GRPCInferenceService/RepositoryModelUnload", Known, Control),
        method("/inference.GRPCInferenceService/ServerLive", Open, Describe),
        method("/inference.GRPCInferenceService/ServerReady", Open, Describe),
        method("/inference.GRPCInferenceService/ServerMetadata", Known, Describe),
        // Everybody who is known may read the settings. To change them is to control the server.
        method("/inference.GRPCInferenceService/LogSettings", Known, Control),
        method("/inference.GRPCInferenceService/SystemSharedMemoryStatus", Server, Control),
        method("/inference.GRPCInferenceService/SystemSharedMemoryRegister", Server, Control),
        method("/inference.GRPCInferenceService/SystemSharedMemoryUnregister", Server, Control),
        method("/inference.GRPCInferenceService/CudaSharedMemoryStatus", Server, Control),
        method("/inference.GRPCInferenceService/CudaSharedMemoryRegister", Server, Control),
        method("/inference.GRPCInferenceService/CudaSharedMemoryUnregister", Server, Control),
        method("/inference.GRPCInferenceService/TraceSetting", Server, Control),
        // The health of the server is open. The health of a model is told to who may describe it.
        method("/grpc.health.v1.Health/Check", Open, Describe),
        method("/grpc.health.v1.Health/List", Open, Describe),
        method("/grpc.health.v1.Health/Watch", Open, Describe),
        method("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Known, Describe),
        method("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Known, Describe),
    ]
};

/// The row of calls to methods that there are not.
const UNKNOWN: &Method = &method("", Entry::Known, Right::Describe);

const fn method(path: &'static str, entry: Entry, right: Right) -> Method {
    Method { path, entry, right }
}

/// The method of a call; none where there is no such method.
pub fn find(path: &str) -> Option<&'static Method> {
    // The two hot ones are among the first.
    METHODS.iter().find(|method| method.path == path)
}

impl Method {
    /// The row of calls to methods that there are not.
    pub fn unknown() -> &'static Self {
        UNKNOWN
    }
}
