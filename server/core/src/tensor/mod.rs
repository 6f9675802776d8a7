//! Dense tensors: an element type, a shape and little-endian bytes.

use bytes::Bytes;

pub mod compare;
pub mod strings;

/// The element types that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 1 byte.
    Uint8,
    /// Unsigned, 2 bytes.
    Uint16,
    /// Unsigned, 4 bytes.
    Uint32,
    /// Unsigned, 8 bytes.
    Uint64,
    /// Two's complement, 1 byte.
    Int8,
    /// Two's complement, 2 bytes.
    Int16,
    /// Two's complement, 4 bytes.
    Int32,
    /// Two's complement, 8 bytes.
    Int64,
    /// IEEE 754 binary16.
    Fp16,
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary64.
    Fp64,
    /// Strings of any bytes, laid out as `strings` says.
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

    /// The type that `onnx.TensorProto.DataType` numbers so.
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

    /// Bytes an element takes, which is also its alignment. Of BYTES, whose elements take what they
    /// take: the least unit, a byte.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 | Self::Bytes => 1,
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => 2,
            Self::Uint32 | Self::Int32 | Self::Fp32 => 4,
            Self::Uint64 | Self::Int64 | Self::Fp64 => 8,
        }
    }

    /// The name the Open Inference Protocol gives it, such as `FP32`.
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

    /// The type of this Open Inference Protocol name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

/// A row-major tensor that owns a share of its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The type of its elements.
    pub dtype: DType,
    /// The sizes, the batch first where there is one.
    pub shape: Vec<usize>,
    /// `product(shape) * dtype.size()` bytes, or as many strings, at any address.
    pub data: Bytes,
}

impl Tensor {
    /// A borrowed view.
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

/// Hands out a tensor's rows in their order; they share its memory.
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

    /// So many more, of which there are as many.
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

/// A row-major tensor that borrows its bytes; what an engine reads.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The type of its elements.
    pub dtype: DType,
    /// The sizes.
    pub shape: &'a [usize],
    /// `product(shape) * dtype.size()` bytes, or as many strings; aligned for `dtype` where an
    /// engine gets it.
    pub data: &'a [u8],
}

impl TensorView<'_> {
    /// Whether its first byte lies where an element may lie.
    pub fn is_aligned(&self) -> bool {
        self.data.as_ptr().addr().is_multiple_of(self.dtype.size())
    }
}

/// The number of bytes of a tensor, or of strings where it is of BYTES; nothing where the product does
/// not fit in memory.
pub fn byte_size(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |size, &dim| size.checked_mul(dim))
}

/// A copy whose first byte lies where an element of any type may lie.
pub fn aligned(bytes: &[u8]) -> Bytes {
    struct Words(Vec<u64>);
    impl AsRef<[u8]> for Words {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    let mut words = vec![0u64; bytes.len().div_ceil(size_of::<u64>())];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    Bytes::from_owner(Words(words)).slice(..bytes.len())
}
