//! Bindings of a session's inputs and outputs to memory: made once, and run over and over.
//!
//! `ort` has bindings too, but they bind no output to memory that is not the library's own, and
//! make values of all outputs at every run.

use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::ptr::{self, NonNull};
use std::slice;

use ort::memory::MemoryInfo;
use ort::session::Session;
use ort::{AsPointer, sys};

use super::errors::run_error;
use super::session::Options;
use super::value;
use crate::engine::{Bounds, EngineError};
use crate::tensor::DType;

/// A tensor in memory that its caller keeps.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub shape: &'a [usize],
    pub address: usize,
    pub bytes: usize,
}

/// The memory where a session finds its inputs and puts its outputs. The binding keeps neither the
/// session nor the memory: both must outlive it.
#[derive(Debug)]
pub(super) struct Binding {
    pointer: NonNull<sys::OrtIoBinding>,
    values: Vec<NonNull<sys::OrtValue>>,
}

// SAFETY: the library's objects belong to no thread; they are used by one at a time.
#[allow(unsafe_code)]
unsafe impl Send for Binding {}

impl Binding {
    /// Binds all inputs and outputs of a session to memory of the kind that `info` describes.
    #[allow(unsafe_code)]
    pub fn new(
        session: &Session,
        info: &MemoryInfo<'_>,
        inputs: &[Place<'_>],
        outputs: &[Place<'_>],
    ) -> Result<Self, EngineError> {
        let mut pointer = ptr::null_mut();
        // SAFETY: the session is alive; on success there is a binding, which is ours.
        unsafe { check((ort::api().CreateIoBinding)(session.ptr().cast_mut(), &mut pointer))? };
        let pointer = NonNull::new(pointer).ok_or_else(|| fault(&"no binding was made"))?;
        let mut binding = Self { pointer, values: Vec::new() };
        let bind_input = ort::api().BindInput;
        let bind_output = ort::api().BindOutput;
        let inputs = inputs.iter().map(|place| (place, bind_input));
        for (place, bind) in inputs.chain(outputs.iter().map(|place| (place, bind_output))) {
            let name = CString::new(place.name).map_err(|error| fault(&error))?;
            let value = tensor(info, place)?;
            binding.values.push(value);
            // SAFETY: binding, name and value are alive; the binding takes a share of the value.
            unsafe { check(bind(pointer.as_ptr(), name.as_ptr(), value.as_ptr()))? };
        }
        Ok(binding)
    }

    /// Runs the session that the binding was made for. The run is only begun where the options
    /// switch the device's synchronisation off.
    #[allow(unsafe_code)]
    pub fn run(
        &self,
        session: &mut Session,
        options: &Options,
        bounds: &Bounds,
    ) -> Result<(), EngineError> {
        let session = session.ptr().cast_mut();
        let (run, binding) = (options.run.ptr(), self.pointer.as_ptr());
        // SAFETY: session, options and binding are alive, and no other thread runs the session now.
        options.bounded(bounds, || unsafe {
            check((ort::api().RunWithBinding)(session, run, binding))
        })
    }
}

impl Drop for Binding {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the binding and its values are ours, and are used no more.
        unsafe {
            (ort::api().ReleaseIoBinding)(self.pointer.as_ptr());
            self.values.iter().for_each(|value| (ort::api().ReleaseValue)(value.as_ptr()));
        }
    }
}

/// A value over memory that stays its caller's.
#[allow(unsafe_code)]
fn tensor(info: &MemoryInfo<'_>, place: &Place<'_>) -> Result<NonNull<sys::OrtValue>, EngineError> {
    let shape: Vec<_> = place.shape.iter().map(|&size| size as i64).collect();
    let mut pointer = ptr::null_mut();
    // SAFETY: the library keeps the address and reads the rest now.
    unsafe {
        check((ort::api().CreateTensorWithDataAsOrtValue)(
            info.ptr(),
            ptr::with_exposed_provenance_mut(place.address),
            place.bytes,
            shape.as_ptr(),
            shape.len(),
            value::element(place.dtype).into(),
            &mut pointer,
        ))?;
    }
    NonNull::new(pointer).ok_or_else(|| fault(&"no value was made"))
}

/// The operators of a session, as pairs of the provider that runs one and the operator. The session
/// must have been told to record this.
#[allow(unsafe_code)]
pub(super) fn assignment(session: &Session) -> Result<Vec<(String, String)>, EngineError> {
    let api = ort::api();
    let (mut graphs, mut count) = (ptr::null(), 0);
    let mut assigned = Vec::new();
    // SAFETY: everything that the library gives is the session's and lives as long; the counts are
    // the library's own.
    unsafe {
        check((api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut graphs, &mut count))?;
        for &graph in parts(graphs, count) {
            let mut provider = ptr::null();
            check((api.EpAssignedSubgraph_GetEpName)(graph, &mut provider))?;
            let (mut nodes, mut count) = (ptr::null(), 0);
            check((api.EpAssignedSubgraph_GetNodes)(graph, &mut nodes, &mut count))?;
            for &node in parts(nodes, count) {
                let mut operator = ptr::null();
                check((api.EpAssignedNode_GetOperatorType)(node, &mut operator))?;
                assigned.push((text(provider), text(operator)));
            }
        }
    }
    Ok(assigned)
}

/// A slice of `count` values from `first` on.
///
/// # Safety
/// There must be `count` values at `first`, unless `count` is 0.
#[allow(unsafe_code)]
unsafe fn parts<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if count == 0 { &[] } else { unsafe { slice::from_raw_parts(first, count) } }
}

/// A copy of a C string.
///
/// # Safety
/// `text` must be a C string.
#[allow(unsafe_code)]
unsafe fn text(text: *const c_char) -> String {
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The error that a status stands for.
///
/// # Safety
/// The status must be the library's, and not checked yet.
#[allow(unsafe_code)]
unsafe fn check(status: sys::OrtStatusPtr) -> Result<(), EngineError> {
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| run_error(&error))
}

fn fault(reason: &dyn Display) -> EngineError {
    EngineError::Fault(reason.to_string())
}
