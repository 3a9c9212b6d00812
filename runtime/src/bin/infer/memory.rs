//! How the C library's allocator gets memory from the kernel, and what becomes of large buffers that are freed.

#[cfg(target_env = "gnu")]
use rustix::process::{Resource, getrlimit};

/// Free memory that stays at the end of one of the allocator's heaps, in bytes.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 8 << 20;

/// The smallest buffer that is mapped and unmapped by itself, in bytes; the most that the allocator takes.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 32 << 20;

/// The heap of a run with models, in bytes, of which only what is touched takes memory.
#[cfg(target_env = "gnu")]
const HEAP: libc::c_int = 256 << 20;

/// By how much that grows when it is full, in bytes.
#[cfg(target_env = "gnu")]
const GROWTH: libc::c_int = 16 << 20;

/// Has the buffers of requests used again: glibc gives them back to the kernel one by one, which has to clear their pages
/// each time.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the C library is called")]
pub(crate) fn keep() {
    set(&[
        (libc::M_TRIM_THRESHOLD, KEPT),
        (libc::M_MMAP_THRESHOLD, MAPPED),
    ]);
}

/// Has one heap of large pages for all threads, where the kernel gives them: while a model loads and first runs, an engine
/// touches several times its size, and each page of 4 KiB is an interruption.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the C library and the kernel are called")]
pub(crate) fn use_large_pages() {
    // Address space that is not touched counts there too.
    let limits = [Resource::Data, Resource::As].map(getrlimit);
    if limits.iter().any(|limit| limit.current.is_some()) {
        return;
    }
    set(&[
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, MAPPED),
        (libc::M_TRIM_THRESHOLD, 2 * HEAP),
        (libc::M_TOP_PAD, HEAP),
    ]);
    // Larger than what is free, so that the heap grows. Where it cannot, all goes on as without.
    let mut grown = Vec::<u8>::new();
    let _ = grown.try_reserve_exact(GROWTH as usize);
    drop(std::hint::black_box(grown));
    set(&[(libc::M_TOP_PAD, GROWTH)]);
    // SAFETY: without an increment it only says where the heap ends.
    let end = unsafe { libc::sbrk(0) };
    // The buffer has grown it by its own size as well, and what comes first goes there.
    let (heap, page) = ((HEAP + GROWTH) as usize, 2 << 20);
    let begin = (end as usize).saturating_sub(heap).next_multiple_of(page);
    // SAFETY: it is advice about how pages are backed, which changes no contents. Where the heap did not grow, some other
    // memory of the process or none lies there, to which the same applies.
    unsafe { libc::madvise(begin as *mut _, end as usize - begin, libc::MADV_HUGEPAGE) };
}

/// Has small blocks join what is free beside them as soon as they are freed. The allocator would put that off until its heap is
/// full, and take from the heap's end meanwhile: all of a large one, where a guest goes on long enough. Loading models is
/// faster without.
#[cfg(target_env = "gnu")]
pub(crate) fn join_what_is_free() {
    set(&[(libc::M_MXFAST, 0)]);
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the C library is called")]
fn set(parameters: &[(libc::c_int, libc::c_int)]) {
    for (parameter, value) in parameters {
        // SAFETY: it takes two numbers; those that it does not like it refuses.
        unsafe { libc::mallopt(*parameter, *value) };
    }
}

/// Gives the kernel what loading models has freed, which lies between what is in use.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the C library is called")]
pub(crate) fn give_back() {
    // SAFETY: it takes a number, and locks the heaps itself.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such setting.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn keep() {}

/// Nor this.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn use_large_pages() {}

/// Nor this.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn join_what_is_free() {}

/// Nor this.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}
