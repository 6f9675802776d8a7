//! The host's memory for ONNX Runtime, so that a run that takes too much of it fails alone.
//!
//! The library's own arena has no limit, and keeps for ever what a run has once taken. A session runs
//! on the thread that asks it to, and allocates there: what a run holds is counted by its thread.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use ort::environment::Environment;
use ort::{AsPointer, sys};

use super::errors::run_error;
use crate::engine::EngineError;

/// What the library's vector kernels want.
const ALIGNMENT: usize = 64;
/// What comes before a block.
const HEAD: usize = size_of::<Head>();
/// Blocks of this size and more are kept for the next run: the system would clear each page anew.
const LARGE: usize = 64 << 10;
/// Most bytes that a thread keeps for the next run.
const KEPT_BYTES: usize = 64 << 20;
/// Most blocks that a thread keeps for the next run.
const KEPT_BLOCKS: usize = 64;
/// Finds only what has been loaded already (dlfcn.h).
const RTLD_NOLOAD: c_int = 4;

/// Where a block begins, and how large it is.
#[derive(Clone, Copy)]
struct Head {
    start: *mut u8,
    size: usize,
}

impl Head {
    /// The layout of the whole block.
    fn layout(self) -> Layout {
        layout(self.size).expect("it has been allocated by this")
    }
}

fn layout(size: usize) -> Option<Layout> {
    let size = size.checked_add(HEAD + ALIGNMENT)?;
    Layout::from_size_align(size, align_of::<Head>()).ok()
}

/// Large blocks that nobody uses, the newest last.
#[derive(Default)]
struct Kept {
    blocks: VecDeque<Head>,
    bytes: usize,
}

impl Kept {
    /// The smallest block that is large enough, and not much larger.
    fn take(&mut self, size: usize) -> Option<Head> {
        let fits = |block: &Head| (size..=size + size / 4).contains(&block.size);
        let blocks = self.blocks.iter().enumerate().filter(|(_, block)| fits(block));
        let (at, _) = blocks.min_by_key(|(_, block)| block.size)?;
        let block = self.blocks.remove(at)?;
        self.bytes -= block.size;
        Some(block)
    }

