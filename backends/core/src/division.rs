//! Divisions of whole numbers that the processor refuses, in an engine's machine code: by 0, and of the smallest number
//! by -1. The kernel's answer is a signal that ends the process, with every guest and client in it. Here such a division
//! gives a number all the same, and the run that it was part of an error.
//!
//! Only Linux on x86-64 has that signal; elsewhere nothing is done.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub(crate) use nothing::Watch;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) use signal::Watch;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[allow(
    unsafe_code,
    reason = "the C library is called, and registers are changed"
)]
mod signal {
    use std::cell::Cell;
    use std::ffi::{CStr, c_int, c_void};
    use std::mem::{MaybeUninit, transmute};
    use std::ptr;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Once, OnceLock};

    use crate::panic::in_engine;

    /// The engines that run models on threads of their own, as the names of their libraries have them.
    #[cfg(not(test))]
    const ENGINES: [&str; 2] = ["onnxruntime", "openvino"];
    #[cfg(test)]
    const ENGINES: [&str; 3] = ["onnxruntime", "openvino", "infer_core"];

    /// What the kernel says of a signal that is for a division.
    const FPE_INTDIV: c_int = 1;

    /// What did about this signal before: as it was when the handler was made, and what took its place until it was there.
    static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
    static REPLACED: OnceLock<libc::sigaction> = OnceLock::new();

    /// How many were refused on threads of each engine's own.
    static ELSEWHERE: [AtomicU64; ENGINES.len()] = [const { AtomicU64::new(0) }; ENGINES.len()];

    /// The last such instruction and its engine, since looking for it may take long.
    static LAST: AtomicU64 = AtomicU64::new(u64::MAX);

    thread_local! {
        static HERE: Cell<bool> = const { Cell::new(false) };
    }

    /// Looks whether a division is refused while an engine runs.
    pub(crate) struct Watch {
        elsewhere: Option<(&'static AtomicU64, u64)>,
    }

    impl Watch {
        pub(crate) fn start(engine: &str) -> Watch {
            static INSTALLED: Once = Once::new();
            INSTALLED.call_once(install);
            let known = ENGINES.iter().position(|name| *name == engine);
            Watch {
                elsewhere: known.map(|place| {
                    let count = &ELSEWHERE[place];
                    (count, count.load(Ordering::Relaxed))
                }),
            }
        }

        /// Whether one was: on this thread, or on one of the engine's, which may have run another's model.
        pub(crate) fn saw_one(self) -> bool {
            let more = |(count, before): (&AtomicU64, u64)| count.load(Ordering::Relaxed) != before;
            HERE.take() || self.elsewhere.is_some_and(more)
        }
    }

    fn install() {
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: only asks, and zeros are a valid value of what is written.
        let asked = unsafe { libc::sigaction(libc::SIGFPE, ptr::null(), before.as_mut_ptr()) };
        if asked != 0 {
            return;
        }
        // SAFETY: as above.
        let before = unsafe { before.assume_init() };
        let _ = BEFORE.set(before);
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_signal;
        // SAFETY: zeros are valid, an empty mask among them.
        let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        ours.sa_sigaction = handler as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        let mut replaced = before;
        // SAFETY: the handler hands on what is not for it. Where this fails, all is as before.
        unsafe { libc::sigaction(libc::SIGFPE, &ours, &mut replaced) };
        if replaced.sa_sigaction != before.sa_sigaction {
            let _ = REPLACED.set(replaced);
        }
    }

    /// What it touches is atomic, the thread's own, or the interrupted code's; only the name of a library is asked for under
    /// the loader's lock, which no engine holds while it divides.
    extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel hands both over for the time of the call; the context is that of an x86-64.
        let (code, registers) = unsafe {
            let context = context.cast::<libc::ucontext_t>();
            ((*info).si_code, &mut (*context).uc_mcontext.gregs)
        };
        let place = registers[libc::REG_RIP as usize] as usize as *const u8;
        // SAFETY: these are the bytes of the instruction that was refused, one after the other.
        let division = || Division::read(|at| unsafe { place.add(at).read() });
        let count = match in_engine() {
            true => None,
            false => engine_of(place).map(|engine| &ELSEWHERE[engine]),
        };
        if code == FPE_INTDIV
            && (in_engine() || count.is_some())
            && let Some(division) = division()
        {
            division.pass(registers);
            match count {
                Some(count) => {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                None => HERE.set(true),
            }
            return;
        }
        hand_on(signal, info, context);
    }

    /// The place of the engine in whose library this instruction lies.
    fn engine_of(place: *const u8) -> Option<usize> {
        // Addresses have 47 bits.
        let packed = |engine: usize| (place as u64) << 8 | engine as u64;
        let last = LAST.load(Ordering::Relaxed);
        if last >> 8 == place as u64 {
            return Some((last & 0xff) as usize);
        }
        let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: it writes what is in the library of this place, if that is one, whose name stays as long as it does.
        let path = unsafe {
            match libc::dladdr(place.cast(), found.as_mut_ptr()) {
                0 => return None,
                _ => CStr::from_ptr(found.assume_init().dli_fname).to_bytes(),
            }
        };
        let file = path.rsplit(|byte| *byte == b'/').next()?;
        let has = |name: &str| file.windows(name.len()).any(|part| part == name.as_bytes());
        let engine = ENGINES.iter().position(|name| has(name))?;
        LAST.store(packed(engine), Ordering::Relaxed);
        Some(engine)
    }

    /// Does as was done before there was this handler.
    fn hand_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        let before = REPLACED
            .get()
            .or(BEFORE.get())
            .filter(|before| ![libc::SIG_DFL, libc::SIG_IGN].contains(&before.sa_sigaction));
        let Some(before) = before else {
            // SAFETY: it ends the process when the instruction is tried again, as the kernel does.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            return;
        };
        // SAFETY: it was installed as a handler of this form.
        unsafe {
            match before.sa_flags & libc::SA_SIGINFO {
                0 => transmute::<usize, extern "C" fn(c_int)>(before.sa_sigaction)(signal),
                _ => transmute::<usize, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(
                    before.sa_sigaction,
                )(signal, info, context),
            }
        }
    }

    /// An instruction `div` or `idiv`.
    #[derive(Debug, PartialEq, Eq)]
    struct Division {
        /// Its bytes.
        length: usize,
        /// Bytes of its quotient.
        width: u8,
    }

    impl Division {
        /// What is in an instruction's bytes; `None` where it is another.
        fn read(byte: impl Fn(usize) -> u8) -> Option<Division> {
            let (mut at, mut width) = (0, 4);
            // Prefixes: of the operand's size, of its segment, of its address, and ones that mean nothing here.
            while let prefix @ (0x66 | 0x67 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf2
            | 0xf3) = byte(at)
            {
                width = if prefix == 0x66 { 2 } else { width };
                at += 1;
                // No instruction is longer than 15 bytes.
                if at > 12 {
                    return None;
                }
            }
            if let extended @ 0x40..=0x4f = byte(at) {
                width = if extended & 8 != 0 { 8 } else { width };
                at += 1;
            }
            match byte(at) {
                0xf6 => width = 1,
                0xf7 => {}
                _ => return None,
            }
            let operand = byte(at + 1);
            at += 2;
            if !matches!(operand >> 3 & 7, 6 | 7) {
                return None;
            }
            let (mode, mut base) = (operand >> 6, operand & 7);
            if mode != 3 && base == 4 {
                base = byte(at) & 7;
                at += 1;
            }
            let displacement = match (mode, base) {
                (0, 5) | (2, _) => 4,
                (1, _) => 1,
                _ => 0,
            };
            Some(Division {
                length: at + displacement,
                width,
            })
        }

        /// Goes on behind it: the smallest number by -1 is itself, as it wraps; by 0 all are 0, and nothing is left over.
        fn pass(&self, registers: &mut [libc::greg_t; 23]) {
            registers[libc::REG_RIP as usize] += self.length as libc::greg_t;
            let (low, high) = (
                registers[libc::REG_RAX as usize],
                registers[libc::REG_RDX as usize],
            );
            let (quotient, rest) = match self.width {
                1 => {
                    let wraps = low as u16 == 0xff80;
                    (low & !0xffff | if wraps { 0x80 } else { 0 }, high)
                }
                2 => {
                    let wraps = (high as u16, low as u16) == (u16::MAX, 1 << 15);
                    let quotient = if wraps { 1 << 15 } else { 0 };
                    (low & !0xffff | quotient, high & !0xffff)
                }
                4 => {
                    let wraps = (high as u32, low as u32) == (u32::MAX, 1 << 31);
                    (if wraps { 1 << 31 } else { 0 }, 0)
                }
                _ => {
                    let wraps = (high, low) == (-1, i64::MIN);
                    (if wraps { i64::MIN } else { 0 }, 0)
                }
            };
            registers[libc::REG_RAX as usize] = quotient;
            registers[libc::REG_RDX as usize] = rest;
        }
    }

    #[cfg(test)]
    mod tests {
        use std::arch::asm;

        use super::Division;
        use crate::{ErrorKind, run_engine};

        #[test]
        fn divisions_are_read() {
            let cases: [(&[u8], usize, u8); 9] = [
                (&[0xf7, 0xf9], 2, 4),                         // idiv ecx
                (&[0x48, 0xf7, 0xf9], 3, 8),                   // idiv rcx
                (&[0x49, 0xf7, 0xf0], 3, 8),                   // div r8
                (&[0x66, 0xf7, 0xf9], 3, 2),                   // idiv cx
                (&[0xf6, 0xf1], 2, 1),                         // div cl
                (&[0xf7, 0x7d, 0xfc], 3, 4),                   // idiv dword [rbp - 4]
                (&[0xf7, 0x3d, 1, 0, 0, 0], 6, 4),             // idiv dword [rip + 1]
                (&[0x48, 0xf7, 0xbc, 0x24, 0, 1, 0, 0], 8, 8), // idiv qword [rsp + 256]
                (&[0x41, 0xf7, 0x3c, 0x8c], 4, 4),             // idiv dword [r12 + rcx * 4]
            ];
            for (bytes, length, width) in cases {
                let read = Division::read(|at| bytes[at]);
                assert_eq!(read, Some(Division { length, width }), "{bytes:x?}");
            }
            // not, mul, call, and prefixes without end.
            for bytes in [&[0xf7, 0xd1][..], &[0xf7, 0xe1], &[0xe8, 0, 0], &[0x66; 15]] {
                assert_eq!(Division::read(|at| bytes[at]), None, "{bytes:x?}");
            }
        }

        fn divide(a: i32, b: i32) -> i32 {
            let mut quotient = a;
            // SAFETY: it changes these registers only, and what it may not do is what the test is for.
            unsafe {
                asm!("cdq", "idiv {b:e}", b = in(reg) b, inout("eax") quotient, out("edx") _);
            }
            quotient
        }

        fn divide_bytes(a: u16, b: u8) -> u16 {
            let mut both = a;
            // SAFETY: as above.
            unsafe { asm!("div {b}", b = in(reg_byte) b, inout("ax") both) }
            both
        }

        #[test]
        fn what_cannot_be_divided_is_an_error() {
            let well = run_engine("engine", || Ok(divide(7, -2)));
            assert_eq!(well.expect("a quotient"), -3);
            for (a, b) in [(i32::MIN, -1), (1, 0)] {
                let error = run_engine("engine", || Ok(divide(a, b))).expect_err("refused");
                assert_eq!(error.kind(), ErrorKind::RuntimeError);
                let expected = "engine divided a whole number by 0, or the smallest one by -1";
                assert_eq!(error.to_string(), expected);
                // The next run is one of its own.
                assert!(run_engine("engine", || Ok(divide(a, 1))).is_ok());
            }
            assert!(run_engine("engine", || Ok(divide_bytes(0x1234, 0))).is_err());
            let mut quotients = Vec::new();
            let all = run_engine("engine", || {
                quotients = vec![divide(i32::MIN, -1), divide(-7, 0), divide(7, 2)];
                Ok(())
            });
            assert!(all.is_err());
            assert_eq!(quotients, [i32::MIN, 0, 3]);
        }

        /// One on a thread that has no run of its own.
        fn divide_elsewhere() {
            let thread = std::thread::spawn(|| divide(1, 0));
            assert_eq!(thread.join().expect("no panic"), 0);
        }

        #[test]
        fn what_an_engine_s_thread_cannot_divide_is_that_engine_s() {
            let work = || {
                divide_elsewhere();
                Ok(())
            };
            // Twice, since the place is remembered.
            for _ in 0..2 {
                assert!(run_engine("infer_core", work).is_err());
                assert!(run_engine("onnxruntime", work).is_ok());
                assert!(run_engine("tract", work).is_ok());
            }
            let inner = || {
                let thread = std::thread::spawn(|| run_engine("inner", || Ok(divide(1, 0))));
                Ok(thread.join().expect("no panic"))
            };
            let its_own = run_engine("infer_core", inner).expect("of another thread's run");
            assert!(its_own.is_err());
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod nothing {
    pub(crate) struct Watch;

    impl Watch {
        pub(crate) fn start(_engine: &str) -> Watch {
            Watch
        }

        pub(crate) fn saw_one(self) -> bool {
            false
        }
    }
}
