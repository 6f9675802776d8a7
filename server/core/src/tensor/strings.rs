//! BYTES tensors: each element is its length, of four bytes in little-endian order, and then its
//! bytes; one element follows the other. An element may have any bytes, such as NULs and bytes that
//! are no UTF-8.

use bytes::{BufMut, BytesMut};

/// The bytes of an element's length.
const LENGTH: usize = size_of::<u32>();

/// The reason why bytes are not as many elements as expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The elements are fewer than expected; their number is given.
    Fewer(usize),
    /// The elements are at least one more than expected.
    More,
    /// The bytes end within a length; the bytes of it that are there are given.
    CutLength(usize),
    /// The bytes end within an element; the bytes of it that are missing are given.
    CutElement(usize),
}

/// Checks that the bytes are exactly `count` elements.
pub fn check(mut data: &[u8], count: usize) -> Result<(), Fault> {
    let mut found = 0;
    while !data.is_empty() {
        let Some((length, rest)) = data.split_first_chunk::<LENGTH>() else {
            return Err(Fault::CutLength(data.len()));
        };
        if found == count {
            return Err(Fault::More);
        }
        let length = u32::from_le_bytes(*length) as usize;
        data = rest.get(length..).ok_or_else(|| Fault::CutElement(length - rest.len()))?;
        found += 1;
    }
    if found == count { Ok(()) } else { Err(Fault::Fewer(found)) }
}

/// The elements of a checked tensor.
pub fn elements(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<LENGTH>()?;
        let (element, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        data = rest;
        Some(element)
    })
}

/// The bytes that the first `count` elements of a checked tensor take, with their lengths.
pub fn size_of_first(data: &[u8], count: usize) -> usize {
    elements(data).take(count).map(|element| LENGTH + element.len()).sum()
}

/// Appends an element.
pub fn put(element: &[u8], into: &mut BytesMut) {
    into.put_u32_le(element.len() as u32);
    into.put_slice(element);
}

/// A tensor of these elements.
pub fn tensor_of<E: AsRef<[u8]>>(elements: &[E]) -> BytesMut {
    let size = elements.iter().map(|element| LENGTH + element.as_ref().len()).sum();
    let mut data = BytesMut::with_capacity(size);
    elements.iter().for_each(|element| put(element.as_ref(), &mut data));
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_as_they_were() {
        let strings: [&[u8]; 4] = [b"", b"a\0b", &[0xff, 0xfe], "Ωmega".as_bytes()];
        let data = tensor_of(&strings);
        assert_eq!(check(&data, 4), Ok(()));
        assert_eq!(elements(&data).collect::<Vec<_>>(), strings);
        assert_eq!(size_of_first(&data, 2), 4 + 4 + 3);
    }

    #[test]
    fn what_is_not_as_many_elements_is_told_apart() {
        let data = tensor_of(&["ab", "c"]);
        assert_eq!(check(&data, 3), Err(Fault::Fewer(2)));
        assert_eq!(check(&data, 1), Err(Fault::More));
        assert_eq!(check(&data[..data.len() - 1], 2), Err(Fault::CutElement(1)));
        assert_eq!(check(&data[..8], 2), Err(Fault::CutLength(2)));
        assert_eq!(check(&[0xff, 0xff, 0xff, 0xff, 1], 1), Err(Fault::CutElement(0xffff_fffe)));
        assert_eq!(check(&[], 0), Ok(()));
    }
}
