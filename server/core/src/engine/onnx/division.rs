//! A handler that makes the least integer divided by -1 be itself, as on processors that do not
//! trap.
//!
//! ONNX Runtime looks for zeros among divisors, but not for this division: on x86 the instruction
//! traps, and a client could end the process by two numbers.

/// Installs the handler, for the whole process.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(super) use self::x86::mend;

/// Does nothing: this division does not trap on other architectures.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub(super) fn mend() {}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod x86 {
    use std::mem;
    use std::ptr;
    use std::sync::Once;

    use libc::{REG_RAX, REG_RDX, REG_RIP, c_int, c_void, siginfo_t, ucontext_t};

    static MENDED: Once = Once::new();
    /// The code that SIGFPE has for an integer division, from siginfo.h.
    const FPE_INTDIV: c_int = 1;

    pub fn mend() {
        MENDED.call_once(|| {
            // SAFETY: all zeros are a valid sigaction.
            #[allow(unsafe_code)]
            let mut action: libc::sigaction = unsafe { mem::zeroed() };
            action.sa_sigaction = trapped as extern "C" fn(_, _, _) as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: the handler calls nothing but signal, which handlers may.
            #[allow(unsafe_code)]
            unsafe {
                let mut before: libc::sigaction = mem::zeroed();
                libc::sigaction(libc::SIGFPE, ptr::null(), &mut before);
                // A handler that the process has already is kept.
                if before.sa_sigaction == libc::SIG_DFL {
                    libc::sigaction(libc::SIGFPE, &action, ptr::null_mut());
                }
            }
        });
    }

    /// Steps over a division of the least integer; every other trap ends the process as it would
    /// without the handler.
    #[allow(unsafe_code)]
    extern "C" fn trapped(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: the system gives both; what is executed can be read.
        let stepped = unsafe {
            let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
            let code = registers[REG_RIP as usize] as *const u8;
            let code = |at| code.add(at).read();
            let (low, high) = (registers[REG_RAX as usize], registers[REG_RDX as usize]);
            match division((*info).si_code == FPE_INTDIV, code) {
                Some(Division { wide, length }) if is_least(wide, low, high) => {
                    // The quotient is the dividend, and nothing remains.
                    registers[REG_RDX as usize] = 0;
                    registers[REG_RIP as usize] += length as i64;
                    true
                }
                _ => false,
            }
        };
        if !stepped {
            // SAFETY: signal may be called by a handler. The instruction is then executed again,
            // and its signal ends the process.
            unsafe { libc::signal(libc::SIGFPE, libc::SIG_DFL) };
        }
    }

    /// An instruction that divides signed integers.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Division {
        /// Whether the operands have 64 bits, and not 32.
        pub wide: bool,
        /// The length of the instruction in bytes.
        pub length: usize,
    }

    /// The instruction at `code`, if it is IDIV: an optional REX prefix, F7, and an operand of the
    /// extension 7 (Intel's manual, volume 2: IDIV, and 2.1.5 on the forms of operands).
    pub(super) fn division(divides: bool, code: impl Fn(usize) -> u8) -> Option<Division> {
        let prefix = usize::from(code(0) & 0xf0 == 0x40);
        let wide = prefix == 1 && code(0) & 8 != 0;
        if !divides || code(prefix) != 0xf7 {
            return None;
        }
        let form = code(prefix + 1);
        let (place, extension, operand) = (form >> 6, form >> 3 & 7, form & 7);
        if extension != 7 {
            return None;
        }
        let has_index = place != 3 && operand == 4;
        let base = if has_index { code(prefix + 2) & 7 } else { operand };
        let distance = match place {
            0 if base == 5 => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        };
        Some(Division { wide, length: prefix + 2 + usize::from(has_index) + distance })
    }

    /// Whether the dividend is the least integer, whose quotient is too large for -1 alone.
    fn is_least(wide: bool, low: i64, high: i64) -> bool {
        match wide {
            true => low == i64::MIN && high == -1,
            false => low as i32 == i32::MIN && high as i32 == -1,
        }
    }
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::x86::{Division, division};

    #[test]
    fn divisions_are_known_by_their_code() {
        let read = |code: &[u8]| division(true, |at| code.get(at).copied().unwrap_or(0));
        let of = |wide, length| Some(Division { wide, length });
        assert_eq!(read(&[0xf7, 0xfe]), of(false, 2), "idiv esi");
        assert_eq!(read(&[0x48, 0xf7, 0xf9]), of(true, 3), "idiv rcx");
        assert_eq!(read(&[0x41, 0xf7, 0xf8]), of(false, 3), "idiv r8d");
        assert_eq!(read(&[0x41, 0xf7, 0x3c, 0x04]), of(false, 4), "idiv dword [r12 + rax]");
        assert_eq!(read(&[0x48, 0xf7, 0x7c, 0xc2, 0xf8]), of(true, 5), "idiv qword [rdx+rax*8-8]");
        assert_eq!(read(&[0xf7, 0x3d, 1, 0, 0, 0]), of(false, 6), "idiv dword [rip + 1]");
        assert_eq!(read(&[0xf7, 0xbb, 0, 1, 0, 0]), of(false, 6), "idiv dword [rbx + 256]");
        assert_eq!(read(&[0xf7, 0xf6]), None, "div esi has no sign");
        assert_eq!(read(&[0xf1, 0xfe]), None);
    }
}
