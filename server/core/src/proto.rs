//! Generated messages and services, and their descriptors.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]

/// `sigmax.v1`
pub mod sigmax {
    tonic::include_proto!("sigmax.v1");
}

/// `inference`
pub mod inference {
    tonic::include_proto!("inference");
}

/// `grpc.health.v1`
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// Every service whole, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
