//! The weights of an ONNX model, which are inside it or in files beside it.

use prost::Message;
use prost::encoding::{WireType, decode_varint};

/// The most messages of a model that may lie in one another; ONNX Runtime reads no more.
const MOST_DEPTH: usize = 100;

/// A tensor whose data lies in a file beside the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Outside {
    /// The tensor's name; empty where no graph lists it.
    pub name: String,
    /// The type of its elements, as `onnx.TensorProto.DataType` numbers them.
    pub data_type: i32,
    /// The sizes of the axes.
    pub dims: Vec<i64>,
    /// The file, by its path from the model's folder.
    pub file: String,
    /// The bytes of that file before the tensor's data.
    pub offset: u64,
    /// The bytes of the tensor's data; none: up to the file's end.
    pub length: Option<u64>,
}

/// The decision on a tensor whose data lies outside.
#[derive(Debug)]
pub enum Place {
    /// The tensor stays outside: a session is given it by its name.
    Beside,
    /// The tensor's data goes into the model, and is given here.
    Inside(Vec<u8>),
}

/// Puts the data that lies outside a model into it, but for tensors that are to stay beside it;
/// none where the model stays as it is. The second argument of `place` says whether the tensor may
/// stay: a weight of the main graph may, which has a name.
pub fn put_inside(
    model: &[u8],
    mut place: impl FnMut(Outside, bool) -> Result<Place, String>,
) -> Result<Option<Vec<u8>>, String> {
    Kind::Model.rewritten(model, 0, &mut |tensor, depth| {
        // Depth 1 is the model's graph, and depth 2 its initializers.
        place(tensor, depth == 2)
    })
}

/// The kinds of messages of onnx.proto that lead to tensors.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

/// A function that decides on a tensor, and is told its depth.
type Decide<'a> = dyn FnMut(Outside, usize) -> Result<Place, String> + 'a;

impl Kind {
    /// The kind of the messages in a field; none where they lead to no tensors.
    fn of_field(self, field: u32) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Function, 7) | (Self::Graph, 1) => Some(Self::Node),
            (Self::Function, 11) | (Self::Node, 5) => Some(Self::Attribute),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::SparseTensor),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => {
                Some(Self::Tensor)
            }
            _ => None,
        }
    }

    /// The message with the data that goes into it; none where it stays as it is.
    fn rewritten(
        self,
        message: &[u8],
        depth: usize,
        decide: &mut Decide<'_>,
    ) -> Result<Option<Vec<u8>>, String> {
        if self == Self::Tensor {
            return tensor(message, depth, decide);
        }
        if depth > MOST_DEPTH {
            return Err(format!("its graphs lie more than {MOST_DEPTH} deep in one another"));
        }
        let mut result: Option<Vec<u8>> = None;
        for field in fields(message) {
            let field = field?;
            let inner = self.of_field(field.number).filter(|_| field.is_message);
            let new = match inner {
                Some(kind) => kind.rewritten(field.content, depth + 1, decide)?,
                None => None,
            };
            let before = field.start;
            match (&mut result, new) {
                (None, None) => {}
                (Some(result), None) => result.extend_from_slice(field.whole),
                (result, Some(new)) => {
                    let result = result.get_or_insert_with(|| message[..before].to_vec());
                    put(result, field.number, &new);
                }
            }
        }
        Ok(result)
    }
}

fn tensor(
    message: &[u8],
    depth: usize,
    decide: &mut Decide<'_>,
) -> Result<Option<Vec<u8>>, String> {
    let Tensor { dims, data_type, name, entries, location } =
        Tensor::decode(message).map_err(|error| error.to_string())?;
    if location != EXTERNAL {
        return Ok(None);
    }
    let named = |reason: String| format!("weights '{name}': {reason}");
    let mut outside = Outside {
        name: name.clone(),
        data_type,
        dims,
        file: String::new(),
        offset: 0,
        length: None,
    };
    for Entry { key, value } in entries {
        let number = || {
            let number = value.parse();
            number.map_err(|_| named(format!("{key}: expected a number of bytes, got '{value}'")))
        };
        match key.as_str() {
            "offset" => outside.offset = number()?,
            "length" => outside.length = Some(number()?),
            "location" => outside.file = value,
            _ => {}
        }
    }
    let data = match decide(outside, depth).map_err(named)? {
        Place::Beside => return Ok(None),
        Place::Inside(data) => data,
    };
    let mut result = Vec::with_capacity(message.len() + data.len() + 16);
    for field in fields(message) {
        let field = field?;
        if !matches!(field.number, RAW_DATA | EXTERNAL_DATA | DATA_LOCATION) {
            result.extend_from_slice(field.whole);
        }
    }
    put(&mut result, RAW_DATA, &data);
    Ok(Some(result))
}

/// Appends a field of bytes.
fn put(message: &mut Vec<u8>, number: u32, content: &[u8]) {
    prost::encoding::encode_key(number, WireType::LengthDelimited, message);
    prost::encoding::encode_varint(content.len() as u64, message);
    message.extend_from_slice(content);
}

