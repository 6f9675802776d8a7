//! Generated messages and services, and their descriptors.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]

/// The package `sigmax.v1`.
pub mod sigmax {
    tonic::include_proto!("sigmax.v1");
}

/// The package `inference`, which is the Open Inference Protocol.
pub mod inference {
    tonic::include_proto!("inference");
}

/// The package `grpc.health.v1`.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// The descriptors of every service and message, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
