//! Tensors from values, and values from tensors.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Result};
use crate::v1::tensor::Data;
use crate::v1::{DataType, Tensor};

/// A type whose values are elements of a tensor: `bool`, the integers of 8 to 64 bits, `f32` and
/// `f64`; and to send, `&str`, `String`, `&[u8]` and `Vec<u8>` as elements of BYTES.
pub trait Element: sealed::Element {}

/// An element that is a number or a bool, of a fixed size.
pub trait Number: Element + sealed::Number {}

mod sealed {
    use bytes::BytesMut;

    use crate::v1::DataType;

    pub trait Element {
        const DTYPE: DataType;
        fn put(&self, to: &mut BytesMut);
    }

    pub trait Number: Sized {
        fn get(bytes: &[u8]) -> Self;
    }
}

macro_rules! numbers {
    ($($number:ty: $dtype:ident),*) => {$(
        impl Element for $number {}
        impl Number for $number {}

        impl sealed::Element for $number {
            const DTYPE: DataType = DataType::$dtype;

            fn put(&self, to: &mut BytesMut) {
                to.put_slice(&self.to_le_bytes());
            }
        }

        impl sealed::Number for $number {
            fn get(bytes: &[u8]) -> Self {
                let mut element = [0; size_of::<Self>()];
                element.copy_from_slice(bytes);
                Self::from_le_bytes(element)
            }
        }
    )*};
}

numbers!(
    u8: Uint8, u16: Uint16, u32: Uint32, u64: Uint64, i8: Int8, i16: Int16, i32: Int32, i64: Int64,
    f32: Fp32, f64: Fp64
);

impl Element for bool {}
impl Number for bool {}

impl sealed::Element for bool {
    const DTYPE: DataType = DataType::Bool;

    fn put(&self, to: &mut BytesMut) {
        to.put_u8(u8::from(*self));
    }
}

impl sealed::Number for bool {
    fn get(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
}

macro_rules! strings {
    ($($string:ty),*) => {$(
        impl Element for $string {}

        impl sealed::Element for $string {
            const DTYPE: DataType = DataType::Bytes;

            fn put(&self, to: &mut BytesMut) {
                let bytes: &[u8] = self.as_ref();
                // A longer string is refused with its message, which is over every limit.
                to.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                to.put_slice(bytes);
            }
        }
    )*};
}

strings!(&str, String, &[u8], Vec<u8>);

impl Tensor {
    /// A tensor of this type and shape, the batch first, of raw elements: little-endian, without
    /// padding; strings of BYTES each after its length in 4 bytes. `DataType::Unspecified` is the
    /// type of the model's input. The server checks that the elements fit.
    pub fn raw(dtype: DataType, shape: impl Into<Vec<i64>>, elements: impl Into<Bytes>) -> Self {
        let data = Some(Data::Raw(elements.into()));
        Self { dtype: dtype.into(), shape: shape.into(), data, ..Self::default() }
    }

    /// A tensor of this shape, the batch first, with as many elements.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT with the reason "SHAPE_MISMATCH" where the elements are more or fewer.
    pub fn new<T: Element>(shape: impl Into<Vec<i64>>, elements: &[T]) -> Result<Self> {
        let shape = shape.into();
        let sizes = shape.iter().map(|size| usize::try_from(*size).ok());
        let count = sizes.reduce(|all, size| all?.checked_mul(size?)).unwrap_or(Some(1));
        if count != Some(elements.len()) {
            let problem = format!("expected the elements of {shape:?}, got {}", elements.len());
            return Err(Error::in_field("inputs", "SHAPE_MISMATCH", problem));
        }
        Ok(Self::of(shape, elements.iter()))
    }

    /// One row of these elements, of the shape [1, n].
    pub fn row<T: Element>(elements: &[T]) -> Self {
        Self::of(vec![1, elements.len() as i64], elements.iter())
    }

    /// A batch of rows of as many elements each, of the shape [rows, n].
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT with the reason "SHAPE_MISMATCH" where a row has more or fewer elements than
    /// the first.
    pub fn rows<T: Element>(rows: &[impl AsRef<[T]>]) -> Result<Self> {
        let width = rows.first().map_or(0, |row| row.as_ref().len());
        for (number, row) in rows.iter().enumerate() {
            let found = row.as_ref().len();
            if found != width {
                let problem = format!("expected {width} elements in row {number}, got {found}");
                return Err(Error::in_field("inputs", "SHAPE_MISMATCH", problem));
            }
        }
        let elements = rows.iter().flat_map(|row| row.as_ref());
        Ok(Self::of(vec![rows.len() as i64, width as i64], elements))
    }

    /// The same tensor as the input of this name.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The raw elements of an answer, as [`raw`](Self::raw) takes them.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Some(Data::Raw(raw)) => raw,
            _ => &[],
        }
    }

    /// The elements of an answer in row-major order.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT with the reason "DTYPE_MISMATCH" where they are of another type.
    pub fn to_vec<T: Number>(&self) -> Result<Vec<T>> {
        if self.dtype() != T::DTYPE {
            let (expected, found) = (T::DTYPE.as_str_name(), self.dtype().as_str_name());
            let problem = format!("expected {expected}, got a tensor of {found}");
            return Err(Error::in_field(&self.name, "DTYPE_MISMATCH", problem));
        }
        Ok(self.bytes().chunks_exact(size_of::<T>()).map(T::get).collect())
    }

    fn of<'a, T: Element + 'a>(shape: Vec<i64>, elements: impl Iterator<Item = &'a T>) -> Self {
        let mut raw = BytesMut::with_capacity(elements.size_hint().0 * size_of::<T>());
        elements.for_each(|element| element.put(&mut raw));
        Self::raw(T::DTYPE, shape, raw)
    }
}

