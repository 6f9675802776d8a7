//! Triton's model configuration (`inference.ModelConfig`): its text and JSON forms.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};

use crate::proto::DESCRIPTORS;
use crate::proto::inference::ModelConfig;

static MODEL_CONFIG: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    // The descriptors are the build's own: where they did not parse, no test would pass.
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("descriptors parse");
    pool.get_message_by_name("inference.ModelConfig").expect("it is in the protocol")
});

/// The text of a `config.pbtxt`, as the JSON that [`from_json`] reads.
pub fn text_to_json(text: &str) -> Result<String, String> {
    let message = DynamicMessage::parse_text_format(MODEL_CONFIG.clone(), &with_colons(text));
    json(&message.map_err(|error| error.to_string())?)
}

/// A configuration in any JSON that protobuf's mapping allows, as JSON of one form: fields by their
/// own names, only those that have been set, and numbers as numbers.
pub fn canonical_json(text: &str) -> Result<String, String> {
    json(&parse(text)?)
}

/// The configuration that a JSON text describes.
pub fn from_json(text: &str) -> Result<ModelConfig, String> {
    let bytes = parse(text)?.encode_to_vec();
    ModelConfig::decode(&*bytes).map_err(|error| error.to_string())
}

/// The text with a colon before every list: Triton's files have `input [ ... ]`, which is legal,
/// but `prost-reflect` reads `input: [ ... ]` alone.
fn with_colons(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut quote = None;
    let mut in_comment = false;
    let mut escaped = false;
    let mut after_name = false;
    for character in text.chars() {
        match (quote, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, '\n') => in_comment = false,
            (None, _) if in_comment => {}
            (None, '#') => in_comment = true,
            (None, '"' | '\'') => quote = Some(character),
            (None, '[') if after_name => result.push(':'),
            _ => {}
        }
        if quote.is_none() && !in_comment && !character.is_whitespace() {
            after_name = character.is_alphanumeric() || character == '_';
        }
        result.push(character);
    }
    result
}

fn parse(text: &str) -> Result<DynamicMessage, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let options = DeserializeOptions::new();
    let message =
        DynamicMessage::deserialize_with_options(MODEL_CONFIG.clone(), &mut json, &options)
            .map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    Ok(message)
}

fn json(message: &DynamicMessage) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut json = serde_json::Serializer::new(&mut bytes);
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    message.serialize_with_options(&mut json, &options).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_triton_reads_it() {
        let text = r#"
            name: "simple"  # a comment [
            max_batch_size: 8
            input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16, -1 ] } ]
            parameters { key: 'a [' value { string_value: "\" b [" } }
            dynamic_batching { }
        "#;
        let json = text_to_json(text).expect("it is one");
        assert_eq!(
            json,
            r#"{"name":"simple","max_batch_size":8,"input":[{"name":"INPUT0","data_type":"TYPE_INT32","dims":[16,-1]}],"dynamic_batching":{},"parameters":{"a [":{"string_value":"\" b ["}}}"#
        );
        assert_eq!(canonical_json(&json), Ok(json.clone()));
        assert_eq!(from_json(&json).expect("it is one").max_batch_size, 8);
    }

    #[test]
    fn json_is_read_as_protobuf_maps_it() {
        for text in [
            r#"{"maxBatchSize": "16", "versionPolicy": {"specific": {"versions": ["3"]}}}"#,
            r#"{"max_batch_size": 16, "version_policy": {"specific": {"versions": [3]}}}"#,
        ] {
            assert_eq!(
                canonical_json(text).expect("it is one"),
                r#"{"version_policy":{"specific":{"versions":[3]}},"max_batch_size":16}"#
            );
        }
    }

    #[test]
    fn what_is_no_configuration_is_an_error_that_says_where() {
        assert!(text_to_json("max_batch: 8").expect_err("no such field").contains("max_batch"));
        assert!(text_to_json("max_batch_size: fish").is_err());
        assert!(canonical_json(r#"{"max_batch": 8}"#).expect_err("no field").contains("max_batch"));
        assert!(canonical_json("{} {}").is_err());
    }
}
