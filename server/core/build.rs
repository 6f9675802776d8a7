//! The build script, which compiles the protocol's files: messages and services for the core,
//! descriptors for reflection.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// The calls that the core frames by itself (src/grpc/unary.rs); tonic serves all others.
const HOT_CALLS: [(&str, &str); 2] =
    [("ClassifierService", "Classify"), ("GRPCInferenceService", "ModelInfer")];

/// The message fields that are sent as the bytes that the encoders of answers have made
/// (src/service/classifier/reply.rs, src/service/inference/reply.rs): on the wire a message field
/// and a bytes field are the same.
const ENCODED: [(&str, &str); 2] =
    [("ClassifyStreamResponse", "response"), ("ModelStreamInferResponse", "infer_response")];

/// The type that a stream's requests are to tonic, in protobuf and in Rust: src/grpc/message.rs
/// reads them, off the event loop where they are long.
const UNREAD: (&str, &str) = (".sigmax.Unread", "crate::grpc::message::Unread");

/// Messages whose lists become tensors: their elements are held twice, once as they are decoded and
/// once as the tensor.
const TENSORS: [&str; 2] = [".sigmax.v1.Values", ".inference.InferTensorContents"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The folder is a link to the repository's; a source distribution has the files in its place.
    let proto = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    let files = [
        "sigmax/v1/classifier.proto",
        "inference/grpc_service.proto",
        "grpc/health/v1/health.proto",
    ];
    let mut descriptors = protox::compile(files, [&proto])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    fs::write(out.join("shapes.rs"), shapes(&descriptors)?)?;

    for file in &mut descriptors.file {
        for message in &mut file.message_type {
            let name = message.name().to_owned();
            let fields = message.field.iter_mut();
            for field in fields.filter(|field| ENCODED.contains(&(&name, field.name()))) {
                field.set_type(Type::Bytes);
                field.type_name = None;
            }
        }
        for service in &mut file.service {
            let name = service.name().to_owned();
            service.method.retain(|method| !HOT_CALLS.contains(&(name.as_str(), method.name())));
            let methods = service.method.iter_mut();
            for method in methods.filter(|method| method.client_streaming()) {
                method.input_type = Some(UNREAD.0.to_owned());
            }
        }
    }
    tonic_prost_build::configure()
        .build_client(false)
        .generate_default_stubs(true)
        .bytes(".")
        .btree_map(".")
        .extern_path(UNREAD.0, UNREAD.1)
        .compile_fds(descriptors)?;
    Ok(())
}

/// The protocol's messages by their full names.
type Messages<'a> = BTreeMap<String, &'a DescriptorProto>;

/// The code that src/grpc/wire.rs includes: a `Shape` of every message, and which of them a call
/// takes.
fn shapes(descriptors: &FileDescriptorSet) -> Result<String, std::fmt::Error> {
    let mut messages = Messages::new();
    for file in &descriptors.file {
        collect(&format!(".{}", file.package()), &file.message_type, &mut messages);
    }
    let mut code = String::new();
    for (name, message) in &messages {
        let last = message.field.iter().map(FieldDescriptorProto::number).max().unwrap_or(0);
        let kinds: Vec<_> = (0..=last)
            .map(|number| message.field.iter().find(|field| field.number() == number))
            .map(|field| field.map_or("Kind::Plain".to_owned(), |field| kind(name, field)))
            .collect();
        let (name, bytes, fields) = (constant(name), size(message, &messages, 0), kinds.join(", "));
        writeln!(
            code,
            "pub static {name}: Shape = Shape {{ bytes: {bytes}, fields: &[{fields}] }};"
        )?;
    }
    writeln!(code, "pub fn of_call(path: &str) -> Option<Kinds> {{ match path {{")?;
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service, name) = (file.package(), service.name(), method.name());
                let message = constant(method.input_type());
                let (asks, answers) = (method.client_streaming(), method.server_streaming());
                writeln!(
                    code,
                    "\"/{package}.{service}/{name}\" => Some(Kinds {{ message: &{message}, \
                     one_message: {}, stream: {} }}),",
                    !asks,
                    asks || answers
                )?;
            }
        }
    }
    writeln!(code, "_ => None }} }}")?;
    Ok(code)
}

fn collect<'a>(parent: &str, found: &'a [DescriptorProto], messages: &mut Messages<'a>) {
    for message in found {
        let name = format!("{parent}.{}", message.name());
        collect(&name, &message.nested_type, messages);
        messages.insert(name, message);
    }
}

/// The name of a message's constant, for a full name such as `.inference.InferParameter`.
fn constant(name: &str) -> String {
    name[1..].replace('.', "_").to_uppercase()
}

fn kind(message: &str, field: &FieldDescriptorProto) -> String {
    let copies = if TENSORS.contains(&message) { 2 } else { 1 };
    let repeated = field.label() == Label::Repeated;
    match field.r#type() {
        Type::Message => format!("Kind::Message(&{})", constant(field.type_name())),
        Type::String => format!("Kind::Text {{ repeated: {repeated} }}"),
        Type::Bytes if repeated => format!("Kind::Bytes {{ copied: {} }}", copies == 2),
        Type::Fixed64 | Type::Sfixed64 | Type::Double if repeated => {
            format!("Kind::Numbers {{ wire: Some(8), bytes: {} }}", 8 * copies)
        }
        Type::Fixed32 | Type::Sfixed32 | Type::Float if repeated => {
            format!("Kind::Numbers {{ wire: Some(4), bytes: {} }}", 4 * copies)
        }
        kind if repeated => {
            format!("Kind::Numbers {{ wire: None, bytes: {} }}", scalar(kind) * copies)
        }
        _ => "Kind::Plain".to_owned(),
    }
}

/// Bytes that a message takes in memory, without what its lists and texts take elsewhere.
fn size(message: &DescriptorProto, messages: &Messages<'_>, depth: usize) -> usize {
    let field = |field: &FieldDescriptorProto| match (field.label(), field.r#type()) {
        (Label::Repeated, _) | (_, Type::String) => 24,
        (_, Type::Bytes) => 32,
        // From some depth on, a message counts as the pointer behind which it is, because a message
        // may hold itself.
        (_, Type::Message) if depth > 8 => 8,
        (_, Type::Message) => 8 + size(messages[field.type_name()], messages, depth + 1),
        (_, kind) => 8.max(scalar(kind)),
    };
    let bytes: usize = message.field.iter().map(field).sum();
    let is_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
    // A tree may keep half of its places free.
    if is_entry { 2 * bytes } else { bytes }
}

fn scalar(kind: Type) -> usize {
    match kind {
        Type::Bool => 1,
        Type::Int32 | Type::Sint32 | Type::Uint32 | Type::Enum => 4,
        Type::Fixed32 | Type::Sfixed32 | Type::Float => 4,
        _ => 8,
    }
}