/// The inputs of a request: one tensor for each input of the model.
///
/// An array, a slice or a `Vec` of elements is one row; an array of arrays is a batch; a [`Tensor`]
/// is anything. A tensor without a name is the model's one input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs(pub(crate) Vec<Tensor>);

impl From<Tensor> for Inputs {
    fn from(tensor: Tensor) -> Self {
        Self(vec![tensor])
    }
}

impl From<Vec<Tensor>> for Inputs {
    fn from(tensors: Vec<Tensor>) -> Self {
        Self(tensors)
    }
}

impl<const N: usize> From<[Tensor; N]> for Inputs {
    fn from(tensors: [Tensor; N]) -> Self {
        Self(tensors.into())
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Inputs {
    fn from(row: [T; N]) -> Self {
        Tensor::row(&row).into()
    }
}

impl<T: Element> From<&[T]> for Inputs {
    fn from(row: &[T]) -> Self {
        Tensor::row(row).into()
    }
}

impl<T: Element, const N: usize> From<&[T; N]> for Inputs {
    fn from(row: &[T; N]) -> Self {
        Tensor::row(row).into()
    }
}

impl<T: Element> From<Vec<T>> for Inputs {
    fn from(row: Vec<T>) -> Self {
        Tensor::row(&row).into()
    }
}

impl<T: Element, const ROWS: usize, const N: usize> From<[[T; N]; ROWS]> for Inputs {
    fn from(rows: [[T; N]; ROWS]) -> Self {
        Tensor::of(vec![ROWS as i64, N as i64], rows.iter().flatten()).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(inputs: impl Into<Inputs>) -> Tensor {
        let [tensor] = <[Tensor; 1]>::try_from(inputs.into().0).expect("one tensor");
        tensor
    }

    #[test]
    fn values_become_rows_and_batches() {
        for row in [one([1.5f32, 2.0]), one(vec![1.5f32, 2.0]), one(&[1.5f32, 2.0][..])] {
            assert_eq!((row.dtype(), &row.shape[..]), (DataType::Fp32, &[1, 2][..]));
            assert_eq!(row.bytes(), [0, 0, 192, 63, 0, 0, 0, 64]);
        }
        let batch = one([[1i16, 2, 3], [-1, -2, -3]]);
        assert_eq!((batch.dtype(), &batch.shape[..]), (DataType::Int16, &[2, 3][..]));
        assert_eq!(batch.to_vec::<i16>().expect("integers"), [1, 2, 3, -1, -2, -3]);
        assert_eq!(batch, Tensor::rows(&[vec![1i16, 2, 3], vec![-1, -2, -3]]).expect("a batch"));
    }

    #[test]
    fn strings_have_their_length_before() {
        let row = one(["a", "\u{fc}"]);
        assert_eq!((row.dtype(), &row.shape[..]), (DataType::Bytes, &[1, 2][..]));
        assert_eq!(row.bytes(), [1, 0, 0, 0, 97, 2, 0, 0, 0, 195, 188]);
    }

    #[test]
    fn what_does_not_fit_its_shape_is_refused() {
        let ragged = Tensor::rows(&[vec![1u8], vec![1, 2]]).expect_err("an error");
        assert_eq!(ragged.reason(), "SHAPE_MISMATCH");
        for shape in [vec![2, 2], vec![-3], vec![i64::MAX, i64::MAX], vec![]] {
            assert!(Tensor::new(shape, &[1u8, 2, 3]).is_err());
        }
        assert!(Tensor::new([3, 1], &[1u8, 2, 3]).is_ok());
        assert!(Tensor::new([], &[1u8]).is_ok());
        assert!(Tensor::new::<u8>([0, i64::MAX], &[]).is_ok());
    }

    #[test]
    fn values_of_another_type_are_refused() {
        let error = one([1.0f32]).to_vec::<f64>().expect_err("an error");
        assert_eq!(error.reason(), "DTYPE_MISMATCH");
    }

    proptest! {
        #[test]
        fn floats_keep_every_bit(bits: Vec<u32>) {
            let floats: Vec<f32> = bits.iter().copied().map(f32::from_bits).collect();
            let read: Vec<f32> = Tensor::row(&floats).to_vec().expect("floats");
            prop_assert_eq!(read.into_iter().map(f32::to_bits).collect::<Vec<_>>(), bits);
        }

        #[test]
        fn integers_and_bools_are_read_as_they_were(longs: Vec<i64>, bools: Vec<bool>) {
            prop_assert_eq!(Tensor::row(&longs).to_vec::<i64>().expect("integers"), longs);
            prop_assert_eq!(Tensor::row(&bools).to_vec::<bool>().expect("bools"), bools);
        }
    }
}