    fn put(&mut self, block: Head) {
        self.bytes += block.size;
        self.blocks.push_back(block);
        while self.bytes > KEPT_BYTES || self.blocks.len() > KEPT_BLOCKS {
            let Some(oldest) = self.blocks.pop_front() else { break };
            self.bytes -= oldest.size;
            free_now(oldest);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.blocks.drain(..).for_each(free_now);
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
    /// What the thread's run holds. What it frees of earlier times makes this less than nothing.
    static USED: Cell<isize> = const { Cell::new(0) };
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
    /// What it would have held, had it not been refused.
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

/// The limit is lifted when this is dropped.
struct Limited;

impl Drop for Limited {
    fn drop(&mut self) {
        LIMIT.set(isize::MAX);
    }
}

/// Does work that may hold so many bytes of the library's memory; what it wanted to hold, where it
/// was refused more.
pub(super) fn within<T>(limit: usize, work: impl FnOnce() -> T) -> (T, Option<usize>) {
    USED.set(0);
    REFUSED.set(0);
    LIMIT.set(isize::try_from(limit).unwrap_or(isize::MAX));
    let limited = Limited;
    let came = work();
    drop(limited);
    let refused = REFUSED.get();
    (came, (refused > 0).then_some(refused))
}

/// Has the sessions of this environment, as far as they are told to, take their memory from here.
#[allow(unsafe_code)]
pub(super) fn register(environment: &Environment) -> Result<(), EngineError> {
    let _ = THROW.set(find_throw());
    if throw().is_none() {
        tracing::warn!("no limit of a model's memory is kept: there is no libstdc++.so.6");
    }
    let mut info = ptr::null_mut();
    let (kind, place) =
        (sys::OrtAllocatorType::OrtDeviceAllocator, sys::OrtMemType::OrtMemTypeDefault);
    // SAFETY: the address is written to memory of ours.
    let status = unsafe { (ort::api().CreateCpuMemoryInfo)(kind, place, &mut info) };
    // SAFETY: the status is the library's.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| run_error(&error))?;
    // SAFETY: functions that unwind are called as others are, and the library's own allocators
    // throw, too.
    let allocate: unsafe extern "system" fn(*mut sys::OrtAllocator, usize) -> *mut c_void =
        unsafe { mem::transmute(allocate as unsafe extern "C-unwind" fn(_, _) -> _) };
    // SAFETY: as above.
    let reserve: unsafe extern "system" fn(*const sys::OrtAllocator, usize) -> *mut c_void =
        unsafe { mem::transmute(reserve as unsafe extern "C-unwind" fn(_, _) -> _) };
    // SAFETY: there are no fields that could be wrong.
    let allocator = sys::OrtAllocator {
        Alloc: Some(allocate),
        Free: Some(free),
        Info: Some(info_of),
        Reserve: Some(reserve),
        ..unsafe { sys::OrtAllocator::default() }
    };
    // The allocator lives as long as the environment: as the process.
    let allocator = Box::leak(Box::new(Heap { allocator, info }));
    // SAFETY: both are alive from now on.
    unsafe {
        let environment = environment.ptr().cast_mut();
        let status = (ort::api().RegisterAllocator)(environment, &mut allocator.allocator);
        ort::Error::result_from_status(status).map_err(|error| run_error(&error))
    }
}

/// What the library knows of it.
#[repr(C)]
struct Heap {
    allocator: sys::OrtAllocator,
    info: *mut sys::OrtMemoryInfo,
}

#[allow(unsafe_code)]
unsafe extern "system" fn info_of(heap: *const sys::OrtAllocator) -> *const sys::OrtMemoryInfo {
    // SAFETY: the library gives what it was given.
    unsafe { (*heap.cast::<Heap>()).info }
}

#[allow(unsafe_code)]
unsafe extern "C-unwind" fn allocate(_: *mut sys::OrtAllocator, size: usize) -> *mut c_void {
    give(size)
}

#[allow(unsafe_code)]
unsafe extern "C-unwind" fn reserve(_: *const sys::OrtAllocator, size: usize) -> *mut c_void {
    give(size)
}

/// Memory, or an exception of C++: the library does not look whether it has got any. It holds nothing
/// that would have to be dropped then.
extern "C-unwind" fn give(size: usize) -> *mut c_void {
    if size == 0 {
        return ptr::null_mut();
    }
    match block(size) {
        Some(block) => block,
        None => match throw() {
            // SAFETY: it takes nothing, and its exception is the library's to catch.
            #[allow(unsafe_code)]
            Some(throw) => unsafe { throw() },
            None => ptr::null_mut(),
        },
    }
}

/// A block of so many bytes; none where the run may not have it, or there is none.
fn block(size: usize) -> Option<*mut c_void> {
    let held = USED.get().saturating_add_unsigned(size);
    if held > LIMIT.get() && throw().is_some() {
        REFUSED.set(usize::try_from(held).unwrap_or(size));
        return None;
    }
    let kept = (size >= LARGE).then(|| KEPT.try_with(|kept| kept.borrow_mut().take(size)).ok());
    let head = match kept.flatten().flatten() {
        Some(head) => head,
        None => new(size)?,
    };
    USED.set(USED.get().saturating_add_unsigned(head.size));
    Some(with_head(head).cast())
}

#[allow(unsafe_code)]
fn new(size: usize) -> Option<Head> {
    // SAFETY: its size is not zero.
    let start = unsafe { alloc(layout(size)?) };
    (!start.is_null()).then_some(Head { start, size })
}

/// The block's first byte that is the library's; the head lies right before it.
#[allow(unsafe_code)]
fn with_head(head: Head) -> *mut u8 {
    // SAFETY: there is room for a head and for what the alignment takes.
    unsafe {
        let block = head.start.add(HEAD);
        let block = block.add(block.align_offset(ALIGNMENT));
        block.sub(HEAD).cast::<Head>().write(head);
        block
    }
}

#[allow(unsafe_code)]
unsafe extern "system" fn free(_: *mut sys::OrtAllocator, block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: it is a block of ours, and its head is before it.
    let head = unsafe { block.cast::<u8>().sub(HEAD).cast::<Head>().read() };
    USED.set(USED.get().saturating_sub_unsigned(head.size));
    // A thread that ends keeps nothing any more.
    let kept = head.size >= LARGE && KEPT.try_with(|kept| kept.borrow_mut().put(head)).is_ok();
    if !kept {
        free_now(head);
    }
}

#[allow(unsafe_code)]
fn free_now(head: Head) {
    // SAFETY: it has been allocated by this layout, and nobody uses it any more.
    unsafe { dealloc(head.start, head.layout()) };
}

type Throw = unsafe extern "C-unwind" fn() -> !;

static THROW: OnceLock<Option<Throw>> = OnceLock::new();

/// Throws `std::bad_alloc`, as the library's own allocators do.
fn throw() -> Option<Throw> {
    THROW.get().copied().flatten()
}

#[allow(unsafe_code)]
fn find_throw() -> Option<Throw> {
    // SAFETY: it has been loaded already, with ONNX Runtime, which stays.
    let library =
        unsafe { Library::open(Some("libstdc++.so.6"), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD).ok()? };
    // SAFETY: `void std::__throw_bad_alloc()` is part of the library's stable interface.
    let throw = unsafe { *library.get::<Throw>(b"_ZSt17__throw_bad_allocv").ok()? };
    mem::forget(library);
    Some(throw)
}
