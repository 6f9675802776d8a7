//! The kind of a file that is called a model and is none, known by its first bytes.

/// First bytes of such files, with what the file is and what to do about it.
const KNOWN: [(&[u8], &str); 6] = [
    (
        b"version https://git-lfs.github.com/spec/",
        "it is a pointer of Git LFS, and not the file itself: fetch it with git lfs pull",
    ),
    (b"PK\x03\x04", "it is an archive, as PyTorch saves weights: export the network to ONNX"),
    (b"\x89HDF", "it is an HDF5 file, as Keras saves networks: export the network to ONNX"),
    (b"<!", "it is a web page: download the file itself"),
    (b"<html", "it is a web page: download the file itself"),
    (b"{", "it is text, as JSON is: expected an ONNX file"),
];

/// An error where the bytes are known not to be an ONNX model.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.is_empty() {
        return Err("it is empty: expected an ONNX file".into());
    }
    if bytes.get(4..8) == Some(b"ORTM") {
        return Err("it is in ONNX Runtime's own format: serve the ONNX file it was made of".into());
    }
    match KNOWN.iter().find(|(beginning, _)| bytes.starts_with(beginning)) {
        Some((_, what)) => Err((*what).into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_is_no_model_is_told_by_its_beginning() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(check(pointer).expect_err("no model").contains("git lfs pull"));
        assert!(check(b"").expect_err("no model").contains("empty"));
        assert!(check(b"\x18\0\0\0ORTM").expect_err("no model").contains("own format"));
        assert_eq!(check(b"\x08\x09\x3a\x00"), Ok(()));
    }
}
