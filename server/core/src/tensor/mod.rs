//! Dense tensors: an element type, a shape and little-endian bytes.

use bytes::Bytes;
use half::{bf16, f16};

pub mod compare;
pub mod strings;

/// A piece of memory as large, and as aligned, as the vectors of floats that kernels sum.
pub type Word = u128;

/// The element types that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// Booleans of 1 byte, 0 or 1.
    Bool,
    /// Unsigned integers of 1 byte.
    Uint8,
    /// Unsigned integers of 2 bytes.
    Uint16,
    /// Unsigned integers of 4 bytes.
    Uint32,
    /// Unsigned integers of 8 bytes.
    Uint64,
    /// Signed integers of 1 byte, in two's complement.
    Int8,
    /// Signed integers of 2 bytes, in two's complement.
    Int16,
    /// Signed integers of 4 bytes, in two's complement.
    Int32,
    /// Signed integers of 8 bytes, in two's complement.
    Int64,
    /// Floats of 2 bytes, IEEE 754 binary16.
    Fp16,
    /// Floats of 2 bytes, bfloat16.
    Bf16,
    /// Floats of 4 bytes, IEEE 754 binary32.
    Fp32,
    /// Floats of 8 bytes, IEEE 754 binary64.
    Fp64,
    /// Strings of any bytes, laid out as [`strings`] says.
    Bytes,
}

impl DType {
    /// Every type, in the order of `sigmax.v1.DataType` from 1.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The type of this number in `onnx.TensorProto.DataType`; none where it cannot be served.
    pub fn from_onnx(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Fp32,
            2 => Self::Uint8,
            3 => Self::Int8,
            4 => Self::Uint16,
            5 => Self::Int16,
            6 => Self::Int32,
            7 => Self::Int64,
            9 => Self::Bool,
            10 => Self::Fp16,
            11 => Self::Fp64,
            12 => Self::Uint32,
            13 => Self::Uint64,
            8 => Self::Bytes,
            16 => Self::Bf16,
            _ => return None,
        })
    }

    /// The bytes of an element, which are also its alignment. Elements of BYTES differ in size: 1
    /// stands for the least of their units, a byte.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 | Self::Bytes => 1,
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => 2,
            Self::Uint32 | Self::Int32 | Self::Fp32 => 4,
            Self::Uint64 | Self::Int64 | Self::Fp64 => 8,
        }
    }

    /// The type's name in the Open Inference Protocol, such as `FP32`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The type of this name in the Open Inference Protocol; none where there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

/// A row-major tensor that owns a share of its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The type of the elements.
    pub dtype: DType,
    /// The sizes of the axes; the batch axis comes first where there is one.
    pub shape: Vec<usize>,
    /// The elements, at any address: `product(shape) * dtype.size()` bytes, or `product(shape)`
    /// strings.
    pub data: Bytes,
}

impl Tensor {
    /// A view that borrows the tensor.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { dtype: self.dtype, shape: &self.shape, data: &self.data }
    }

    /// The bytes of each element, in row-major order.
    pub fn elements(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self.dtype {
            DType::Bytes => Box::new(strings::elements(&self.data)),
            dtype => Box::new(self.data.chunks(dtype.size())),
        }
    }
}

/// The rows of a tensor, which are handed out in their order and share its memory.
#[derive(Debug)]
pub struct Rows<'a> {
    of: &'a Tensor,
    left: Bytes,
}

impl<'a> Rows<'a> {
    /// The rows of a tensor with a batch axis.
    pub fn of(tensor: &'a Tensor) -> Self {
        Self { of: tensor, left: tensor.data.clone() }
    }

    /// The next `rows` rows, of which there must be as many left.
    pub fn next(&mut self, rows: usize) -> Tensor {
        let mut shape = self.of.shape.clone();
        let size = match self.of.dtype {
            DType::Bytes => {
                let row_elements: usize = shape[1..].iter().product();
                strings::size_of_first(&self.left, rows * row_elements)
            }
            _ => self.of.data.len() / shape[0].max(1) * rows,
        };
        shape[0] = rows;
        Tensor { dtype: self.of.dtype, shape, data: self.left.split_to(size) }
    }
}

/// A row-major tensor that borrows its bytes, for an engine to read.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The type of the elements.
    pub dtype: DType,
    /// The sizes of the axes.
    pub shape: &'a [usize],
    /// The elements: `product(shape) * dtype.size()` bytes, or `product(shape)` strings. They are
    /// aligned for `dtype` in a view that an engine is given.
    pub data: &'a [u8],
}

impl TensorView<'_> {
    /// Whether the first byte lies at an address where an engine may read the tensor: where an
    /// element may lie and, for floats, where a vector of them may. Some kernels sum the floats
    /// before the first such address apart, and the sum then has other bits.
    pub fn is_aligned(&self) -> bool {
        let alignment = match self.dtype {
            DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64 => align_of::<Word>(),
            dtype => dtype.size(),
        };
        self.data.as_ptr().addr().is_multiple_of(alignment)
    }
}

/// The number of bytes of a tensor, or of its strings where it is of BYTES; none where the number
/// overflows.
pub fn byte_size(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |size, &dim| size.checked_mul(dim))
}

/// Appends floats of any width to `into` as FP32. Other types have no floats, and append nothing
/// that means anything.
pub fn read_floats(dtype: DType, bytes: &[u8], into: &mut Vec<f32>) {
    let pairs = bytes.chunks_exact(2).map(|bytes| [bytes[0], bytes[1]]);
    match dtype {
        DType::Fp16 => into.extend(pairs.map(|bytes| f16::from_le_bytes(bytes).to_f32())),
        DType::Bf16 => into.extend(pairs.map(|bytes| bf16::from_le_bytes(bytes).to_f32())),
        DType::Fp64 => {
            let (doubles, _) = bytes.as_chunks::<8>();
            into.extend(doubles.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32));
        }
        _ => {
            let (floats, _) = bytes.as_chunks::<4>();
            into.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
    }
}

/// A copy that is aligned for an engine, whatever its type.
pub fn aligned(bytes: &[u8]) -> Bytes {
    struct Words(Vec<Word>);
    impl AsRef<[u8]> for Words {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    let mut words: Vec<Word> = vec![0; bytes.len().div_ceil(size_of::<Word>())];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    Bytes::from_owner(Words(words)).slice(..bytes.len())
}