/// A field of a message, as it is encoded.
struct Field<'a> {
    number: u32,
    /// Whether the field may be a message: it is encoded as bytes with their length.
    is_message: bool,
    content: &'a [u8],
    /// The field with its number and length.
    whole: &'a [u8],
    /// The bytes of the message before the field.
    start: usize,
}

/// The fields of a message, one after the other. Nothing comes after an error.
fn fields(message: &[u8]) -> Fields<'_> {
    Fields { message, at: 0 }
}

struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.message.len() {
            return None;
        }
        let field = self.field();
        self.at = match &field {
            Ok(field) => field.start + field.whole.len(),
            Err(_) => self.message.len(),
        };
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&self) -> Result<Field<'a>, String> {
        let mut rest = &self.message[self.at..];
        let cut = || String::from("a message in it is cut off");
        let varint = |rest: &mut &'a [u8]| decode_varint(rest).map_err(|error| error.to_string());
        let key = varint(&mut rest)?;
        let number = u32::try_from(key >> 3).map_err(|_| "a field in it has no number")?;
        let content = match key & 7 {
            0 => {
                let before = rest;
                varint(&mut rest)?;
                &before[..before.len() - rest.len()]
            }
            kind => {
                let length = match kind {
                    1 => 8,
                    2 => usize::try_from(varint(&mut rest)?).map_err(|_| cut())?,
                    5 => 4,
                    other => return Err(format!("a field in it is of the unknown kind {other}")),
                };
                let (content, after) = rest.split_at_checked(length).ok_or_else(cut)?;
                rest = after;
                content
            }
        };
        let end = self.message.len() - rest.len();
        Ok(Field {
            number,
            is_message: key & 7 == 2,
            content,
            whole: &self.message[self.at..end],
            start: self.at,
        })
    }
}

const RAW_DATA: u32 = 9;
const EXTERNAL_DATA: u32 = 13;
const DATA_LOCATION: u32 = 14;
/// The value of data_location for a file beside the model.
const EXTERNAL: i32 = 1;

/// The part of `onnx.TensorProto` that describes a tensor, without its data.
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    entries: Vec<Entry>,
    #[prost(int32, tag = "14")]
    location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u32, content: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        put(&mut message, number, content);
        message
    }

    fn weight(name: &str, raw: &[u8], location: &str) -> Vec<u8> {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
        let tensor = Tensor {
            dims: vec![3],
            data_type: 2,
            name: name.into(),
            entries: match location {
                "" => vec![],
                location => vec![entry("location", location), entry("offset", "64")],
            },
            location: i32::from(!location.is_empty()),
        };
        let raw = if raw.is_empty() { Vec::new() } else { field(RAW_DATA, raw) };
        [tensor.encode_to_vec(), raw].concat()
    }

    /// A model with two weights of its graph, and one weight of an inner graph.
    fn model(first: &[u8], second: &[u8], inner: &[u8]) -> Vec<u8> {
        let branch = field(5, &field(6, &field(5, inner)));
        let graph = [field(5, first), field(1, &branch), field(5, second)].concat();
        [vec![8, 9], field(7, &graph), field(2, b"producer")].concat()
    }

    #[test]
    fn what_lies_outside_is_put_where_it_belongs() {
        let inside = weight("a", b"xyz", "");
        let given = model(&inside, &weight("b", b"", "f"), &weight("c", b"", "f"));
        let mut seen = Vec::new();
        let came = put_inside(&given, |outside, may_stay| {
            seen.push((outside.name.clone(), outside.file, outside.offset, may_stay));
            Ok(if may_stay { Place::Beside } else { Place::Inside(b"123".to_vec()) })
        });
        let expected = model(&inside, &weight("b", b"", "f"), &weight("c", b"123", ""));
        assert_eq!(came, Ok(Some(expected)));
        let of = |name: &str, may_stay| (name.to_owned(), "f".to_owned(), 64, may_stay);
        assert_eq!(seen, [of("c", false), of("b", true)]);
        let whole = model(&inside, &inside, &inside);
        assert_eq!(put_inside(&whole, |_, _| unreachable!()), Ok(None));
    }

    #[test]
    fn what_is_no_model_is_an_error() {
        let refused = |bytes: &[u8]| put_inside(bytes, |_, _| Ok(Place::Beside)).expect_err("none");
        assert!(refused(b"no model at all").contains("unknown kind 6"));
        let whole = model(&weight("a", b"xyz", ""), b"", b"");
        assert!(refused(&whole[..whole.len() - 1]).contains("cut off"));
        let deep = (0..200).fold(Vec::new(), |inner, _| field(1, &field(5, &field(6, &inner))));
        assert!(refused(&field(7, &deep)).contains("deep"));
        let mut odd = weight("w", b"", "f");
        let offset = odd.windows(2).position(|pair| pair == b"64").expect("an offset");
        odd[offset] = b'-';
        assert!(refused(&model(b"", &odd, b"")).contains("weights 'w': offset: expected a number"));
    }
}
