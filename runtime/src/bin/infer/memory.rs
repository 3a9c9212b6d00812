//! How the C library's allocator treats large buffers that are freed.

/// Free memory that stays at the end of one of the allocator's heaps, in bytes.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 8 << 20;

/// The smallest buffer that is mapped and unmapped by itself, in bytes; the most that the allocator takes.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 32 << 20;

/// Has the buffers of requests used again: glibc gives them back to the kernel one by one, which has to clear their pages
/// each time.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the C library is called")]
pub(crate) fn keep() {
    for (parameter, value) in [
        (libc::M_TRIM_THRESHOLD, KEPT),
        (libc::M_MMAP_THRESHOLD, MAPPED),
    ] {
        // SAFETY: it takes two numbers; those that it does not like it refuses.
        unsafe { libc::mallopt(parameter, value) };
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
pub(crate) fn give_back() {}
