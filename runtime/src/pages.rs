//! Large pages for memories of guests that grow large: a tensor of megabytes is written there and copied from there, and
//! each page of 4 KiB is an interruption when it is first touched, and one more for the processor to look up.
//!
//! wasmtime reserves all addresses of a memory beforehand and tells nobody where they are. The kernel does.

use std::ops::Range;

/// Up to this size a memory has small pages, in bytes: most guests touch little of them, and a large page is cleared whole.
pub(crate) const SMALL: usize = 8 << 20;

/// What is reserved and at least as large is a memory's, in bytes: nobody else reserves so much.
const RESERVED: usize = 2 << 30;

/// Has memories that grow from now on be backed by large pages, where the kernel gives them.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the kernel is called")]
pub(crate) fn use_large() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    for reserved in maps.lines().filter_map(reserved) {
        let begin = std::ptr::without_provenance_mut(reserved.start);
        let advice = rustix::mm::Advice::LinuxHugepage;
        // SAFETY: it is advice about how pages will be backed, which changes neither contents nor rights, whatever lies
        // there by now. Where it is not taken, all goes on as without.
        let _ = unsafe { rustix::mm::madvise(begin, reserved.len(), advice) };
    }
}

/// Other kernels have no such advice.
#[cfg(not(target_os = "linux"))]
pub(crate) fn use_large() {}

/// The addresses of a line of the kernel's, if these are reserved and nothing else.
#[cfg(target_os = "linux")]
fn reserved(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    let begin = usize::from_str_radix(begin, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    // Rights, and after offset and device the file.
    let nobodys = words.next() == Some("---p") && words.nth(2) == Some("0");
    (nobodys && end.checked_sub(begin)? >= RESERVED).then_some(begin..end)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_reserved_for_a_memory_counts() {
        let of = |rights: &str, end: &str, file: &str| {
            reserved(&format!(
                "7f0000000000-{end} {rights} 00000000 00:00 {file} "
            ))
        };
        let whole = 0x7f00_0000_0000..0x7f01_0000_0000;
        assert_eq!(of("---p", "7f0100000000", "0"), Some(whole));
        assert_eq!(of("rw-p", "7f0100000000", "0"), None);
        assert_eq!(of("---p", "7f0004000000", "0"), None, "a heap of glibc's");
        assert_eq!(of("---p", "7f0100000000", "1234"), None, "a file");
        assert_eq!(reserved(""), None);
    }
}
